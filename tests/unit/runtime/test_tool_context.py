"""What a tool is told of its call: the time that is left of it, on any clock."""

from __future__ import annotations

import uuid

import pytest

from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool
from flightlog.testing import asking
from flightlog.trace.vocab import Effect

STEADY = RetryPolicy(max_attempts=3, initial_s=1, multiplier=2, jitter=0)


@pytest.fixture
def times(play, clock):
    """Plays calls of a tool that takes 2 s and then fails; the time left before and after."""

    def times_of(*, calls=1, timeout_s=None, **policy):
        seen = []

        def look(n: int, context: ToolContext) -> str:
            before = context.remaining_s()
            clock.advance_ms(2000)
            seen.append((before, context.remaining_s()))
            raise ValueError("down")

        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        tool = Tool("look", look, effect=Effect.READ, timeout_s=timeout_s, input_schema=schema)
        steps = [asking(("look", {"n": n})) for n in range(calls)]
        play([*steps, ModelResponse("x")], [tool], policy=Policy(("look",), **policy))
        return seen

    return times_of


def test_time_left_is_that_of_the_run_and_passes_with_its_clock(times):
    assert times(budget=Budget(max_seconds=10)) == [(10, 8)]


def test_time_left_is_none_without_any_limit(times):
    assert times(budget=Budget(max_seconds=None)) == [(None, None)]


def test_shortest_limit_is_what_is_left(times):
    assert times(budget=Budget(max_seconds=10), timeout_s=3) == [(3, 1)]
    own = {"look": ToolBudget(max_seconds=5)}
    assert times(budget=Budget(max_seconds=10), timeout_s=7, tool_budgets=own) == [(5, 3)]


def test_time_left_is_never_below_zero(times):
    assert times(budget=Budget(max_seconds=10), timeout_s=1) == [(1, 0)]


def test_own_budget_of_a_tool_counts_what_its_earlier_calls_took(times):
    own = {"look": ToolBudget(max_seconds=5)}
    assert times(calls=2, budget=Budget(max_seconds=None), tool_budgets=own) == [(5, 3), (3, 1)]


def test_each_try_is_told_what_is_left_then(times):
    seen = times(budget=Budget(max_seconds=20), retries={"look": STEADY})
    assert seen == [(20, 18), (17, 15), (13, 11)]


@pytest.fixture
def drawn(play):
    """Plays a tool that asks for time, chance and ids, twice in one step; what it got."""

    def drawn_by(**options):
        seen = []

        def draw(n: int, context: ToolContext) -> str:
            before = context.now()
            context.sleep(1.5)
            waited = (context.now() - before).total_seconds()
            seen.append((waited, context.random.random(), context.new_id(), context.new_id()))
            return "done"

        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        tool = Tool("draw", draw, effect=Effect.PURE, input_schema=schema)
        requests = asking(("draw", {"n": 1}), ("draw", {"n": 2}))
        play([requests, ModelResponse("x")], [tool], policy=Policy(("draw",)), **options)
        return seen

    return drawn_by


def test_time_that_a_tool_waits_is_that_of_the_run(drawn):
    assert [waited for waited, *_ in drawn()] == [1.5, 1.5]


def test_each_call_draws_its_own_chance_and_ids(drawn):
    (_, first, *ids), (_, second, *others) = drawn()
    assert first != second
    assert len({*ids, *others}) == 4
    assert all(uuid.UUID(one).version == 4 for one in ids)


def test_on_a_virtual_clock_the_same_call_draws_the_same_in_every_run(drawn):
    assert drawn() == drawn()
