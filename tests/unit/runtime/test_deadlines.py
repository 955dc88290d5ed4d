"""Blocked calls are cut: real threads, tiny timeouts, events instead of sleeping."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import MAX_PARALLEL
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, MemorySink, ScriptedModel, asking
from flightlog.trace.events import ModelCall, ToolCall
from flightlog.trace.vocab import Effect, Outcome

TASK = Task("t", "go")


@pytest.fixture
def never():
    """An event that a test may wait for in vain; set when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def blocked_agent(never, *, timeout_s=None, max_seconds=None, after=()):
    tool = Tool("slow", never.wait, effect=Effect.READ, timeout_s=timeout_s)
    policy = Policy(("slow", "fast"), Budget(max_seconds=max_seconds))
    script = [asking(("slow", {}), *[(name, {}) for name in after]), ModelResponse("done")]
    return Agent("a", ScriptedModel("m", script), [tool, FakeTool("fast")], policy=policy)


def tool_rows(sink):
    return {event.tool_name: event for event in sink.events if isinstance(event, ToolCall)}


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_tool_that_blocks_is_cut_at_its_timeout_and_the_run_goes_on(never, sink, mode):
    agent = blocked_agent(never, timeout_s=0.01)
    if mode == "sync":
        result = run(agent, TASK, sink=sink)
    else:
        result = asyncio.run(run_async(agent, TASK, sink=sink))
    row = tool_rows(sink)["slow"]
    assert (result.stop, row.outcome, row.error_type) == ("ok", Outcome.TIMED_OUT, "timeout")
    assert row.error == "tool 'slow' did not answer within 0.010 s (timeout_s)"
    assert row.latency_ms == 10.0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_deadline_cuts_a_running_tool_and_ends_the_run(never, sink, mode):
    agent = blocked_agent(never, timeout_s=60, max_seconds=0.05)
    if mode == "sync":
        result = run(agent, TASK, sink=sink)
    else:
        result = asyncio.run(run_async(agent, TASK, sink=sink))
    assert result.stop == "max_seconds"
    assert tool_rows(sink)["slow"].error_type == "deadline"


def test_blocked_tool_does_not_hold_back_its_neighbours(never, sink):
    run(blocked_agent(never, timeout_s=0.02, after=["fast"]), TASK, sink=sink)
    rows = tool_rows(sink)
    assert (rows["slow"].outcome, rows["fast"].outcome) == (Outcome.TIMED_OUT, Outcome.OK)
    assert rows["fast"].seq < rows["slow"].seq


def test_timeout_of_no_time_at_all_never_starts_the_tool(sink):
    tool = FakeTool("a", timeout_s=0.0)
    agent = Agent("a", ScriptedModel("m", [asking(("a", {})), ModelResponse("x")]), [tool])
    run(agent, TASK, sink=sink)
    assert (tool_rows(sink)["a"].outcome, tool.calls) == (Outcome.TIMED_OUT, [])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_deadline_cuts_a_model_that_does_not_answer(never, sink, mode):
    class Hanging:
        name, provider = "hanging", None

        def complete(self, request):
            never.wait()

    agent = Agent("a", Hanging(), policy=Policy((), Budget(max_seconds=0.02)))
    if mode == "sync":
        result = run(agent, TASK, sink=sink)
    else:
        result = asyncio.run(run_async(agent, TASK, sink=sink))
    assert result.stop == "max_seconds"
    (call,) = [event for event in sink.events if isinstance(event, ModelCall)]
    assert (call.outcome, call.cost_usd, call.output_digest) == (Outcome.TIMED_OUT, None, None)


def test_deadline_cuts_a_user_that_does_not_answer(never, sink):
    class Silent:
        name = "silent"

        def reply(self, messages):
            never.wait()

    policy = Policy((), Budget(max_seconds=0.05))
    agent = Agent("a", ScriptedModel("m", [ModelResponse("x")]), user=Silent(), policy=policy)
    result = run(agent, TASK, sink=sink)
    assert (result.stop, result.answer) == ("max_seconds", "x")


def test_cancellable_async_tool_is_cancelled_when_cut():
    cancelled = []

    async def slow():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    sink = MemorySink()
    tool = Tool("slow", slow, effect=Effect.READ, timeout_s=0.01)
    agent = Agent("a", ScriptedModel("m", [asking(("slow", {})), ModelResponse("x")]), [tool])
    result = asyncio.run(run_async(agent, TASK, sink=sink))
    assert (result.stop, cancelled) == ("ok", [True])
    assert tool_rows(sink)["slow"].outcome is Outcome.TIMED_OUT


def test_tool_without_any_deadline_runs_in_the_thread_of_the_caller():
    threads = []

    def where():
        threads.append(threading.current_thread())
        return "ok"

    policy = Policy(("a",), Budget(max_seconds=None))
    model = ScriptedModel("m", [asking(("a", {})), ModelResponse("x")])
    tool = Tool("a", where, effect=Effect.READ)
    run(Agent("a", model, [tool], policy=policy), TASK)
    assert threads == [threading.current_thread()]


def test_one_call_after_the_other_meets_the_same_thread():
    threads = set()

    def where():
        threads.add(threading.get_ident())
        return "ok"

    model = ScriptedModel("m", [*[asking(("a", {}))] * 8, ModelResponse("x")])
    run(Agent("a", model, [Tool("a", where, effect=Effect.READ)]), TASK)
    assert len(threads) == 1


def test_virtual_deadline_cuts_a_tool_that_takes_too_much_virtual_time(play, rows, clock):
    tool = FakeTool("a", clock=clock, latency_ms=2_000)
    result = play([asking(("a", {})), ModelResponse("x")], [tool], Budget(max_seconds=1))
    assert result.stop == "max_seconds"
    assert (rows("tool_call")[0].outcome, rows("tool_call")[0].latency_ms) == (
        Outcome.TIMED_OUT,
        1000.0,
    )


def test_virtual_deadline_cuts_a_model_exactly(play, rows):
    answers = [asking(("a", {}), latency_ms=600.0), ModelResponse("x", latency_ms=600.0)]
    result = play(answers, [FakeTool("a")], Budget(max_seconds=1))
    assert (result.stop, result.usage.seconds, result.answer) == ("max_seconds", 1.0, None)
    assert rows("model_call")[1].latency_ms == 400.0
    assert rows("run_stopped")[0].duration_ms == 1000.0


def test_approval_that_outlasts_the_budget_comes_too_late(play, rows, clock):
    def approve(request):
        clock.advance_ms(5_000)
        return True

    pay = FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), Budget(max_seconds=1), approver=approve)
    result = play([asking(("pay", {}))], [pay], policy=policy)
    assert (result.stop, pay.calls, rows("tool_intent")) == ("max_seconds", [], [])


def test_call_that_waited_for_a_free_place_is_cut_by_what_is_left_of_the_deadline(play, clock):
    def use_up(n):
        clock.advance_ms(1000.0 if n == 0 else 0.0)

    tool = FakeTool("a", use_up)
    calls = [("a", {"n": n}) for n in range(MAX_PARALLEL + 1)]
    result = play([asking(*calls)], [tool], Budget(max_tool_calls=None, max_seconds=1))
    assert (result.stop, result.usage.seconds) == ("max_seconds", 1.0)
    assert len(tool.calls) == MAX_PARALLEL


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt, also where this was started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_interrupt_reaches_a_run_that_waits_for_a_blocked_tool(never, sink):
    def interrupt_and_block():
        os.kill(os.getpid(), signal.SIGINT)
        never.wait()

    tool = Tool("slow", interrupt_and_block, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", [asking(("slow", {}))]), [tool])
    with pytest.raises(KeyboardInterrupt):
        run(agent, TASK, sink=sink)
    assert sink.events[-1].stop_reason == "cancelled"
