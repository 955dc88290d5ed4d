"""Rules on order and number of calls: only an earlier step is before."""

from __future__ import annotations

import pytest

from flightlog.golden.judging.calls import JudgedCall, judged_calls
from flightlog.golden.judging.rules import Order, TemporalRule
from flightlog.golden.judging.temporal import broken_rule
from flightlog.replay.matching import Rules
from flightlog.runtime.tools import Tool
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Effect, Outcome

RULES = Rules(
    [
        Tool("look", effect=Effect.READ, scopes=("order",)),
        Tool("pay", effect=Effect.WRITE, scopes=("order",)),
        Tool("ship", effect=Effect.WRITE, scopes=("order",)),
    ]
)


def made(*calls: tuple[int, str] | tuple[int, str, Outcome]) -> list[JudgedCall]:
    events = [
        ToolCall(
            run_id="r",
            seq=seq,
            step=call[0],
            tool_name=call[1],
            args="{}",
            outcome=call[2] if len(call) > 2 else Outcome.OK,
        )
        for seq, call in enumerate(calls)
    ]
    return judged_calls(events, RULES)


@pytest.mark.parametrize(
    ("calls", "is_broken"),
    [
        ([(1, "pay"), (2, "ship")], False),
        ([(1, "look")], False),
        ([(1, "ship"), (2, "pay")], True),
        ([(1, "ship")], True),
        ([(1, "pay"), (1, "ship")], True),
        ([(1, "pay", Outcome.FAILED), (2, "ship")], True),
        ([(1, "ship", Outcome.DENIED), (2, "pay")], True),
    ],
)
def test_never_one_before_another_has_succeeded(calls: list[tuple], is_broken: bool) -> None:  # type: ignore[type-arg]
    rule = TemporalRule(Order.NEVER_BEFORE, "ship", "pay")
    assert (broken_rule(rule, made(*calls)) is not None) is is_broken


@pytest.mark.parametrize(
    ("steps", "within", "is_broken"),
    [
        ([1, 2, 3], None, True),
        ([1, 2], None, False),
        ([1, 2, 3], 3, True),
        ([1, 2, 4], 3, False),
        ([1, 1, 1], 1, True),
        ([1, 2, 3, 4, 5, 6], 2, False),
    ],
)
def test_at_most_so_many_calls_in_any_window_of_steps(
    steps: list[int], within: int | None, is_broken: bool
) -> None:
    rule = TemporalRule(Order.AT_MOST, "lo*", calls=2, steps=within)
    calls = made(*((step, "look") for step in steps), (9, "pay"))
    assert (broken_rule(rule, calls) is not None) is is_broken


def test_refused_calls_count_and_further_tries_do_not() -> None:
    rule = TemporalRule(Order.AT_MOST, "look", calls=1)
    assert broken_rule(rule, made((1, "look", Outcome.BUDGET), (2, "look")))
    tried = [
        ToolCall(run_id="r", seq=n, step=1, tool_name="look", args="{}", attempt=n)
        for n in (1, 2, 3)
    ]
    assert broken_rule(rule, judged_calls(tried, RULES)) is None


@pytest.mark.parametrize(
    ("calls", "is_broken"),
    [
        ([(1, "pay", Outcome.DENIED), (2, "ship")], True),
        ([(1, "pay", Outcome.APPROVAL_DENIED), (2, "pay", Outcome.APPROVAL_DENIED)], True),
        ([(1, "pay", Outcome.DENIED), (1, "ship")], False),
        ([(1, "pay", Outcome.DENIED), (2, "look")], False),
        ([(1, "pay", Outcome.INVALID_INPUT), (2, "pay")], False),
        ([(1, "pay"), (2, "ship", Outcome.DENIED)], False),
    ],
)
def test_no_write_after_a_refusal(calls: list[tuple], is_broken: bool) -> None:  # type: ignore[type-arg]
    rule = TemporalRule(Order.NO_WRITE_AFTER_REFUSAL, "*")
    assert (broken_rule(rule, made(*calls)) is not None) is is_broken


@pytest.mark.parametrize(
    ("calls", "within", "is_broken"),
    [
        ([(1, "pay"), (2, "look")], None, False),
        ([(1, "pay"), (9, "look")], 3, True),
        ([(1, "pay")], None, True),
        ([(1, "pay"), (1, "look")], None, True),
        ([(1, "pay"), (2, "look"), (3, "pay")], None, True),
        ([(1, "pay"), (2, "look", Outcome.FAILED)], None, True),
        ([(1, "pay", Outcome.FAILED)], None, False),
    ],
)
def test_one_must_follow_another(calls: list[tuple], within: int | None, is_broken: bool) -> None:  # type: ignore[type-arg]
    rule = TemporalRule(Order.MUST_FOLLOW, "look", "pay", steps=within)
    assert (broken_rule(rule, made(*calls)) is not None) is is_broken
