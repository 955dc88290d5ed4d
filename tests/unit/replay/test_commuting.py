"""Calls that do not touch may change places; all others may not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from flightlog.replay.commuting import Access, equal_up_to_commuting, layers_of


def access(name: str, *scopes: str, writes: bool = False) -> Access:
    return Access((name, ""), scopes, writes)


GET_A, GET_B = access("get_a", "item:a"), access("get_b", "item:b")
PUT_A, PUT_B = access("put_a", "item:a", writes=True), access("put_b", "item:b", writes=True)
LIST, CLEAR = access("list", "item:*"), access("clear", "item:*", writes=True)
AUDIT, RESET = access("audit", "*"), access("reset", "*", writes=True)
QUEUE, POP = access("size", "queue"), access("pop", "queue", writes=True)
ADD = access("add")

COMMUTE = [
    (GET_A, GET_B), (GET_A, PUT_B), (PUT_A, PUT_B), (GET_A, LIST), (LIST, AUDIT), (ADD, RESET),
    (QUEUE, PUT_A), (POP, CLEAR), (GET_A, AUDIT), (ADD, ADD),
]  # fmt: skip
TOUCH = [
    (GET_A, PUT_A), (PUT_A, LIST), (PUT_A, CLEAR), (GET_A, CLEAR), (LIST, CLEAR), (AUDIT, PUT_A),
    (RESET, GET_A), (RESET, QUEUE), (POP, QUEUE), (POP, AUDIT), (RESET, CLEAR), (RESET, LIST),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), COMMUTE)
def test_calls_that_do_not_touch_change_places(one: Access, other: Access) -> None:
    assert equal_up_to_commuting([one, other], [other, one])


@pytest.mark.parametrize(("one", "other"), TOUCH)
def test_calls_that_touch_do_not(one: Access, other: Access) -> None:
    assert not equal_up_to_commuting([one, other], [other, one])


def test_a_call_more_is_a_difference() -> None:
    assert not equal_up_to_commuting([GET_A], [GET_A, GET_A])
    assert not equal_up_to_commuting([GET_A, PUT_A], [PUT_A])


def test_empty_runs_are_equal() -> None:
    assert equal_up_to_commuting([], [])
    assert layers_of([]) == []


def test_a_read_cannot_pass_the_write_behind_another_read() -> None:
    assert not equal_up_to_commuting([GET_A, PUT_A, GET_A, GET_A], [GET_A, GET_A, PUT_A, GET_A])


ALL = [GET_A, GET_B, PUT_A, PUT_B, LIST, CLEAR, AUDIT, RESET, QUEUE, POP, ADD]


def touch(one: Access, other: Access) -> bool:
    """By the words of the table in docs/goldens.md, pair by pair."""

    def share(a: str, b: str) -> bool:
        if "*" in (a, b) or a == b:
            return True
        (prefix, _, name), (other_prefix, _, other_name) = a.partition(":"), b.partition(":")
        return prefix == other_prefix and "*" in (name, other_name)

    changes = one.changes_state or other.changes_state
    return changes and any(share(a, b) for a in one.scopes for b in other.scopes)


def reachable(start: Sequence[Access]) -> set[tuple[str, ...]]:
    """All orders that come from swapping neighbours which do not touch."""
    first = tuple(start)
    seen, todo = {first}, [first]
    while todo:
        now = todo.pop()
        for ix in range(len(now) - 1):
            if not touch(now[ix], now[ix + 1]):
                swapped = (*now[:ix], now[ix + 1], now[ix], *now[ix + 2 :])
                if swapped not in seen:
                    seen.add(swapped)
                    todo.append(swapped)
    return {tuple(one.identity[0] for one in order) for order in seen}


@given(st.lists(st.sampled_from(ALL), max_size=5))
@settings(max_examples=60)
def test_equal_means_exactly_that_swaps_of_neighbours_lead_from_one_to_the_other(
    calls: list[Access],
) -> None:
    orders = reachable(calls)
    for order in itertools.permutations(calls):
        is_reachable = tuple(one.identity[0] for one in order) in orders
        assert equal_up_to_commuting(calls, order) == is_reachable
