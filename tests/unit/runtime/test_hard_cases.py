"""What hostile or broken tools, models, approvers and clocks do to a run: never more than this."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.clock import SystemClock
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

DONE = ModelResponse("done")
TASK = Task("t", "go")


def deep(levels):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def cyclic():
    value: list = []
    value.append(value)
    return value


def doubling():
    value: list = []
    for _ in range(60):
        value = [value, value]
    return value


class Unprintable:
    def __repr__(self):
        raise RuntimeError("not even this")


BROKEN_RESULTS = {
    "unserialisable": object(),
    "unprintable": Unprintable(),
    "nan": float("nan"),
    "nested infinity": {"a": [1, float("inf")]},
    "cyclic": cyclic(),
    "endless by sharing": doubling(),
    "set": {1, 2},
    "bytes": b"\xff",
    "100 MB": "x" * 100_000_000,
    "keys that are no text": {(1, 2): "x"},
}


@pytest.mark.parametrize("name", BROKEN_RESULTS)
def test_result_that_cannot_be_kept_is_invalid_output_and_the_run_ends_in_order(play, rows, name):
    tool = FakeTool("a", [BROKEN_RESULTS[name]])
    result = play([asking(("a", {})), DONE], [tool])
    assert result.stop == "invalid_tool_output:a"
    row = rows("tool_call")[0]
    assert (row.outcome, row.result) == (Outcome.INVALID_OUTPUT, None)
    assert len(row.error) < 1000


def test_result_a_thousand_levels_deep_neither_crashes_nor_hangs(play, rows):
    tool = FakeTool("a", [deep(1000)], output_schema={"type": "array"})
    assert play([asking(("a", {})), DONE], [tool]).stop in ("ok", "invalid_tool_output:a")
    assert len(rows("tool_call")) == len(rows("run_stopped")) == 1


def test_lone_surrogates_pass_as_valid_text(play, rows):
    play([asking(("a", '{"q": "\\ud800"}')), DONE], [FakeTool("a", ["x\ud800y"])])
    rows("tool_call")[0].result.encode("utf-8")


class Panic(BaseException):
    pass


@pytest.mark.parametrize("max_seconds", [None, 60])
@pytest.mark.parametrize("error", [Panic, GeneratorExit, KeyboardInterrupt])
def test_tool_that_raises_beyond_exception_ends_the_run_and_is_raised(max_seconds, error):
    def panic() -> str:
        raise error

    sink = MemorySink()
    policy = Policy(("panic",), Budget(max_seconds=max_seconds))
    script = [asking(("panic", {})), DONE]
    tool = Tool("panic", panic, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", script), [tool], policy=policy)
    with pytest.raises(error):
        run(agent, TASK, sink=sink)
    kinds = [event.__struct_config__.tag for event in sink.events]
    assert kinds.count("run_stopped") == 1


def test_tool_that_ignores_its_timeout_is_left_behind():
    release, sink = threading.Event(), MemorySink()

    def block() -> str:
        release.wait(60)
        return "late"

    tool = Tool("block", block, effect=Effect.READ, timeout_s=0.02)
    agent = Agent("a", ScriptedModel("m", [asking(("block", {})), DONE]), [tool])
    try:
        assert run(agent, TASK, sink=sink).stop == "ok"
    finally:
        release.set()
    row = next(event for event in sink.events if event.__struct_config__.tag == "tool_call")
    assert (row.outcome, row.result) == (Outcome.TIMED_OUT, None)


MODEL_ANSWERS = {
    "asks for a tool that does not exist": (asking(("gone", {})), "ok"),
    "gives arguments that are no JSON": (asking(("a", "{'q': 1")), "ok"),
    "gives a list as arguments": (asking(("a", "[1]")), "ok"),
    "gives NaN as an argument": (asking(("a", '{"q": NaN}')), "ok"),
    "gives a key twice": (asking(("a", '{"q": 1, "q": 2}')), "ok"),
    "asks for 50 calls at once": (asking(*[("a", {"n": n}) for n in range(50)]), "ok"),
    "answers nothing at all": (ModelResponse(), "ok"),
    "answers the empty text": (ModelResponse(""), "ok"),
    "refuses": (ModelResponse(None, finish_reason="refusal"), "model_refused"),
    "is cut by length": (ModelResponse("half an", finish_reason="length"), "model_error"),
    "is filtered": (ModelResponse("x", finish_reason="content_filter"), "model_refused"),
    "overflows": (ModelResponse(finish_reason="context_overflow"), "context_overflow"),
    "names a tool of 10,000 characters": (asking(("a" * 10_000, {})), "ok"),
    "names a tool with control characters": (asking(("a\x1b[2J\n", {})), "ok"),
    "sends arguments of 1 MB": (asking(("a", {"q": "x" * 1_000_000})), "ok"),
    "sends arguments 10,000 levels deep": (asking(("a", '{"q":' * 9999 + "1")), "ok"),
}


@pytest.mark.parametrize("what", MODEL_ANSWERS)
@pytest.mark.parametrize("is_async", [False, True])
def test_model_that_answers_badly_ends_in_its_stop_reason(what, is_async):
    answer, stop = MODEL_ANSWERS[what]
    sink, tool = MemorySink(), FakeTool("a")
    policy = Policy(("a",), Budget(max_tool_calls=50))
    agent = Agent("a", ScriptedModel("m", [answer, DONE]), [tool], policy=policy)
    if is_async:
        result = asyncio.run(run_async(agent, TASK, sink=sink))
    else:
        result = run(agent, TASK, sink=sink)
    assert result.stop == stop
    asked = len(answer.tool_requests)
    rows = [event for event in sink.events if event.__struct_config__.tag == "tool_call"]
    assert len(rows) == asked


def test_approval_given_after_the_deadline_comes_too_late(play, rows, clock):
    def slow(request):
        clock.advance_ms(10_000)
        return True

    tool = FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), Budget(max_seconds=5), approver=slow)
    result = play([asking(("pay", {})), DONE], [tool], policy=policy)
    assert (result.stop, tool.calls) == ("max_seconds", [])
    assert rows("tool_intent") == []


def test_approver_that_changes_the_arguments_changes_nothing(play):
    def meddling(request):
        request.args["amount"] = 1_000_000
        return True

    tool = FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=meddling)
    play([asking(("pay", {"amount": 1})), DONE], [tool], policy=policy)
    assert tool.calls == [{"amount": 1}]


class JumpingClock(SystemClock):
    """A wall clock that an operator sets back and forth; the monotonic one goes on."""

    def __init__(self, jumps_us):
        self._jumps_us = list(jumps_us)
        self._offset_us = 0

    def wall_us(self):
        if self._jumps_us:
            self._offset_us += self._jumps_us.pop(0)
        return super().wall_us() + self._offset_us


DAY_US = 86_400_000_000


@pytest.mark.parametrize("jumps", [[0, -DAY_US, 0, DAY_US], [DAY_US, -2 * DAY_US] * 5])
def test_jumps_of_the_wall_clock_change_no_duration_and_no_budget(jumps):
    sink = MemorySink()
    script = [asking(("a", {"n": n})) for n in range(3)] + [DONE]
    agent = Agent("a", ScriptedModel("m", script), [FakeTool("a")])
    result = run(agent, TASK, sink=sink, clock=JumpingClock(jumps))
    assert result.stop == "ok"
    assert 0 <= result.usage.seconds < 60
    elapsed = [event.elapsed_ms for event in sink.events]
    assert elapsed == sorted(elapsed)


def test_fit_that_fails_is_an_error_of_the_agent_and_ends_the_run(play, rows):
    def broken(messages):
        raise IndexError("no messages")

    result = play([DONE], fit=broken)
    assert result.stop == "model_error"
    assert "could not be made: IndexError: no messages" in result.stop_detail
    assert rows("model_call") == []


def test_retry_hint_of_a_hostile_tool_does_not_stall_the_run(play, rows):
    class ForeverError(Exception):
        retry_after_s = 1e12

    from flightlog.runtime.retry import RetryPolicy

    policy = Policy(("a",), retries={"a": RetryPolicy(jitter=0)})
    result = play([asking(("a", {})), DONE], [FakeTool("a", [ForeverError("x")])], policy=policy)
    assert (result.stop, len(rows("tool_call"))) == ("ok", 1)


def test_run_on_a_fake_clock_needs_no_real_time():
    tool = FakeTool("a", clock=(clock := FakeClock()), latency_ms=3_600_000)
    policy = Policy(("a",), Budget(max_seconds=None))
    agent = Agent("a", ScriptedModel("m", [asking(("a", {})), DONE]), [tool], policy=policy)
    assert run(agent, TASK, clock=clock).usage.seconds == 3600
