"""The rules of budgets: what spends, what stops, and that nothing slips through."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.errors import ConfigError
from flightlog.runtime.budget import Budget
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.prices import Price, PriceTable
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.vocab import Outcome, RunStatus, StopReason

PRICES = PriceTable({"m": Price(1.0, 1.0)}, use_public=False)
FREE = Budget(None, None, None)


def looping(*calls, **fields):
    """A model that asks for the same calls for ever."""
    return lambda request: asking(*calls, **fields)


def test_max_steps_stops_before_one_step_more(play, rows):
    result = play(looping(("a", {})), [FakeTool("a")], Budget(max_steps=3))
    assert (result.status, result.stop, result.usage.steps) == (RunStatus.STOPPED, "max_steps", 3)
    assert result.stop_detail == "budget max_steps=3 used up at step 3 (3 tool calls)."
    assert len(rows("tool_call")) == 3


def test_max_tool_calls_stops_and_names_where_the_attempts_failed(play, rows):
    browse = FakeTool("browse", [ValueError("flaky"), ValueError("flaky"), "ok"])
    result = play(looping(("browse", {})), [browse], Budget(max_tool_calls=3))
    assert result.stop == "max_tool_calls"
    assert result.stop_detail == (
        "budget max_tool_calls=3 used up at step 4 (3 attempts, 2 of them failed on 'browse')."
    )
    assert [row.outcome for row in rows("tool_call")] == ["failed", "failed", "ok", "budget"]


def test_failed_attempt_spends_budget(play):
    result = play(looping(("a", {})), [FakeTool("a", [ValueError("x")])], Budget(max_tool_calls=2))
    assert (result.stop, result.usage.tool_calls) == ("max_tool_calls", 2)


def test_attempt_refused_after_the_reservation_spends_budget(play):
    result = play(looping(("a", "not json")), [FakeTool("a")], Budget(max_tool_calls=2))
    assert (result.stop, result.usage.tool_calls) == ("max_tool_calls", 2)


def test_denied_call_spends_no_attempt(play):
    result = play(looping(("b", {})), [FakeTool("a")], Budget(max_steps=2))
    assert (result.stop, result.usage.tool_calls) == ("max_steps", 0)


def test_calls_of_a_step_within_the_budget_run_and_the_rest_is_refused(play, rows):
    tool = FakeTool("a")
    result = play([asking(("a", {}), ("a", {}), ("a", {}))], [tool], Budget(max_tool_calls=2))
    assert result.stop == "max_tool_calls"
    assert len(tool.calls) == 2
    assert sorted((row.call_ix, row.outcome.value) for row in rows("tool_call")) == [
        (0, "ok"),
        (1, "ok"),
        (2, "budget"),
    ]


def test_max_usd_stops_the_next_call_and_keeps_the_paid_answer(play, rows):
    usage = Usage(600_000, 0)
    result = play(
        looping(("a", {}), usage=usage), [FakeTool("a")], Budget(max_usd=1.0), prices=PRICES
    )
    assert (result.stop, result.usage.usd) == ("max_usd", 1.2)
    assert result.stop_detail == "budget max_usd=1.0 used up at step 2 (1.2 USD)."
    assert [row.outcome for row in rows("tool_call")] == ["ok", "budget"]
    final = play(
        [ModelResponse("dear", usage=Usage(2_000_000, 0))],
        budget=Budget(max_usd=1.0),
        prices=PRICES,
    )
    assert (final.stop, final.answer) == ("ok", "dear")


def test_usd_are_added_without_rounding_errors(clock):
    ledger = Ledger(Budget(max_usd=1.0), clock)
    for _ in range(10):
        assert ledger.begin_step() is None
        ledger.spend_model_call(Usage(1, 1), 0.1)
    assert ledger.begin_step() is StopReason.MAX_USD


def test_declared_cost_of_a_tool_is_reserved_and_refused_before_it_is_spent(play, rows):
    tool = FakeTool("a", cost_usd=0.4)
    result = play(looping(("a", {}), usage=Usage(0, 0)), [tool], Budget(max_usd=1.0), prices=PRICES)
    assert (result.stop, len(tool.calls), result.usage.usd) == ("max_usd", 2, 0.8)
    assert [row.cost_usd for row in rows("tool_call")] == [0.4, 0.4, None]


def test_refused_call_gives_its_declared_cost_back(play):
    tool = FakeTool("a", cost_usd=0.4)
    result = play(
        [asking(("a", "nope"), usage=Usage(0, 0)), ModelResponse("x", usage=Usage(0, 0))],
        [tool],
        Budget(max_usd=1.0),
        prices=PRICES,
    )
    assert (result.stop, result.usage.usd, result.usage.tool_calls) == ("ok", 0.0, 1)


def test_max_tokens_counts_input_and_output(play):
    result = play(looping(("a", {}), usage=Usage(40, 10)), [FakeTool("a")], Budget(max_tokens=100))
    assert (result.stop, result.usage.tokens) == ("max_tokens", 100)
    assert result.stop_detail == "budget max_tokens=100 used up at step 2 (100 tokens)."


def test_unknown_usage_under_max_tokens_stops_instead_of_running_free(play, rows):
    result = play(looping(("a", {})), [FakeTool("a")], Budget(max_tokens=100))
    assert (result.stop, result.usage.tokens) == ("max_tokens", None)
    assert result.stop_detail == (
        "budget max_tokens=100 cannot be kept: the token usage of the model call at step 1 is "
        "unknown."
    )
    assert [row.outcome for row in rows("tool_call")] == [Outcome.BUDGET]


def test_unknown_cost_under_max_usd_stops_instead_of_running_free(play):
    result = play(looping(("a", {})), [FakeTool("a")], Budget(max_usd=5.0), prices=PRICES)
    assert result.stop == "max_usd"
    assert "the cost of the model call at step 1 is unknown" in result.stop_detail


def test_no_limit_means_no_limit(play, done):
    script = [asking(*[("a", {})] * 40) for _ in range(40)]
    result = play([*script, done], [FakeTool("a")], FREE)
    assert (result.stop, result.usage.tool_calls, result.usage.steps) == ("ok", 1600, 41)


def test_zero_steps_stop_before_the_first_model_call(play, rows, done):
    assert play([done], budget=Budget(max_steps=0)).stop == "max_steps"
    assert rows("model_call") == []


def test_run_stopped_says_what_was_allowed_and_spent(play, rows):
    play(
        looping(("a", {}), usage=Usage(5, 5), latency_ms=250.0),
        [FakeTool("a")],
        Budget(max_steps=2),
    )
    stopped = rows("run_stopped")[0]
    assert (stopped.max_steps, stopped.max_seconds, stopped.max_tool_calls) == (2, 90, 15)
    assert (stopped.used_steps, stopped.used_tool_calls, stopped.used_tokens) == (2, 2, 20)
    assert (stopped.used_seconds, stopped.duration_ms) == (0.5, 500.0)


@pytest.mark.parametrize("limit", [-1, float("nan"), 2.5])
def test_limit_that_is_none_is_refused(limit):
    with pytest.raises(ConfigError, match="max_steps"):
        Budget(max_steps=limit)


@settings(max_examples=40, deadline=None)
@given(
    limit=st.integers(0, 30),
    per_thread=st.lists(st.integers(0, 20), min_size=2, max_size=6),
)
def test_max_tool_calls_is_never_exceeded_by_any_number_of_threads(limit, per_thread):
    ledger = Ledger(Budget(max_tool_calls=limit), FakeClock())
    start = threading.Barrier(len(per_thread))
    granted: list[int] = []

    def reserve(times: int) -> None:
        start.wait()
        for _ in range(times):
            if ledger.reserve_tool_call() is None:
                granted.append(1)

    threads = [threading.Thread(target=reserve, args=(times,)) for times in per_thread]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == min(limit, sum(per_thread)) == ledger.used().tool_calls


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(0, 12),
    batches=st.lists(st.integers(0, 9), max_size=8),
    failing=st.sets(st.integers(0, 71)),
)
def test_a_run_never_calls_a_tool_more_often_than_its_budget(limit, batches, failing):
    from flightlog.runtime.agent import Agent
    from flightlog.runtime.loop import run
    from flightlog.runtime.policy import Policy
    from flightlog.runtime.task import Task
    from flightlog.testing import ScriptedModel

    answers = [ValueError("x") if place in failing else "ok" for place in range(72)]
    tool = FakeTool("a", answers)
    script = [asking(*[("a", {})] * size) for size in batches if size]
    policy = Policy(("a",), Budget(max_tool_calls=limit))
    agent = Agent("a", ScriptedModel("m", [*script, ModelResponse("x")]), [tool], policy=policy)
    result = run(agent, Task("t", "go"), clock=FakeClock())
    assert len(tool.calls) == result.usage.tool_calls == min(limit, sum(batches))
    assert result.stop == ("ok" if sum(batches) <= limit else "max_tool_calls")
