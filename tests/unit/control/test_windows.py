"""Tenants' windows: nothing overshoots, over threads, processes, kills and clock jumps."""

from __future__ import annotations

import math
import os
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.control.shared_state import SharedState
from flightlog.control.window_budget import WindowBudget
from flightlog.control.windows import Exhausted, Reservation, Windows, WindowUse
from tests.unit.control.processes import (
    child,
    hold_transaction,
    killed,
    race_for_last_unit,
    spend_until_killed,
    told,
)

CENT = Decimal("0.01")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "state.sqlite"


def in_memory() -> Windows:
    return Windows(SharedState(None))


def reserved(got: Reservation | Exhausted) -> Reservation:
    assert isinstance(got, Reservation), got
    return got


def refused(got: Reservation | Exhausted) -> Exhausted:
    assert isinstance(got, Exhausted), got
    return got


def test_a_spent_limit_refuses_and_says_when_it_frees() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tool_calls=2)
    reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))
    reserved(windows.reserve("a", budget, 1010.0, tool_calls=1))
    got = windows.reserve("a", budget, 1020.0, tool_calls=1)
    assert got == Exhausted("max_tool_calls", 2, 2, 40.0)
    assert refused(windows.reserve("a", budget, 1059.999999, tool_calls=1)).frees_in_s == 1e-6
    reserved(windows.reserve("a", budget, 1060.0, tool_calls=1))
    assert refused(windows.reserve("a", budget, 1060.0, tool_calls=1)).frees_in_s == 10.0


def test_what_never_fits_never_frees() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tokens=100)
    reserved(windows.reserve("a", budget, 1000.0, tokens=60))
    assert windows.reserve("a", budget, 1000.0, tokens=101) == Exhausted(
        "max_tokens", 100, 60, None
    )


def test_tenants_do_not_spend_for_each_other() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tool_calls=1)
    for tenant in ("", "a", "A", "a\0", "a\0b", "\ud800", "ä", "%", "'; DROP TABLE x; --"):
        reserved(windows.reserve(tenant, budget, 1000.0, tool_calls=1))
        refused(windows.reserve(tenant, budget, 1000.0, tool_calls=1))
    assert len(windows.tenants()) == 9
    assert "\ud800" in windows.tenants()


def test_usd_are_added_exactly() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_usd=0.3)
    for _ in range(3):
        reserved(windows.reserve("a", budget, 1000.0, usd=Decimal("0.1")))
    got = refused(windows.reserve("a", budget, 1000.0, usd=Decimal("0.000000001")))
    assert (got.limit, got.allowed, got.used) == ("max_usd", Decimal("0.3"), Decimal("0.3"))


def test_a_part_of_a_nano_usd_counts_as_one() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_usd=2e-9)
    for _ in range(2):
        reserved(windows.reserve("a", budget, 1000.0, usd=Decimal("1e-30")))
    refused(windows.reserve("a", budget, 1000.0, usd=Decimal("1e-30")))


def test_settling_replaces_and_unknown_stays_as_reserved() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_usd=1.0, max_tokens=100)
    got = reserved(windows.reserve("a", budget, 1000.0, usd=Decimal(1), tokens=100))
    windows.settle(got, usd=CENT, tokens=None)
    assert windows.used("a", 60, 1000.0) == WindowUse(0, CENT, 100)
    windows.settle(got, usd=None, tokens=40)
    windows.settle(got, usd=None, tokens=30)
    assert windows.used("a", 60, 1000.0) == WindowUse(0, CENT, 30)
    reserved(windows.reserve("a", budget, 1000.0, usd=Decimal("0.99"), tokens=70))
    assert refused(windows.reserve("a", budget, 1000.0, tokens=1)).limit == "max_usd"


def test_a_call_that_took_more_than_reserved_is_booked_in_full() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tokens=100)
    got = reserved(windows.reserve("a", budget, 1000.0, tokens=10))
    windows.settle(got, usd=None, tokens=150)
    assert refused(windows.reserve("a", budget, 1001.0, tokens=0)).used == 150


def test_used_up_usd_refuse_a_call_of_unknown_cost() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_usd=0.01)
    reserved(windows.reserve("a", budget, 1000.0))
    reserved(windows.reserve("a", budget, 1000.0, usd=CENT))
    assert refused(windows.reserve("a", budget, 1000.0)).limit == "max_usd"


def test_a_limit_of_nothing_still_allows_what_costs_nothing() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_usd=0.0)
    reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))
    refused(windows.reserve("a", budget, 1000.0, usd=CENT))


def test_settling_what_has_left_the_window_changes_nothing() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tokens=100)
    old = reserved(windows.reserve("a", budget, 1000.0, tokens=100))
    reserved(windows.reserve("a", budget, 1060.0, tokens=100))
    windows.settle(old, usd=Decimal(5), tokens=5000)
    assert windows.used("a", 60, 1060.0) == WindowUse(0, Decimal(0), 100)


def test_a_refused_reservation_books_nothing() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tool_calls=5, max_tokens=10)
    refused(windows.reserve("a", budget, 1000.0, tool_calls=1, tokens=11))
    assert windows.used("a", 60, 1000.0) == WindowUse(0, Decimal(0), 0)


def test_a_clock_that_goes_back_keeps_what_is_spent_for_one_window() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tool_calls=1)
    reserved(windows.reserve("a", budget, 1_000_000.0, tool_calls=1))
    assert refused(windows.reserve("a", budget, 1000.0, tool_calls=1)).frees_in_s == 60.0
    refused(windows.reserve("a", budget, 1059.9, tool_calls=1))
    reserved(windows.reserve("a", budget, 1060.0, tool_calls=1))


def test_a_clock_that_jumps_ahead_and_back_loses_nothing_spent_after_the_jump() -> None:
    windows, budget = in_memory(), WindowBudget(60, max_tool_calls=2)
    reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))
    reserved(windows.reserve("a", budget, 1e9, tool_calls=1))
    assert windows.used("a", 60, 1001.0).tool_calls == 1
    reserved(windows.reserve("a", budget, 1001.0, tool_calls=1))
    refused(windows.reserve("a", budget, 1002.0, tool_calls=1))


def test_windows_of_different_lengths_see_the_same_spending() -> None:
    windows = in_memory()
    minute, day = WindowBudget(60, max_tool_calls=2), WindowBudget(86400, max_tool_calls=3)
    for now_s in (1000.0, 1001.0):
        reserved(windows.reserve("a", minute, now_s, tool_calls=1))
    reserved(windows.reserve("a", day, 1002.0, tool_calls=1))
    refused(windows.reserve("a", minute, 1003.0, tool_calls=1))
    reserved(windows.reserve("a", minute, 1100.0, tool_calls=1))
    assert refused(windows.reserve("a", day, 1100.0, tool_calls=1)).used == 4
    refused(windows.reserve("a", day, 2000.0, tool_calls=1))


def test_settling_changes_only_the_windows_that_the_entry_is_in() -> None:
    windows = in_memory()
    minute, day = WindowBudget(60, max_tokens=100), WindowBudget(86400, max_tokens=1000)
    old = reserved(windows.reserve("a", day, 1000.0, tokens=90))
    reserved(windows.reserve("a", minute, 1100.0, tokens=100))
    windows.settle(old, usd=None, tokens=0)
    assert refused(windows.reserve("a", minute, 1100.0, tokens=1)).used == 100
    reserved(windows.reserve("a", day, 1100.0, tokens=900))
    assert refused(windows.reserve("a", day, 1100.0, tokens=1)).used == 1000


@pytest.mark.parametrize(
    "amounts",
    [
        {"tokens": -1},
        {"tokens": 10**30},
        {"tool_calls": -1},
        {"usd": Decimal("NaN")},
        {"usd": Decimal("sNaN")},
        {"usd": Decimal("Infinity")},
        {"usd": Decimal(-1)},
        {"usd": Decimal("1e999999")},
    ],
)
def test_what_is_no_amount_is_refused_and_settles_nothing(amounts: dict[str, object]) -> None:
    windows, budget = in_memory(), WindowBudget(60)
    got = refused(windows.reserve("a", budget, 1000.0, **amounts))  # type: ignore[arg-type]
    assert "not an amount" in got.reason
    assert got.limit in amounts or f"max_{next(iter(amounts))}" == got.limit
    booked = reserved(windows.reserve("a", budget, 1000.0, usd=CENT, tokens=7))
    real = {"usd": None, "tokens": None, **amounts}
    real.pop("tool_calls", None)
    windows.settle(booked, **real)  # type: ignore[arg-type]
    assert windows.used("a", 60, 1000.0) == WindowUse(0, CENT, 7)


@pytest.mark.parametrize("window_s", [1e-9, 1e-6, 1e300, math.nextafter(math.inf, 0)])
def test_a_window_of_any_length_keeps_its_limit(window_s: float) -> None:
    windows, budget = in_memory(), WindowBudget(window_s, max_tool_calls=1)
    reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))
    refused(windows.reserve("a", budget, 1000.0, tool_calls=1))


@dataclass
class Spent:
    """One entry of the simple model."""

    at_us: int
    amounts: list[int]


class Simple:
    """The same rules over a plain list."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []
        self.asked_us: dict[int, int] = {}

    def forget(self, window_us: int, now_us: int) -> None:
        """What no window of late use holds is deleted; a clock that goes back brings it not back.

        A window is in use until it was not asked for over twice its length.
        """
        self.asked_us[window_us] = now_us
        self.asked_us = {
            length: asked_us
            for length, asked_us in self.asked_us.items()
            if now_us < asked_us + 2 * length
        }
        after_us = now_us - max(self.asked_us)
        self.spent = [one for one in self.spent if one.at_us > after_us]

    def inside(self, now_us: int, window_us: int) -> list[int]:
        kept = [one for one in self.spent if one.at_us > now_us - window_us]
        return [sum(one.amounts[place] for one in kept) for place in range(3)]

    def reserve(
        self, limits: list[int | None], window_us: int, now_us: int, asked: list[int]
    ) -> Spent | int:
        for one in self.spent:
            one.at_us = min(one.at_us, now_us)
        total = self.inside(now_us, window_us)
        for place, limit in enumerate(limits):
            if limit is None:
                continue
            is_over = asked[place] > 0 and total[place] + asked[place] > limit
            if is_over or (place and 0 < limit <= total[place]):
                return place
        one = Spent(now_us, asked)
        self.spent.append(one)
        return one


NANO = 10**9
AMOUNTS = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "settle", "back"]),
        st.integers(0, 40),
        AMOUNTS,
        st.integers(0, 1),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    STEPS,
    st.lists(st.tuples(st.integers(1, 40), AMOUNTS), min_size=2, max_size=2),
)
def test_windows_do_what_a_plain_list_does(
    steps: list[tuple[str, int, tuple[int, int, int], int, int]],
    budgets: list[tuple[int, tuple[int, int, int]]],
) -> None:
    """Any order of reservations, settlements, two window lengths and a clock that goes back."""
    state = SharedState(None)
    writers = [Windows(state), Windows(state)]
    simple, now_s = Simple(), 1000
    open_ones: list[tuple[Reservation, Spent]] = []
    for kind, seconds, amounts, which, pick in steps:
        now_s += -seconds if kind == "back" else seconds // 4
        window_s, limits = budgets[which]
        now_us, window_us = now_s * 10**6, window_s * 10**6
        if kind == "settle" and open_ones:
            got, one = open_ones.pop(pick % len(open_ones))
            writers[which].settle(got, usd=Decimal(amounts[1]), tokens=amounts[2])
            one.amounts[1:] = [amounts[1] * NANO, amounts[2]]
            continue
        budget = WindowBudget(
            window_s, max_tool_calls=limits[0], max_usd=float(limits[1]), max_tokens=limits[2]
        )
        simple.forget(window_us, now_us)
        answer = writers[which].reserve(
            "t", budget, now_s, tool_calls=amounts[0], usd=Decimal(amounts[1]), tokens=amounts[2]
        )
        whole = [limits[0], limits[1] * NANO, limits[2]]
        asked = [amounts[0], amounts[1] * NANO, amounts[2]]
        expected = simple.reserve(whole, window_us, now_us, asked)
        if isinstance(answer, Reservation):
            assert isinstance(expected, Spent)
            open_ones.append((answer, expected))
        else:
            assert isinstance(expected, int)
            assert answer.limit == ("max_tool_calls", "max_usd", "max_tokens")[expected]
            assert not answer.reason
        for later_s in (0, pick % 50):
            use = writers[which].used("t", window_s, now_s + later_s)
            found = [use.tool_calls, int(use.usd * NANO), use.tokens]
            assert found == simple.inside(now_us + later_s * 10**6, window_us)
    assert [one.errors for one in writers] == [0, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(1, 20),
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(1, 4), st.integers(0, 4), st.booleans()),
        max_size=80,
    ),
)
def test_no_interleaving_spends_more_than_the_limit_in_any_window(
    limit: int, window_s: int, steps: list[tuple[int, int, int, bool]]
) -> None:
    """Settlements of at most what was reserved, at any later moment."""
    windows, budget, now_s = in_memory(), WindowBudget(window_s, max_tokens=limit), 1000
    made: list[tuple[int, list[int]]] = []
    waiting: list[tuple[Reservation, list[int]]] = []
    for passed_s, asked, real, is_first in steps:
        now_s += passed_s
        got = windows.reserve("t", budget, now_s, tokens=asked)
        if isinstance(got, Reservation):
            made.append((now_s, [asked]))
            waiting.append((got, made[-1][1]))
        elif waiting:
            one, booked = waiting.pop(0 if is_first else -1)
            booked[0] = min(real, booked[0])
            windows.settle(one, usd=None, tokens=booked[0])
        for end_s, _ in made:
            inside = [booked[0] for at_s, booked in made if end_s - window_s < at_s <= end_s]
            assert sum(inside) <= limit


def test_threads_that_race_get_exactly_what_there_is(path: Path) -> None:
    budget = WindowBudget(60, max_tool_calls=50)
    for state in (SharedState(path, timeout_s=30), SharedState(None, timeout_s=30)):
        windows = Windows(state)
        with ThreadPoolExecutor(8) as pool:
            got = list(
                pool.map(
                    lambda _, windows=windows: windows.reserve("a", budget, 1000.0, tool_calls=1),
                    range(120),
                )
            )
        assert sum(isinstance(one, Reservation) for one in got) == 50
        assert windows.errors == 0


def test_of_processes_that_race_for_the_last_unit_exactly_one_gets_it(path: Path) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(child(race_for_last_unit, path))[1] for _ in range(3)]
        assert [told(pipe) for pipe in pipes] == ["ready"] * 3
        for number in range(200):
            for pipe in pipes[number % 3 :] + pipes[: number % 3]:
                pipe.send(f"tenant {number}")
            assert sum(told(pipe) for pipe in pipes) == 1, number
        for pipe in pipes:
            pipe.send("")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_spend_out_of_one_window(path: Path) -> None:
    windows, budget = Windows(SharedState(path, timeout_s=30)), WindowBudget(60, max_tool_calls=25)
    mine = [reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))]
    children = []
    for _ in range(4):
        children.append(os.fork())
        if not children[-1]:
            got = [windows.reserve("a", budget, 1000.0, tool_calls=1) for _ in range(10)]
            os._exit(sum(isinstance(one, Reservation) for one in got))
    while isinstance(got := windows.reserve("a", budget, 1000.0, tool_calls=1), Reservation):
        mine.append(got)
    theirs = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert len(mine) + sum(theirs) == 25
    assert windows.used("a", 60, 1000.0).tool_calls == 25


def test_a_process_killed_in_mid_transaction_books_nothing_more(path: Path) -> None:
    windows = Windows(SharedState(path, timeout_s=30))
    with child(hold_transaction, path) as (process, pipe):
        assert told(pipe) == "held"
        killed(process)
    assert windows.used("tenant", 60, 1000.0).tool_calls == 1
    budget = WindowBudget(60, max_tool_calls=2)
    reserved(windows.reserve("tenant", budget, 1000.0, tool_calls=1))
    refused(windows.reserve("tenant", budget, 1000.0, tool_calls=1))


def test_what_killed_processes_reserved_stays_spent_and_never_passes_the_limit(path: Path) -> None:
    rng = random.Random(7)
    budget = WindowBudget(10**6, max_tool_calls=10**6, max_usd=1000.0)
    acknowledged = 0
    for _ in range(6):
        with child(spend_until_killed, path, budget) as (process, pipe):
            for _ in range(rng.randrange(1, 200)):
                acknowledged += told(pipe)
            killed(process)
            with suppress(EOFError, OSError):
                while pipe.poll(0):
                    acknowledged += pipe.recv()
    state = SharedState(path)
    (calls, usd, tokens) = state.read("SELECT sum(a), sum(b), sum(c) FROM sliding_entries")[0]
    assert acknowledged <= calls <= acknowledged + 6
    assert state.read("SELECT a, b, c FROM sliding_sums") == [(calls, usd, tokens)]
    # Settled ones are half of the reserved; of each killed process at most one is not.
    assert 5 * calls <= tokens <= 5 * calls + 5 * 6 * 2
    assert state.read("PRAGMA integrity_check") == [("ok",)]


def test_a_locked_state_refuses_and_says_why(path: Path) -> None:
    windows = Windows(SharedState(path, timeout_s=0.05))
    budget = WindowBudget(60, max_usd=1.0)
    got = reserved(windows.reserve("a", budget, 1000.0, usd=CENT))
    with child(hold_transaction, path) as (_, pipe):
        assert told(pipe) == "held"
        answer = refused(windows.reserve("a", budget, 1000.0, usd=CENT))
        assert answer.limit == "max_usd"
        assert (answer.used, answer.frees_in_s) == (None, None)
        assert "cannot be booked: locked by another process" in answer.reason
        windows.settle(got, usd=Decimal(0), tokens=0)
    assert windows.errors == 2
    assert "locked" in windows.last_error
    assert windows.used("a", 60, 1000.0).usd == CENT


def test_a_damaged_state_refuses_and_says_why(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 300)
    answer = refused(
        Windows(SharedState(path)).reserve("a", WindowBudget(60, max_tool_calls=9), 1000.0)
    )
    assert answer.limit == "max_tool_calls"
    assert "damaged" in answer.reason


def test_sums_too_large_for_the_state_refuse() -> None:
    state, budget = SharedState(None), WindowBudget(60)
    windows = Windows(state)
    reserved(windows.reserve("a", budget, 1000.0, tokens=10**15))
    with state.transaction() as db:
        db.execute("UPDATE sliding_sums SET c = 9223372036854775807")
    assert "cannot be booked" in refused(windows.reserve("a", budget, 1000.0, tokens=1)).reason
    reserved(windows.reserve("a", budget, 1000.0, tokens=0))


def test_a_reservation_of_a_state_that_was_moved_away_changes_no_other(path: Path) -> None:
    windows, budget = Windows(SharedState(path)), WindowBudget(60)
    old = reserved(windows.reserve("a", budget, 1000.0, tokens=100))
    for file in sorted(path.parent.iterdir()):
        file.unlink()
    reserved(windows.reserve("b", budget, 1000.0, tokens=10))
    windows.settle(old, usd=None, tokens=0)
    assert windows.used("b", 60, 1000.0).tokens == 10


def rows(path: Path, table: str) -> int:
    raw = sqlite3.connect(path)
    count: int = raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    raw.close()
    return count


def test_old_rows_are_deleted(path: Path) -> None:
    windows, budget = Windows(SharedState(path)), WindowBudget(10)
    for number in range(3000):
        reserved(windows.reserve("a", budget, 1000.0 + number, tool_calls=1))
    assert rows(path, "sliding_entries") <= 11


def test_tenants_that_never_come_back_are_deleted_bit_by_bit(path: Path) -> None:
    windows, budget = Windows(SharedState(path)), WindowBudget(10)
    for number in range(300):
        reserved(windows.reserve(f"tenant {number}", budget, 1000.0, tool_calls=1))
    assert rows(path, "sliding_accounts") == 300
    for number in range(256 * 8):
        reserved(windows.reserve("a", budget, 2000.0 + number, tool_calls=1))
    assert windows.tenants() == ["a"]
    assert rows(path, "sliding_sums") == 1
    assert rows(path, "sliding_entries") <= 11


def test_a_tenant_that_comes_back_half_deleted_has_spent_nothing() -> None:
    windows, budget = in_memory(), WindowBudget(10, max_tool_calls=2_500)
    for _ in range(2_500):
        reserved(windows.reserve("a", budget, 1000.0, tool_calls=1))
    for _ in range(300):  # one sweep
        reserved(windows.reserve("b", budget, 1100.0, tool_calls=1))
    for _ in range(2_500):
        reserved(windows.reserve("a", budget, 1101.0, tool_calls=1))
    assert refused(windows.reserve("a", budget, 1102.0, tool_calls=1)).used == 2_500


def test_a_window_length_out_of_use_is_dropped(path: Path) -> None:
    windows = Windows(SharedState(path))
    reserved(windows.reserve("a", WindowBudget(100), 1000.0, tool_calls=1))
    for now_s in (1001.0, 1199.0):
        reserved(windows.reserve("a", WindowBudget(10), now_s, tool_calls=1))
        assert rows(path, "sliding_sums") == 2
    reserved(windows.reserve("a", WindowBudget(10), 1200.0, tool_calls=1))
    assert rows(path, "sliding_sums") == 1
    assert rows(path, "sliding_entries") == 2
