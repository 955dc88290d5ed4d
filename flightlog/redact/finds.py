"""What a search gives, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

UNSHAPED: Final = "secret"
"""Kind of a value that only its name or its place told."""
MAX_STEPS: Final = 5_000
"""Candidates in one event of up to 1 MiB; 256 bytes looked at for one count as one more."""


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

    def candidate(self) -> None:
        """Counts one candidate.

        Raises:
            SlowError: it was one too many, or the time is over.
        """
        self._left = left = self._left - 1
        if left < 0:
            raise SlowError("too many candidates")
        if not left & 255:
            self.look()

    def spend(self, looked_at: int) -> None:
        """Counts the bytes that were looked at for a candidate.

        Raises:
            SlowError: it was one too many, or the time is over.
        """
        if looked_at > 255:
            self._left -= looked_at >> 8
            self.look()

    def look(self) -> None:
        """Looks at the clock only.

        Raises:
            SlowError: the time is over.
        """
        if self._clock() > self._ends_s:
            raise SlowError("it took too long")
