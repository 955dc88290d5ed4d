"""The rules of retries: what is tried again, how often, after how long, and by whom."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import ConfigError, ToolError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy, wait_s
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.vocab import Effect, StopReason

STEADY = RetryPolicy(max_attempts=3, initial_s=1, multiplier=2, jitter=0)
FLAKY = [ValueError("flaky"), ValueError("flaky"), "ok"]


def policy(retry=STEADY, budget=None, **more):
    return Policy(("*",), budget or Budget(), retries={"*": retry}, approver=approve_all, **more)


def attempts(rows):
    return [(row.attempt, row.outcome.value) for row in rows("tool_call")]


def test_failed_read_is_tried_again_and_every_attempt_is_a_row(play, rows, done):
    result = play([asking(("a", {})), done], [FakeTool("a", FLAKY)], policy=policy())
    assert attempts(rows) == [(1, "failed"), (2, "failed"), (3, "ok")]
    assert (result.stop, result.usage.tool_calls) == ("ok", 3)


def test_model_sees_only_what_the_last_attempt_gave(play, done):
    model = ScriptedModel("m", [asking(("a", {})), done])
    tool = FakeTool("a", FLAKY)
    run(Agent("a", model, [tool], policy=policy()), Task("t", "go"), clock=FakeClock())
    assert [m.text for m in model.requests[1].messages if m.role == "tool"] == ["ok"]


def test_attempts_end_at_the_limit_and_the_failure_goes_to_the_model(play, rows, done):
    tool = FakeTool("a", [ValueError("down")])
    assert play([asking(("a", {})), done], [tool], policy=policy()).stop == "ok"
    assert attempts(rows) == [(1, "failed"), (2, "failed"), (3, "failed")]


def test_waits_grow_by_the_multiplier(play, rows, done, clock):
    play([asking(("a", {})), done], [FakeTool("a", [ValueError("down")])], policy=policy())
    assert [row.elapsed_ms for row in rows("tool_call")] == [0, 1000, 3000]


def test_wait_is_capped(play, rows, done):
    retry = RetryPolicy(max_attempts=4, initial_s=1, max_s=1.5, jitter=0)
    play([asking(("a", {})), done], [FakeTool("a", [ValueError("x")])], policy=policy(retry))
    assert [row.elapsed_ms for row in rows("tool_call")] == [0, 1000, 2500, 4000]


def test_tool_says_how_long_to_wait(play, rows, done):
    answers = [ToolError("busy", retry_after_s=7.0), "ok"]
    play([asking(("a", {})), done], [FakeTool("a", answers)], policy=policy())
    assert [row.elapsed_ms for row in rows("tool_call")] == [0, 7000]


def test_tool_says_that_another_try_cannot_help(play, rows, done):
    answers = [ToolError("no such order", retryable=False), "ok"]
    play([asking(("a", {})), done], [FakeTool("a", answers)], policy=policy())
    assert attempts(rows) == [(1, "failed")]


def test_attempts_spend_the_budget_and_stop_at_it(play, rows, done):
    tool = FakeTool("a", [ValueError("down")])
    result = play([asking(("a", {})), done], [tool], policy=policy(budget=Budget(max_tool_calls=2)))
    assert attempts(rows) == [(1, "failed"), (2, "failed"), (3, "budget")]
    assert (result.stop, len(tool.calls)) == ("max_tool_calls", 2)


def test_retry_that_would_pass_the_deadline_is_not_waited_for(play, rows, done):
    tool = FakeTool("a", [ValueError("down")])
    result = play([asking(("a", {})), done], [tool], policy=policy(budget=Budget(max_seconds=2)))
    assert attempts(rows) == [(1, "failed"), (2, "failed")]
    assert (result.stop, result.usage.seconds) == ("ok", 1.0)


@pytest.mark.parametrize("effect", [Effect.WRITE, Effect.UNKNOWN])
def test_write_is_not_tried_again(play, rows, done, effect):
    tool = FakeTool("a", FLAKY, effect=effect)
    play([asking(("a", {})), done], [tool], policy=policy())
    assert attempts(rows) == [(1, "failed")]


def test_idempotent_write_is_tried_again_with_an_intent_each_time(play, rows, done):
    tool = FakeTool("a", FLAKY, effect=Effect.WRITE, is_idempotent=True)
    play([asking(("a", {})), done], [tool], policy=policy())
    assert attempts(rows) == [(1, "failed"), (2, "failed"), (3, "ok")]
    assert [row.attempt for row in rows("tool_intent")] == [1, 2, 3]


def test_write_that_takes_a_key_gets_the_same_key_at_each_attempt(play, rows, done):
    keys = []

    def pay(amount: int, idempotency_key: str) -> str:
        keys.append(idempotency_key)
        if len(keys) < 3:
            raise TimeoutError
        return "paid"

    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    tool = Tool("pay", pay, effect=Effect.WRITE, input_schema=schema)
    play([asking(("pay", {"amount": 5})), done], [tool], policy=policy())
    assert len(set(keys)) == 1 == len({row.idempotency_key for row in rows("tool_call")})
    assert keys[0] == rows("tool_intent")[0].idempotency_key


def test_approval_is_asked_once_for_all_attempts(play, rows, done):
    asked = []
    tool = FakeTool("a", FLAKY, effect=Effect.WRITE, is_idempotent=True)
    one = Policy(("a",), retries={"a": STEADY}, approver=lambda r: asked.append(r) or True)
    play([asking(("a", {})), done], [tool], policy=one)
    assert (len(asked), len(tool.calls)) == (1, 3)


def test_only_failed_calls_of_a_step_are_tried_again(play, rows, done):
    flaky, steady = FakeTool("flaky", FLAKY), FakeTool("steady", ["fine"])
    play([asking(("flaky", {}), ("steady", {})), done], [flaky, steady], policy=policy())
    assert (len(flaky.calls), len(steady.calls)) == (3, 1)


def test_no_attempt_follows_once_the_run_is_to_stop(play, rows):
    answers = asking(("flaky", {}), ("gone", {}))
    tools = [FakeTool("flaky", FLAKY), FakeTool("gone", "x", output_schema={"type": "integer"})]
    assert play([answers], tools, policy=policy()).stop == "invalid_tool_output:gone"
    assert [row.attempt for row in rows("tool_call")] == [1, 1]


def test_refused_calls_are_not_tried_again(play, rows, done):
    play([asking(("a", "not json")), done], [FakeTool("a")], policy=policy())
    assert attempts(rows) == [(1, "invalid_input")]


def test_retries_of_a_nested_run_do_not_multiply_those_of_the_outer_one(play, rows, done):
    inner_tool = FakeTool("inner", [ValueError("down")])

    def delegate() -> str:
        model = ScriptedModel("m", [asking(("inner", {})), ModelResponse("x")])
        inner = Agent("inner", model, [inner_tool], policy=policy())
        run(inner, Task("t", "go"), clock=FakeClock())
        raise ValueError("the sub-agent failed")

    play(
        [asking(("delegate", {})), done],
        [Tool("delegate", delegate, effect=Effect.READ)],
        policy=policy(),
    )
    assert len(inner_tool.calls) == 3  # once for each attempt of the outer call, not nine times


def test_retry_after_an_outer_one_is_over_works_again(play, rows, done):
    flaky = FakeTool("flaky", [*FLAKY, *FLAKY])
    play([asking(("flaky", {})), asking(("flaky", {"n": 1})), done], [flaky], policy=policy())
    assert len(flaky.calls) == 6


def test_async_tools_are_tried_again_in_real_time():
    calls = []

    async def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("flaky")
        return "ok"

    retry = RetryPolicy(max_attempts=3, initial_s=0.001, jitter=0)
    model = ScriptedModel("m", [asking(("flaky", {})), ModelResponse("x")])
    agent = Agent("a", model, [Tool("flaky", flaky, effect=Effect.READ)], policy=policy(retry))
    assert asyncio.run(run_async(agent, Task("t", "go"))).usage.tool_calls == 3
    model = ScriptedModel("m", [asking(("sync", {})), ModelResponse("x")])
    agent = Agent("a", model, [FakeTool("sync", FLAKY)], policy=policy(retry))
    assert run(agent, Task("t", "go")).usage.tool_calls == 3


# Model calls


class BusyError(Exception):
    def __init__(self, status_code):
        self.status_code = status_code


def test_failed_model_call_is_tried_again_within_the_step(play, rows, done):
    own = Policy(("*",), model_retry=STEADY)
    result = play([BusyError(529), BusyError(503), done], policy=own)
    assert (result.stop, result.usage.steps) == ("ok", 1)
    assert [(row.attempt, row.outcome.value) for row in rows("model_call")] == [
        (1, "failed"),
        (2, "failed"),
        (3, "ok"),
    ]
    assert [row.elapsed_ms for row in rows("model_call")] == [0, 1000, 3000]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_model_error_that_lasts_is_not_tried_again(play, rows, done, status):
    result = play([BusyError(status), done], policy=Policy(("*",), model_retry=STEADY))
    assert (result.stop_reason, len(rows("model_call"))) == (StopReason.MODEL_ERROR, 1)


def test_model_error_after_all_attempts_says_how_many(play):
    result = play([BusyError(529)] * 3, policy=Policy(("*",), model_retry=STEADY))
    assert (result.stop, "(3 attempts)" in result.stop_detail) == ("model_error", True)


# The schedule


@given(
    attempt=st.integers(1, 20),
    initial=st.floats(0, 10),
    most=st.floats(0, 60),
    multiplier=st.floats(1, 5),
    jitter=st.floats(0, 1),
    seed=st.text(),
)
def test_wait_lies_between_its_jitter_and_the_whole(
    attempt, initial, most, multiplier, jitter, seed
):
    policy = RetryPolicy(3, initial, most, multiplier, jitter)
    whole = min(initial * multiplier ** (attempt - 1), most)
    waited = wait_s(policy, attempt, seed=seed)
    assert whole * (1 - jitter) - 1e-9 <= waited <= whole + 1e-9
    assert waited == wait_s(policy, attempt, seed=seed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"initial_s": -1},
        {"max_s": float("inf")},
        {"multiplier": 0.5},
        {"jitter": 1.1},
    ],
)
def test_retry_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RetryPolicy(**wrong)
