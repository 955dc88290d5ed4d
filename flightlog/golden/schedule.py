"""Plays many trials: several at a time, under one spending cap, interruptible in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flightlog.errors import PriceError
from flightlog.runtime.cancel import CancelToken

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Spending:
    """What trials cost so far, and whether another one may begin.

    A cap stops trials from beginning, not in their midst: each of those that run at the same
    time is counted with what a trial cost so far on average, so the cap can be overshot by
    what running trials cost more than that.

    Attributes:
        max_usd: the cap; None is none.
        usd: spent by finished trials.
        trials: that were finished.
    """

    max_usd: float | None = None
    usd: float = 0.0
    trials: int = 0

    def add(self, usd: float | None) -> None:
        """Books a finished trial.

        Raises:
            PriceError: its cost is unknown, so the cap could not be kept.
        """
        if usd is None:
            if self.max_usd is not None:
                raise PriceError(
                    f"the cost of a trial is unknown, so max_usd={self.max_usd:g} cannot be kept",
                    hint="Give the agent a PriceTable with the model's price, install "
                    "flightlog[prices], or leave out the cap.",
                )
            return
        self.usd += usd
        self.trials += 1

    def allows(self, running: int) -> bool:
        """True where one more trial beside the running ones is expected to stay below the cap."""
        if self.max_usd is None:
            return True
        mean = self.usd / self.trials if self.trials else 0.0
        return self.usd < self.max_usd and self.usd + (running + 1) * mean <= self.max_usd


@dataclass
class Played(Generic[T, R]):
    """What came of a schedule.

    Attributes:
        done: results by place in the list of what was to be done.
        skipped: what the cap left undone.
    """

    done: dict[int, R] = field(default_factory=dict)
    skipped: list[T] = field(default_factory=list)


def play_all(
    todo: Sequence[T],
    play: Callable[[T, CancelToken], R],
    *,
    cost_of: Callable[[R], float | None],
    concurrency: int,
    spending: Spending,
    on_done: Callable[[], None],
) -> Played[T, R]:
    """Plays everything, in order of begin; an error or an interrupt ends the running ones first.

    Args:
        todo: what is to be played.
        play: plays one; called in several threads where concurrency is above 1. It must end
            soon when the token is cancelled.
        cost_of: USD that a result cost; None where unknown.
        concurrency: how many run at the same time.
        spending: books what results cost, and says whether another one may begin.
        on_done: called after each, in the caller's thread.
    """
    cancel = CancelToken()
    played: Played[T, R] = Played()

    def book(place: int, result: R) -> None:
        played.done[place] = result
        on_done()
        spending.add(cost_of(result))

    if concurrency == 1:  # in the caller's thread, where signals arrive
        for place, one in enumerate(todo):
            if spending.allows(0):
                book(place, play(one, cancel))
            else:
                played.skipped.append(one)
        return played
    with ThreadPoolExecutor(concurrency, thread_name_prefix="flightlog-trial") as pool:
        running: dict[Future[R], int] = {}
        try:
            for place, one in enumerate(todo):
                while running and (
                    len(running) >= concurrency or not spending.allows(len(running))
                ):
                    _collect(running, book)
                if spending.allows(len(running)):
                    running[pool.submit(play, one, cancel)] = place
                else:
                    played.skipped.append(one)
            while running:
                _collect(running, book)
        except BaseException:
            cancel.cancel("the replay was interrupted")
            raise
    return played


def _collect(running: dict[Future[R], int], book: Callable[[int, R], None]) -> None:
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in sorted(finished, key=lambda one: running[one]):
        book(running.pop(future), future.result())
