"""What is told of something that comes and goes, so that findings stay few.

An episode is told when it begins, and again whenever its number has doubled.
Of the episodes the first is told, the second, the fourth and so on.
"""

from __future__ import annotations

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_KEPT: Final = 1 << 13
"""Entries of a memory; what was not used for the longest time is forgotten first."""


class Episodes:
    """The episodes of one state, of which there is one at a time."""

    __slots__ = ("_count", "_due", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since: int | None = None
        self._due = 1.0

    def is_due(self, step: int, ratio: float) -> bool:
        """True when a state is to be told that holds at this step.

        Args:
            ratio: its number to the threshold, from 1 up.
        """
        if self._since is None:
            self._since, self._due = step, 1.0
            self._count += 1
        if ratio < self._due:
            return False
        while self._due <= ratio:
            self._due *= 2
        return is_told(self._count)

    def end(self) -> int | None:
        """The step since which the state held that is over; None where nothing was told of it."""
        since, self._since = self._since, None
        return since if is_told(self._count) else None


def is_told(episodes: int) -> bool:
    """True for the first episode, the second, the fourth and so on."""
    return episodes > 0 and episodes & (episodes - 1) == 0


def keep(memory: dict[K, V], key: K, value: V) -> None:
    """Keeps a value as the newest of at most `MAX_KEPT`."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > MAX_KEPT:
        del memory[next(iter(memory))]
