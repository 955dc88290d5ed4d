"""Delta debugging: what is left is needed, and nothing else is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import NothingToCompareError
from flightlog.replay.minimise import minimise


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_exactly_the_needed_items_are_kept(case: tuple[int, set[int]]) -> None:
    count, needed = case
    found = minimise(range(count), lambda part: "bad" if needed <= set(part) else "ok")
    assert set(found.kept) == needed
    assert (found.end, found.is_deterministic) == ("bad", True)


@given(st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=4))
def test_without_any_one_of_the_kept_items_the_end_is_another(ways: list[set[int]]) -> None:
    def end_of(part: tuple[int, ...]) -> str:
        return "bad" if any(way <= set(part) for way in ways) else "ok"

    kept = minimise(range(8), end_of).kept
    assert end_of(kept) == "bad"
    assert all(end_of((*kept[:at], *kept[at + 1 :])) == "ok" for at in range(len(kept)))


def test_replays_are_counted_and_the_same_search_takes_the_same_ones() -> None:
    asked: list[tuple[str, ...]] = []

    def end_of(part: tuple[str, ...]) -> str:
        asked.append(part)
        return "bad" if "c" in part else "ok"

    first = minimise("abcd", end_of)
    assert (first.kept, first.replays) == (("c",), len(asked))
    seen = list(asked)
    asked.clear()
    assert (minimise("abcd", end_of), asked) == (first, seen)


def test_an_end_that_changes_by_itself_is_told() -> None:
    ends = itertools.cycle(["bad", "ok"])
    assert not minimise("ab", lambda _: next(ends)).is_deterministic


def test_nothing_to_minimise_is_an_error() -> None:
    with pytest.raises(NothingToCompareError, match="no overlay"):
        minimise([], lambda _: "ok")
