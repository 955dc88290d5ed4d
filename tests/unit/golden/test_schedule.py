"""Many trials: at the same time, under one cap, interrupted in order."""

from __future__ import annotations

import threading

import pytest

from flightlog.errors import PriceError
from flightlog.golden.schedule import Played, Spending, play_all
from flightlog.runtime.cancel import CancelToken


def played(
    costs: list[float | None], *, concurrency: int = 1, max_usd: float | None = None
) -> tuple[Played[float | None, float | None], Spending]:
    spending = Spending(max_usd)
    found = play_all(
        costs,
        lambda cost, _: cost,
        cost_of=lambda cost: cost,
        concurrency=concurrency,
        spending=spending,
        on_done=lambda: None,
    )
    return found, spending


@pytest.mark.parametrize("concurrency", [1, 2, 7])
def test_every_trial_is_played_once_and_found_at_its_place(concurrency: int) -> None:
    costs: list[float | None] = [float(ix) for ix in range(20)]
    found, spending = played(costs, concurrency=concurrency)
    assert [found.done[ix] for ix in range(20)] == costs
    assert (found.skipped, spending.usd) == ([], 190.0)


def test_as_many_run_at_the_same_time_as_wanted_and_no_more() -> None:
    meeting = threading.Barrier(3)  # breaks where fewer than three come together
    running = []

    def play(one: int, _: CancelToken) -> int:
        running.append(one)
        meeting.wait(30)
        return one

    found = play_all(
        range(9),
        play,
        cost_of=lambda _: None,
        concurrency=3,
        spending=Spending(),
        on_done=lambda: None,
    )
    assert sorted(found.done.values()) == list(range(9))
    for start in (0, 3, 6):
        assert set(running[start : start + 3]) == {start, start + 1, start + 2}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_trial_begins_that_is_expected_to_pass_the_cap(concurrency: int) -> None:
    found, spending = played([1.0] * 10, concurrency=concurrency, max_usd=5.0)
    assert spending.usd == pytest.approx(5.0, abs=concurrency - 1)
    assert len(found.done) + len(found.skipped) == 10
    assert len(found.skipped) >= 5 - (concurrency - 1)


def test_a_cap_of_zero_plays_nothing() -> None:
    found, _ = played([1.0], max_usd=0.0)
    assert found.skipped == [1.0]


def test_a_cap_is_not_kept_blindly() -> None:
    with pytest.raises(PriceError, match="the cost of a trial is unknown"):
        played([None], max_usd=5.0)
    found, _ = played([None])
    assert found.done == {0: None}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_error_of_one_ends_the_others_in_order(concurrency: int) -> None:
    ended = []

    def play(one: int, cancel: CancelToken) -> int:
        if one == 0:
            raise ValueError("broken factory")
        assert cancel.wait(30)
        ended.append(one)
        return one

    with pytest.raises(ValueError, match="broken factory"):
        play_all(
            range(3),
            play,
            cost_of=lambda _: None,
            concurrency=concurrency,
            spending=Spending(),
            on_done=lambda: None,
        )
    assert ended in ([], [1, 2], [2, 1])
