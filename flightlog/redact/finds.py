"""What a search gives, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

UNSHAPED: Final = "secret"
"""Kind of a value that only its name or its place told."""
MAX_STEPS: Final = 20_000
"""Candidates in one event, a piece of 256 bytes looked at for one counting as one more."""


class Find(NamedTuple):
    """One value to be replaced.

    Attributes:
        start, end: bytes of the text that are replaced.
        kind: of its pseudonym.
        value: what the pseudonym is made of, the same for each spelling of the value.
        quote: goes around the pseudonym where a bare JSON number is replaced.
        rule: what found it.
        since: where the whole match begins, such as at the name before the value.
    """

    start: int
    end: int
    kind: str
    value: bytes
    quote: bytes
    rule: str
    since: int


class SlowError(Exception):
    """More to look at than one event may have."""


class Work:
    """What one event may cost: steps, which are the same on every machine, and time at the last.

    Args:
        ends_s: on the clock.
        steps: how many.
        clock: monotonic, in seconds.
    """

    __slots__ = ("_clock", "_ends_s", "_left")

    def __init__(
        self,
        ends_s: float,
        *,
        steps: int = MAX_STEPS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._left = steps
        self._ends_s = ends_s
        self._clock = clock

    def spend(self, looked_at: int) -> None:
        """Counts one candidate and the bytes that were looked at for it.

        Raises:
            SlowError: it was one too many, or the time is over.
        """
        before = self._left
        self._left = left = before - 1 - (looked_at >> 8)
        if left < 0:
            raise SlowError("too many candidates")
        if left >> 8 != before >> 8:
            self.look()

    def look(self) -> None:
        """Looks at the clock only.

        Raises:
            SlowError: the time is over.
        """
        if self._clock() > self._ends_s:
            raise SlowError("it took too long")
