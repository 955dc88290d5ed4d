"""The rules of retries: what is tried again, how often, after how long, and by whom."""

from __future__ import annotations

import asyncio
import email.message
import os
import signal
import threading
import urllib.error
from http import HTTPStatus
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.errors import ConfigError, ToolError
from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import LONGEST_SLEEP_S, Wait
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import (
    RetryPolicy,
    asked_wait_s,
    is_worth_retrying,
    pause_s,
    status_of,
    wait_s,
)
from flightlog.runtime.sync_driver import SyncDriver
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.clock import SystemClock
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, StopReason

STEADY = RetryPolicy(max_attempts=3, initial_s=1, multiplier=2, jitter=0)
PROMPT = RetryPolicy(max_attempts=3, initial_s=0, jitter=0)
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


def delegating(inner, *, retries):
    """Runs an agent whose tool runs another one; the outer call fails each time."""

    def delegate() -> str:
        run(inner, Task("t", "go"), clock=FakeClock())
        raise ValueError("the sub-agent failed")

    tool = Tool("delegate", delegate, effect=Effect.READ)
    outer = ScriptedModel("m", [asking(("delegate", {})), ModelResponse("x")])
    agent = Agent("outer", outer, [tool], policy=policy(retries))
    run(agent, Task("t", "go"), clock=FakeClock())


@pytest.mark.parametrize(("tries", "asked"), [(3, 3), (1, 3)])
def test_model_retries_of_a_nested_run_do_not_multiply_those_of_the_outer_one(tries, asked):
    """Three requests either way: one for each outer try, or three for the only one."""
    model = ScriptedModel("m", [BusyError(503)] * 9)
    inner = Agent("inner", model, policy=Policy(("*",), model_retry=STEADY))
    delegating(inner, retries=RetryPolicy(max_attempts=tries, initial_s=1))
    assert len(model.requests) == asked


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


# What ends a wait


class Stopwatch(SystemClock):
    """Sleeps in no time, and tells how long it slept."""

    def __init__(self):
        self.slept_s = 0.0

    def monotonic_ms(self):
        return self.slept_s * 1000

    def sleep(self, seconds):
        self.slept_s += seconds


def waiting(seconds, is_over):
    yield Wait(seconds, is_over)


def test_wait_lasts_as_long_as_it_is_asked_to():
    stopwatch = Stopwatch()
    SyncDriver(stopwatch).drive(waiting(600, lambda: False))
    assert stopwatch.slept_s == pytest.approx(600)


def test_wait_ends_within_a_moment_of_what_it_looks_at():
    stopwatch = Stopwatch()
    SyncDriver(stopwatch).drive(waiting(600, lambda: stopwatch.slept_s > 3))
    assert 3 < stopwatch.slept_s <= 3 + LONGEST_SLEEP_S


def failing(control, mode, name, *, is_async):
    """A tool that throws the kill switch and fails, so that its next try is a minute away."""

    def throw(**_):
        tools = name if mode is KillMode.DISABLE_TOOLS else None
        control.kill_switch.turn_on(mode, tools=tools, who="ops", why="", at_us=0)
        raise ValueError("down")

    async def throw_async(**_):
        throw()

    return Tool(name, throw_async if is_async else throw, effect=Effect.READ)


MINUTE = RetryPolicy(max_attempts=3, initial_s=60, max_s=60, jitter=0)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("mode", [KillMode.STOP_ALL, KillMode.DISABLE_TOOLS])
def test_kill_switch_ends_the_wait_for_another_try(rows, sink, mode, is_async):
    control = Control.in_process()
    tool = failing(control, mode, "a", is_async=is_async)
    model = ScriptedModel("m", [asking(("a", {})), ModelResponse("x")])
    agent = Agent("a", model, [tool], policy=policy(MINUTE, Budget(max_seconds=None)))
    if is_async:
        result = asyncio.run(run_async(agent, Task("t", "go"), sink=sink, control=control))
    else:
        result = run(agent, Task("t", "go"), sink=sink, control=control)
    assert attempts(rows) == [(1, "failed"), (2, "kill_switch")]
    assert (result.stop, result.usage.seconds < 30) == ("kill_switch", True)


def test_kill_switch_for_one_tool_does_not_hasten_the_tries_of_another(play, rows, done):
    control = Control.in_process()
    tools = [failing(control, KillMode.DISABLE_TOOLS, "a", is_async=False), FakeTool("b", FLAKY)]
    script = [asking(("a", {}), ("b", {})), done]
    agent = Agent("a", ScriptedModel("m", script), tools, policy=policy(stop_on=()))
    sink = MemorySink()
    run(agent, Task("t", "go"), sink=sink, control=control, clock=FakeClock())
    calls = [one for one in sink.events if one.__struct_config__.tag == "tool_call"]
    of_b = [(one.attempt, one.elapsed_ms) for one in calls if one.tool_name == "b"]
    assert of_b == [(1, 0), (2, 1000), (3, 3000)]


def test_kill_switch_ends_the_wait_for_another_model_call(rows, sink):
    control = Control.in_process()

    def busy(_request):
        control.kill_switch.turn_on(KillMode.STOP_ALL, who="ops", why="", at_us=0)
        raise BusyError(503)

    agent = Agent("a", ScriptedModel("m", busy), policy=Policy(("*",), model_retry=MINUTE))
    result = run(agent, Task("t", "go"), sink=sink, control=control)
    assert (result.stop, result.usage.seconds < 30) == ("kill_switch", True)
    assert len(rows("model_call")) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_cancelling_ends_the_wait_for_another_try(rows, sink, is_async):
    token = CancelToken()

    def give_up(**_):
        threading.Timer(0.01, token.cancel).start()
        raise ValueError("down")

    tool = Tool("a", give_up, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", [asking(("a", {}))]), [tool], policy=policy(MINUTE))
    if is_async:
        result = asyncio.run(run_async(agent, Task("t", "go"), sink=sink, cancel=token))
    else:
        result = run(agent, Task("t", "go"), sink=sink, cancel=token)
    assert (result.stop, result.usage.seconds < 30) == ("cancelled", True)
    assert attempts(rows) == [(1, "failed")]


@pytest.mark.parametrize("is_async", [False, True])
def test_sigterm_ends_the_wait_for_another_try(rows, sink, is_async):
    def leave(**_):
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
        raise ValueError("down")

    tool = Tool("a", leave, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", [asking(("a", {}))]), [tool], policy=policy(MINUTE))

    def play_it():
        if is_async:
            return asyncio.run(run_async(agent, Task("t", "go"), sink=sink))
        return run(agent, Task("t", "go"), sink=sink)

    with pytest.raises(SystemExit) as left:
        play_it()
    (stop,) = rows("run_stopped")
    assert (left.value.code, stop.stop_reason, attempts(rows)) == (
        143,
        StopReason.CANCELLED,
        [(1, "failed")],
    )


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


# What exceptions of clients say: openai and anthropic, httpx and requests, aiohttp,
# google.api_core and urllib each keep status and wait elsewhere


class Headers(dict):
    """Case does not matter in it, as in those of httpx and requests."""

    def __init__(self, **headers):
        super().__init__({name.replace("_", "-").lower(): value for name, value in headers.items()})

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class ClientError(Exception):
    """Shaped as asked for."""

    def __init__(self, **attributes):
        super().__init__("failed")
        for name, value in attributes.items():
            setattr(self, name, value)


def answered(status, **headers):
    return SimpleNamespace(status_code=status, headers=Headers(**headers))


def of_openai(status, code=None, **headers):
    return ClientError(status_code=status, code=code, response=answered(status, **headers))


def of_httpx(status, **headers):
    return ClientError(response=answered(status, **headers), request=object())


def of_aiohttp(status, **headers):
    return ClientError(status=status, headers=Headers(**headers))


def of_google(status):
    return ClientError(code=HTTPStatus(status), response=None)


def of_urllib(status, **headers):
    held = email.message.Message()
    for name, value in headers.items():
        held[name.replace("_", "-")] = value
    return urllib.error.HTTPError("https://vendor.example", status, "no", held, None)


CLIENTS = [of_openai, of_httpx, of_aiohttp, of_google, of_urllib]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_status_that_lasts_ends_the_tries_wherever_a_client_keeps_it(client, status):
    error = client(status)
    assert (status_of(error), is_worth_retrying(error)) == (status, False)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_status_that_may_pass_is_worth_another_try(client, status):
    error = client(status)
    assert (status_of(error), is_worth_retrying(error)) == (status, True)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), TimeoutError(), ConnectionResetError(), ClientError(code="ECONNRESET")],
    ids=repr,
)
def test_error_without_a_status_is_worth_another_try(error):
    assert (status_of(error), is_worth_retrying(error)) == (None, True)


@pytest.mark.parametrize(
    ("held", "status"),
    [({"code": 7}, None), ({"code": 1234}, None), ({"status_code": "404"}, None), ({}, None)],
)
def test_number_that_is_no_http_status_is_none(held, status):
    assert status_of(ClientError(**held)) is status


def test_code_of_a_provider_that_lasts_counts_for_more_than_a_status_that_passes():
    assert not is_worth_retrying(of_openai(429, code="insufficient_quota"))
    assert is_worth_retrying(of_openai(429, code="rate_limit_exceeded"))


def test_what_an_error_says_itself_counts_most():
    assert is_worth_retrying(ToolError("x", retryable=True))
    assert not is_worth_retrying(ClientError(retryable=False, status_code=503))
    assert is_worth_retrying(ClientError(retryable=True, status_code=404))


@pytest.mark.parametrize("client", [of_openai, of_httpx, of_aiohttp, of_urllib])
def test_header_of_the_answer_says_how_long_to_wait(client):
    assert asked_wait_s(client(429, Retry_After="7")) == 7.0
    assert asked_wait_s(client(503)) is None


@pytest.mark.parametrize("text", ["Wed, 21 Oct 2015 07:28:00 GMT", "", "soon", "-1", "nan", "inf"])
def test_header_that_is_no_number_of_seconds_says_nothing(text):
    assert asked_wait_s(of_httpx(429, Retry_After=text)) is None


def test_wait_that_the_error_states_counts_for_more_than_the_header():
    assert asked_wait_s(ClientError(retry_after_s=2, response=answered(429, Retry_After="9"))) == 2


def test_foreign_error_that_raises_when_asked_is_one_without_a_word():
    class HostileError(Exception):
        def __getattr__(self, name):
            raise RuntimeError(name)

    error = HostileError()
    assert (status_of(error), asked_wait_s(error), is_worth_retrying(error)) == (None, None, True)


@given(
    st.dictionaries(
        st.sampled_from(["status_code", "code", "status", "retry_after_s", "retryable", "headers"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.dictionaries(st.just("retry-after"), st.integers() | st.floats() | st.text()),
    )
)
def test_no_foreign_error_breaks_the_run(held):
    error = ClientError(**held)
    status, asked_s = status_of(error), asked_wait_s(error)
    assert isinstance(is_worth_retrying(error), bool)
    assert status is None or 100 <= status < 600
    assert asked_s is None or 0 <= asked_s < float("inf")


@pytest.mark.parametrize(("asked", "tries"), [("2", 3), ("31", 1)])
def test_tool_waits_as_the_vendor_asks_unless_that_is_longer_than_the_policy_has(
    play, rows, done, asked, tries
):
    tool = FakeTool("a", [of_httpx(429, Retry_After=asked)])
    play([asking(("a", {})), done], [tool], policy=policy(PROMPT))
    assert [row.elapsed_ms for row in rows("tool_call")] == [0, 2000, 4000][:tries]


@pytest.mark.parametrize(("asked", "tries"), [("2", 3), ("31", 1)])
def test_model_waits_as_the_provider_asks_unless_that_is_longer_than_the_policy_has(
    play, rows, done, asked, tries
):
    failing = of_openai(429, Retry_After=asked)
    play([failing, failing, done], policy=Policy(("*",), model_retry=PROMPT))
    assert [row.elapsed_ms for row in rows("model_call")] == [0, 2000, 4000][:tries]


def test_tool_whose_vendor_says_no_is_not_tried_again(play, rows, done):
    play([asking(("a", {})), done], [FakeTool("a", [of_urllib(404)])], policy=policy())
    assert attempts(rows) == [(1, "failed")]


def test_asked_wait_that_is_shorter_than_the_own_one_does_not_shorten_it():
    assert pause_s(STEADY, 1, asked_s=0.2, seed="") == 1.0
    assert pause_s(STEADY, 2, asked_s=None, seed="") == 2.0
    assert pause_s(STEADY, 3, asked_s=None, seed="") is None


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
