"""The smallest part of a set of overlays that still gives the same end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flightlog.errors import NothingToCompareError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Minimised(Generic[T]):
    """What came of a search.

    Attributes:
        kept: what is left, in the order given: without any one of it the end is another.
        end: how a run with all of it ended, and with what is kept.
        replays: runs that were made.
        is_deterministic: False when the same set ended in two ways; `kept` is then only what
            was found, and another search may find something else.
    """

    kept: tuple[T, ...]
    end: str
    replays: int
    is_deterministic: bool


def minimise(items: Sequence[T], end_of: Callable[[tuple[T, ...]], str]) -> Minimised[T]:
    """Removes what the end does not need; the result is 1-minimal.

    The empty set is tried too, since a run may end so without any overlay. The whole set
    and the result are each run twice, to see whether they end alike.

    Args:
        items: the whole set.
        end_of: runs with some of them, in their order, and says how that ended.

    Raises:
        NothingToCompareError: there is nothing to remove.

    Source: Zeller & Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input",
        ddmin; O(n^2) runs at worst.
    """
    if not items:
        raise NothingToCompareError("no overlay to minimise", hint="Give at least one.")
    search = _Search(items, end_of)
    every = tuple(range(len(items)))
    end = search.run(every)
    is_steady = search.run(every) == end
    kept = () if search.ends(()) == end else _ddmin(every, lambda part: search.ends(part) == end)
    is_steady = search.run(kept) == end and is_steady
    return Minimised(tuple(items[place] for place in kept), end, search.replays, is_steady)


class _Search(Generic[T]):
    def __init__(self, items: Sequence[T], end_of: Callable[[tuple[T, ...]], str]) -> None:
        self.replays = 0
        self._items, self._end_of = items, end_of
        self._known: dict[tuple[int, ...], str] = {}

    def run(self, places: tuple[int, ...]) -> str:
        self.replays += 1
        return self._end_of(tuple(self._items[place] for place in places))

    def ends(self, places: tuple[int, ...]) -> str:
        if places not in self._known:
            self._known[places] = self.run(places)
        return self._known[places]


def _ddmin(whole: tuple[int, ...], fails: Callable[[tuple[int, ...]], bool]) -> tuple[int, ...]:
    parts = 2
    while len(whole) > 1:
        size = -(-len(whole) // parts)
        subsets = [whole[start : start + size] for start in range(0, len(whole), size)]
        rests = [tuple(one for one in whole if one not in subset) for subset in subsets]
        if found := next((subset for subset in subsets if fails(subset)), None):
            whole, parts = found, 2
        elif found := next((rest for rest in rests if rest and fails(rest)), None):
            whole, parts = found, max(parts - 1, 2)
        elif parts >= len(whole):
            break
        else:
            parts = min(parts * 2, len(whole))
    return whole
