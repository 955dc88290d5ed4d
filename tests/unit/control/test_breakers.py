"""Breakers: the state machine against a simple model, shared by processes, never in the way."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.breakers import Admittance, Breakers, BreakerState, Transition
from flightlog.control.shared_state import SharedState
from tests.unit.control.processes import (
    ONE,
    child,
    fail_for_ever,
    hold_transaction,
    killed,
    told,
    use_breaker,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
TOOL = "browse"
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
START_S = 1000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "state.sqlite"


def in_memory() -> Breakers:
    return Breakers(SharedState(None))


def ended(
    breakers: Breakers, now_s: float, answers: str, *, policy: BreakerPolicy = ONE
) -> list[Transition | None]:
    """Reports calls of a closed breaker: `x` failed, `.` did not."""
    return [
        breakers.report(TOOL, policy, now_s, failed=sign == "x", is_probe=False) for sign in answers
    ]


def opened(breakers: Breakers, *, policy: BreakerPolicy = ONE) -> None:
    """Opens the breaker at the start."""
    for _ in range(policy.min_calls):
        breakers.report(TOOL, policy, START_S, failed=True, is_probe=False)
    assert breakers.state_of(TOOL, policy, START_S) is OPEN


def probe(breakers: Breakers, now_s: float, *, policy: BreakerPolicy = ONE) -> Admittance:
    answer = breakers.admit(TOOL, policy, now_s)
    assert answer.is_probe
    assert not answer.is_open
    return answer


def test_it_opens_at_the_share_of_failures_and_not_before_enough_calls() -> None:
    breakers = in_memory()
    got = ended(breakers, START_S, "xx.")
    assert got == [None] * 3
    assert breakers.admit(TOOL, ONE, START_S) == Admittance(is_open=False)
    (transition,) = ended(breakers, START_S, ".")
    assert transition == Transition(TOOL, CLOSED, OPEN, "2 of 4 calls failed in 60 s")
    assert breakers.admit(TOOL, ONE, START_S + 10) == Admittance(is_open=True, retry_in_s=20.0)


def test_successes_count_for_the_share() -> None:
    breakers = in_memory()
    assert ended(breakers, START_S, "." * 9 + "x" * 8) == [None] * 17
    assert ended(breakers, START_S, "x")[0] is not None


def test_what_has_left_the_window_does_not_count() -> None:
    breakers = in_memory()
    assert ended(breakers, START_S, "xxx") == [None] * 3
    assert ended(breakers, START_S + 60, "x.x") == [None] * 3
    assert ended(breakers, START_S + 61, "x")[0] is not None


def test_an_open_breaker_lets_one_probe_through_when_its_time_is_over() -> None:
    breakers = in_memory()
    opened(breakers)
    assert breakers.admit(TOOL, ONE, START_S + 29.999).is_open
    assert breakers.state_of(TOOL, ONE, START_S + 29.999) is OPEN
    assert breakers.state_of(TOOL, ONE, START_S + 30) is HALF_OPEN
    answer = breakers.admit(TOOL, ONE, START_S + 30)
    assert answer.transition == Transition(TOOL, OPEN, HALF_OPEN, "open for 30 s")
    assert answer.is_probe
    other = breakers.admit(TOOL, ONE, START_S + 31)
    assert other == Admittance(is_open=True, retry_in_s=29.0)


@pytest.mark.parametrize("says_which", [True, False])
def test_a_successful_probe_closes_it_and_old_failures_are_forgotten(says_which: bool) -> None:
    breakers = in_memory()
    opened(breakers)
    answer = probe(breakers, START_S + 30)
    got = breakers.report(
        TOOL,
        ONE,
        START_S + 31,
        failed=False,
        is_probe=True,
        probe_id=answer.probe_id if says_which else None,
    )
    assert got == Transition(TOOL, HALF_OPEN, CLOSED, "1 of 1 probes succeeded")
    assert ended(breakers, START_S + 31, "xxx") == [None] * 3
    assert not breakers.admit(TOOL, ONE, START_S + 31).is_open


def test_a_failed_probe_opens_it_for_the_whole_time_again() -> None:
    breakers = in_memory()
    opened(breakers)
    probe(breakers, START_S + 40)
    got = breakers.report(TOOL, ONE, START_S + 45, failed=True, is_probe=True)
    assert got == Transition(TOOL, HALF_OPEN, OPEN, "a probe failed")
    assert breakers.admit(TOOL, ONE, START_S + 45) == Admittance(is_open=True, retry_in_s=30.0)


def test_several_probes_at_a_time_and_as_many_successes_close_it() -> None:
    breakers, policy = in_memory(), BreakerPolicy(min_calls=1, half_open_calls=2)
    opened(breakers, policy=policy)
    one, two = (probe(breakers, START_S + 30, policy=policy) for _ in range(2))
    assert breakers.admit(TOOL, policy, START_S + 30).is_open
    reports = [
        breakers.report(
            TOOL, policy, START_S + 31, failed=False, is_probe=True, probe_id=which.probe_id
        )
        for which in (one, two)
    ]
    assert [one and one.state_to for one in reports] == [None, CLOSED]


def test_a_probe_that_never_reports_expires() -> None:
    breakers = in_memory()
    opened(breakers)
    probe(breakers, START_S + 30)
    assert breakers.admit(TOOL, ONE, START_S + 59.9).is_open
    answer = probe(breakers, START_S + 60)
    assert answer.transition is None


def test_a_slow_probe_still_counts_after_it_expired() -> None:
    breakers = in_memory()
    opened(breakers)
    slow = probe(breakers, START_S + 30)
    probe(breakers, START_S + 60)
    got = breakers.report(
        TOOL, ONE, START_S + 61, failed=False, is_probe=True, probe_id=slow.probe_id
    )
    assert got is not None
    assert got.state_to is CLOSED


def test_a_probe_of_an_earlier_time_says_nothing_about_the_present_one() -> None:
    breakers = in_memory()
    opened(breakers)
    slow = probe(breakers, START_S + 30)
    second = probe(breakers, START_S + 60)
    breakers.report(TOOL, ONE, START_S + 61, failed=True, is_probe=True, probe_id=second.probe_id)
    probe(breakers, START_S + 91)
    late = breakers.report(
        TOOL, ONE, START_S + 92, failed=False, is_probe=True, probe_id=slow.probe_id
    )
    assert late is None
    assert breakers.state_of(TOOL, ONE, START_S + 92) is HALF_OPEN


def test_a_released_probe_makes_room_for_another() -> None:
    breakers = in_memory()
    opened(breakers)
    answer = probe(breakers, START_S + 30)
    breakers.release(TOOL, is_probe=False)
    assert breakers.admit(TOOL, ONE, START_S + 30).is_open
    breakers.release(TOOL, is_probe=True, probe_id=answer.probe_id)
    probe(breakers, START_S + 30)
    breakers.release(TOOL, is_probe=True)
    probe(breakers, START_S + 30)


def test_calls_admitted_before_it_opened_change_nothing_any_more() -> None:
    breakers = in_memory()
    opened(breakers)
    assert ended(breakers, START_S + 1, "....") == [None] * 4
    answer = probe(breakers, START_S + 30)
    assert ended(breakers, START_S + 30, ".x") == [None] * 2
    assert breakers.report(
        TOOL, ONE, START_S + 31, failed=False, is_probe=True, probe_id=answer.probe_id
    )


def test_a_clock_that_goes_back_opens_for_no_longer_than_once_more() -> None:
    breakers = in_memory()
    opened(breakers)
    assert breakers.admit(TOOL, ONE, 10.0) == Admittance(is_open=True, retry_in_s=30.0)
    assert breakers.admit(TOOL, ONE, 39.0).is_open
    probe(breakers, 40.0)
    # The clock goes back again: the probe is not waited for until it is where it was.
    assert breakers.admit(TOOL, ONE, 5.0).is_open
    probe(breakers, 35.0)


def test_tools_do_not_open_for_each_other() -> None:
    breakers = in_memory()
    for tool in ("a", "b", "\ud800", "a\0"):
        for _ in range(4):
            breakers.report(tool, ONE, START_S, failed=tool != "b", is_probe=False)
    assert not breakers.admit("b", ONE, START_S).is_open
    rows = [(row.tool, row.state, row.since_s) for row in breakers.states()]
    assert rows == [(tool, OPEN, START_S) for tool in ("a", "a\0", "\ud800")]


def test_reading_makes_no_file(path: Path) -> None:
    breakers = Breakers(SharedState(path))
    assert breakers.admit(TOOL, ONE, START_S) == Admittance(is_open=False)
    assert breakers.state_of(TOOL, ONE, START_S) is CLOSED
    assert breakers.states() == []
    assert not path.parent.exists()


@dataclass
class Simple:
    """The rules over plain lists."""

    policy: BreakerPolicy
    state: BreakerState = CLOSED
    since_s: int = 0
    successes: int = 0
    calls: list[list[Any]] = field(default_factory=list)
    probes: dict[int, int] = field(default_factory=dict)

    def enter(self, state: BreakerState, now_s: int) -> tuple[BreakerState, BreakerState]:
        before, self.state = self.state, state
        self.since_s, self.successes, self.probes = now_s, 0, {}
        self.calls = []
        return before, state

    def admit(self, now_s: int, number: int) -> tuple[bool, bool, Any]:
        """Is it open, is it a probe, and the transition."""
        if self.state is CLOSED:
            return False, False, None
        transition = None
        if self.state is OPEN:
            self.since_s = min(self.since_s, now_s)
            if now_s < self.since_s + self.policy.open_s:
                return True, False, None
            transition = self.enter(HALF_OPEN, now_s)
        self.probes = {key: min(at_s, now_s) for key, at_s in self.probes.items()}
        waiting = [at_s for at_s in self.probes.values() if now_s < at_s + self.policy.open_s]
        if len(waiting) >= self.policy.half_open_calls:
            return True, False, transition
        self.probes[number] = now_s
        return False, True, transition

    def report(self, now_s: int, number: int, *, failed: bool, is_probe: bool) -> Any:
        if self.state is CLOSED:
            self.calls = [[min(at_s, now_s), bad] for at_s, bad in self.calls]
            self.calls.append([now_s, failed])
            inside = [bad for at_s, bad in self.calls if at_s > now_s - self.policy.window_s]
            self.calls = [one for one in self.calls if one[0] > now_s - self.policy.window_s]
            share = sum(inside) / len(inside)
            if len(inside) >= self.policy.min_calls and share >= self.policy.failure_rate:
                return self.enter(OPEN, now_s)
            return None
        if not is_probe or self.probes.pop(number, None) is None or self.state is not HALF_OPEN:
            return None
        if failed:
            return self.enter(OPEN, now_s)
        self.successes += 1
        return self.enter(CLOSED, now_s) if self.successes >= self.policy.half_open_calls else None


class TwoUsersOfABreaker(RuleBasedStateMachine):
    """Two connections to one file, as two processes have, in any order, on any clock."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / "state.sqlite"
        self.states = [SharedState(file), SharedState(file)]
        self.users = [Breakers(state) for state in self.states]
        self.policy = BreakerPolicy(
            failure_rate=0.5, min_calls=3, window_s=20, open_s=10, half_open_calls=2
        )
        self.simple = Simple(self.policy)
        self.now_s = 1000
        self.number = 0
        self.running: list[tuple[int, Admittance]] = []

    @rule(which=st.integers(0, 1))
    def admit(self, which: int) -> None:
        self.number += 1
        got = self.users[which].admit(TOOL, self.policy, self.now_s)
        expected = self.simple.admit(self.now_s, self.number)
        change = got.transition and (got.transition.state_from, got.transition.state_to)
        assert (got.is_open, got.is_probe, change) == expected
        assert got.is_open == (got.retry_in_s is not None)
        assert got.retry_in_s is None or 0 <= got.retry_in_s <= self.policy.open_s
        if not got.is_open:
            self.running.append((self.number, got))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1), pick=st.integers(0, 99), failed=st.booleans())
    def report(self, which: int, pick: int, failed: bool) -> None:
        number, call = self.running.pop(pick % len(self.running))
        got = self.users[which].report(
            TOOL,
            self.policy,
            self.now_s,
            failed=failed,
            is_probe=call.is_probe,
            probe_id=call.probe_id,
        )
        expected = self.simple.report(self.now_s, number, failed=failed, is_probe=call.is_probe)
        assert (got and (got.state_from, got.state_to)) == expected

    @precondition(lambda self: self.simple.state is CLOSED)
    @rule(signs=st.text(alphabet=".x", min_size=1, max_size=4))
    def many_calls(self, signs: str) -> None:
        for sign in signs:
            self.admit(0)
            if self.running and self.running[-1][0] == self.number:
                number, call = self.running.pop()
                self.running.append((number, call))
                self.report(1, len(self.running) - 1, sign == "x")

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99))
    def release(self, pick: int) -> None:
        number, call = self.running.pop(pick % len(self.running))
        self.users[0].release(TOOL, is_probe=call.is_probe, probe_id=call.probe_id)
        self.simple.probes.pop(number, None)

    @precondition(lambda self: self.running)
    @rule()
    def process_dies(self) -> None:
        self.running.pop(0)

    @rule(seconds=st.sampled_from([1, 3, 10, 11]))
    def time_passes(self, seconds: int) -> None:
        self.now_s += seconds

    @rule(seconds=st.sampled_from([1, 9, 25]))
    def clock_goes_back(self, seconds: int) -> None:
        self.now_s -= seconds

    @invariant()
    def state_is_the_same_for_both(self) -> None:
        is_over = self.now_s >= self.simple.since_s + self.policy.open_s
        expected = HALF_OPEN if self.simple.state is OPEN and is_over else self.simple.state
        for user in self.users:
            assert user.state_of(TOOL, self.policy, self.now_s) is expected
            assert user.errors == 0

    def teardown(self) -> None:
        for state in self.states:
            state.close()
        self.folder.cleanup()


TestTwoUsersOfABreaker = TwoUsersOfABreaker.TestCase
TestTwoUsersOfABreaker.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)


def test_two_processes_share_a_breaker(path: Path) -> None:
    breakers = Breakers(SharedState(path, timeout_s=30))
    with child(use_breaker, path) as (_, pipe):
        assert told(pipe) == "ready"
        ended(breakers, START_S, "..x")
        pipe.send(("report", START_S, {"failed": True, "is_probe": False}))
        assert told(pipe) == Transition(TOOL, CLOSED, OPEN, "2 of 4 calls failed in 60 s")
        assert breakers.admit(TOOL, ONE, START_S).is_open
        answer = probe(breakers, START_S + 30)
        pipe.send(("admit", START_S + 30, None))
        assert told(pipe).is_open
        breakers.report(
            TOOL, ONE, START_S + 30, failed=False, is_probe=True, probe_id=answer.probe_id
        )
        pipe.send(("admit", START_S + 30, None))
        assert not told(pipe).is_open


def test_the_probe_of_a_killed_process_does_not_block_for_ever(path: Path) -> None:
    breakers = Breakers(SharedState(path, timeout_s=30))
    opened(breakers)
    with child(use_breaker, path) as (process, pipe):
        assert told(pipe) == "ready"
        pipe.send(("admit", START_S + 30, None))
        assert told(pipe).is_probe
        killed(process)
    assert breakers.admit(TOOL, ONE, START_S + 59).is_open
    probe(breakers, START_S + 60)


def test_of_processes_that_race_exactly_one_gets_each_transition(path: Path) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(child(fail_for_ever, path))[1] for _ in range(3)]
        assert [told(pipe) for pipe in pipes] == ["ready"] * 3
        for number in range(60):
            for pipe in pipes:
                pipe.send(START_S + 100 * number)
            got = sorted(one for pipe in pipes for one in told(pipe))
            first = [(CLOSED, OPEN)] if number == 0 else [(HALF_OPEN, OPEN), (OPEN, HALF_OPEN)]
            assert got == first, number
        for pipe in pipes:
            pipe.send(None)


def test_a_forked_child_shares_the_breaker(path: Path) -> None:
    breakers = Breakers(SharedState(path, timeout_s=30))
    ended(breakers, START_S, "xxx")
    pid = os.fork()
    if pid == 0:
        got = ended(breakers, START_S, "x")
        os._exit(0 if got[0] is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert breakers.admit(TOOL, ONE, START_S).is_open


def test_a_locked_state_counts_as_closed_and_is_counted(path: Path) -> None:
    breakers = Breakers(SharedState(path, timeout_s=0.05))
    ended(breakers, START_S, "xxx")
    with child(hold_transaction, path) as (_, pipe):
        assert told(pipe) == "held"
        assert ended(breakers, START_S, "x") == [None]
        assert breakers.errors == 1
        assert "locked" in breakers.last_error
        assert not breakers.admit(TOOL, ONE, START_S).is_open
        # For some seconds it does not wait for the lock again.
        assert ended(breakers, START_S + 1, "x") == [None]
        assert breakers.errors == 2
    assert ended(breakers, START_S + 10, "x")[0] is not None


def test_an_open_breaker_that_cannot_be_written_lets_calls_through(path: Path) -> None:
    breakers = Breakers(SharedState(path, timeout_s=0.05))
    opened(breakers)
    with child(hold_transaction, path) as (_, pipe):
        assert told(pipe) == "held"
        assert breakers.admit(TOOL, ONE, START_S).is_open
        for now_s in (START_S + 30, START_S + 31):
            assert breakers.admit(TOOL, ONE, now_s) == Admittance(is_open=False)
        assert breakers.errors == 2
        breakers.release(TOOL, is_probe=True)
        assert breakers.errors == 3


def test_a_state_that_cannot_be_read_is_left_alone_for_some_seconds(path: Path) -> None:
    """Not every call of every step waits for a file that a process holds whole."""
    opened(Breakers(SharedState(path)))
    kept = path.with_suffix(".kept")
    path.rename(kept)
    path.write_bytes(b"no database" * 100)
    breakers = Breakers(SharedState(path))
    assert not breakers.admit(TOOL, ONE, START_S).is_open
    kept.replace(path)
    assert breakers.state_of(TOOL, ONE, START_S + 1) is CLOSED
    assert not breakers.admit(TOOL, ONE, START_S + 4).is_open
    assert breakers.errors == 3
    assert breakers.admit(TOOL, ONE, START_S + 6).is_open
    assert breakers.state_of(TOOL, ONE, START_S + 6) is OPEN
    assert breakers.errors == 3


def test_a_damaged_state_counts_as_closed_and_is_counted(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, " * 300)
    breakers = Breakers(SharedState(path))
    assert breakers.admit(TOOL, ONE, START_S) == Admittance(is_open=False)
    assert breakers.state_of(TOOL, ONE, START_S) is CLOSED
    assert breakers.report(TOOL, ONE, START_S, failed=True, is_probe=False) is None
    assert breakers.errors == 3
    assert "damaged" in breakers.last_error


def test_a_row_that_means_nothing_counts_as_closed_and_is_counted() -> None:
    state = SharedState(None)
    breakers = Breakers(state)
    opened(breakers)
    with state.transaction() as db:
        db.execute("UPDATE breakers SET state = 'banana'")
    assert breakers.admit(TOOL, ONE, START_S) == Admittance(is_open=False)
    assert ended(breakers, START_S, "x") == [None]
    assert breakers.errors == 2
    assert "banana" in breakers.last_error
