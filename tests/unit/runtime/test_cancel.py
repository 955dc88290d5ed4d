"""The rules of cancellation: the run ends, is recorded, and leaves nothing running."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from flightlog.control.control import Control
from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import MAX_PARALLEL, Ask, Asked
from flightlog.runtime.bounds import Setup
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken, RunCancelledError
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool
from flightlog.runtime.turns import Turns
from flightlog.testing import asking
from flightlog.trace.clock import SystemClock
from flightlog.trace.events import ToolCall, ToolIntent
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect

DONE = ModelResponse("x")
TASK = Task("t", "go")


def agent_of(fn, *, max_seconds=30):
    tool = Tool("wait", fn, effect=Effect.READ)
    policy = Policy(("wait",), Budget(max_seconds=max_seconds))
    return Agent("a", ScriptedModel("m", [asking(("wait", {})), DONE]), [tool], policy=policy)


def stopped(sink):
    return [e for e in sink.events if e.__struct_config__.tag == "run_stopped"]


@pytest.mark.parametrize("max_seconds", [30, None])
def test_token_ends_a_run_whose_tool_blocks(max_seconds):
    token, sink, entered, release = (
        CancelToken(),
        MemorySink(),
        threading.Event(),
        threading.Event(),
    )

    def block() -> str:
        entered.set()
        release.wait(30)
        return "late"

    def cancel():
        entered.wait(30)
        token.cancel("the user pressed stop")

    threading.Thread(target=cancel).start()
    result = run(agent_of(block, max_seconds=max_seconds), TASK, sink=sink, cancel=token)
    release.set()
    assert result.stop == "cancelled"
    assert result.stop_detail == "the user pressed stop at step 1."
    assert [event.stop_reason.value for event in stopped(sink)] == ["cancelled"]


def test_calls_that_the_end_overtakes_are_rows():
    """Those under way: nobody knows how they ended. Those behind them: not made."""
    token, sink, release = CancelToken(), MemorySink(), threading.Event()
    entered = threading.Barrier(MAX_PARALLEL + 1)

    def block(n: int) -> str:
        entered.wait(30)
        release.wait(30)
        return "late"

    def cancel():
        entered.wait(30)
        token.cancel("stop")

    calls = MAX_PARALLEL + 2
    tool = Tool("wait", block, effect=Effect.WRITE)
    policy = Policy(("wait",), Budget(max_tool_calls=calls), approver=approve_all)
    script = [asking(*[("wait", {"n": n}) for n in range(calls)]), DONE]
    agent = Agent("a", ScriptedModel("m", script), [tool], policy=policy)
    threading.Thread(target=cancel).start()
    result = run(agent, TASK, sink=sink, cancel=token)
    release.set()
    rows = [event for event in sink.events if isinstance(event, ToolCall)]
    assert (result.stop, result.usage.tool_calls) == ("cancelled", calls)
    assert [row.call_ix for row in rows] == list(range(calls))
    told = [(row.outcome, row.error_type, row.error.rpartition(" the call")[2]) for row in rows]
    assert set(told[:MAX_PARALLEL]) == {("timed_out", "cancelled", " was under way")}
    assert set(told[MAX_PARALLEL:]) == {("failed", "cancelled", " was made")}
    assert len([event for event in sink.events if isinstance(event, ToolIntent)]) == calls


def test_token_ends_an_async_run_and_its_task_is_cancelled():
    ended = []

    token = CancelToken()

    async def block() -> str:
        asyncio.get_running_loop().call_soon(token.cancel)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")
        return "late"

    async def main():
        result = await run_async(agent_of(block), TASK, cancel=token)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        return result

    assert asyncio.run(main()).stop == "cancelled"
    assert ended == ["cancelled"]


def test_token_cancelled_before_the_run_makes_no_call():
    token, model = CancelToken(), ScriptedModel("m", [DONE])
    token.cancel()
    assert run(Agent("a", model), TASK, cancel=token).stop == "cancelled"
    assert asyncio.run(run_async(Agent("a", model), TASK, cancel=token)).stop == "cancelled"
    assert model.requests == []


def test_one_token_cancels_all_its_runs():
    token, sinks, barrier = CancelToken(), [MemorySink() for _ in range(4)], threading.Barrier(5)

    def block() -> str:
        barrier.wait(30)
        token.wait(30)
        return "x"

    threads = [
        threading.Thread(
            target=run, args=(agent_of(block), TASK), kwargs={"sink": sink, "cancel": token}
        )
        for sink in sinks
    ]
    for thread in threads:
        thread.start()
    barrier.wait(30)
    token.cancel()
    for thread in threads:
        thread.join(30)
    assert [stopped(sink)[0].stop_reason.value for sink in sinks] == ["cancelled"] * 4


def test_token_outlives_its_runs_without_holding_them():
    token = CancelToken()
    for _ in range(3):
        run(Agent("a", ScriptedModel("m", [DONE])), TASK, cancel=token)
    assert token._listeners == []


def test_tool_is_told_that_the_run_is_over():
    seen = threading.Event()

    def block(context: ToolContext) -> str:
        if context.cancelled.wait(30):
            seen.set()
        return "x"

    assert run(agent_of(block, max_seconds=0.05), TASK).stop == "max_seconds"
    assert seen.wait(30)


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_nested_run_that_is_handed_the_token_ends_with_the_outer_one(is_cancelled):
    """Whether the outer run is cancelled, or leaves its tool behind at a timeout and ends."""
    token, inner_sink, entered, ended = (
        CancelToken(),
        MemorySink(),
        threading.Event(),
        threading.Event(),
    )

    def block(context: ToolContext) -> str:
        entered.set()
        context.cancelled.wait(30)
        return "x"

    def delegate(context: ToolContext) -> str:
        run(agent_of(block), TASK, sink=inner_sink, cancel=context.cancelled)
        ended.set()
        return "x"

    def cancel():
        entered.wait(30)
        token.cancel("the user pressed stop")

    if is_cancelled:
        threading.Thread(target=cancel).start()
    outer = agent_of(delegate, max_seconds=None if is_cancelled else 1)
    stop = run(outer, TASK, cancel=token).stop
    assert stop == ("cancelled" if is_cancelled else "max_seconds")
    assert ended.wait(30)
    assert [one.stop_reason.value for one in stopped(inner_sink)] == ["cancelled"]


def join_workers():
    for thread in threading.enumerate():
        if thread.name == "flightlog-call":
            thread.join(30)


@pytest.mark.parametrize("is_async", [False, True])
def test_approval_that_comes_after_the_end_is_none(is_async):
    """The approver is still asked when the run is cancelled; its yes finds nobody."""
    token, sink, answer, made = CancelToken(), MemorySink(), threading.Event(), []

    def approve(_request):
        token.cancel("the user pressed stop")
        return answer.wait(30)

    tool = Tool("pay", lambda: made.append(1) or "paid", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=approve)
    agent = Agent("a", ScriptedModel("m", [asking(("pay", {})), DONE]), [tool], policy=policy)
    if is_async:
        result = asyncio.run(run_async(agent, TASK, sink=sink, cancel=token))
    else:
        result = run(agent, TASK, sink=sink, cancel=token)
    answer.set()
    join_workers()
    kinds = [event.__struct_config__.tag for event in sink.events]
    assert (result.stop, made) == ("cancelled", [])
    assert kinds == ["run_started", "model_call", "run_stopped"]


def test_call_that_starts_after_the_end_is_not_made():
    """A worker may come to its call late; the run is over by then."""
    made, sink = [], MemorySink()
    tool = Tool("pay", lambda: made.append(1) or "paid", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=approve_all)
    agent = Agent("a", ScriptedModel("m", [asking(("pay", {})), DONE]), [tool], policy=policy)
    setup = Setup(
        agent, TASK, RunContext(), RunWriter(sink, "r"), SystemClock(), Control.in_process()
    )
    with Turns(setup) as turns:
        loop = turns.play()
        request = next(loop)
        while isinstance(request, Ask):
            request = loop.send(Asked(request.call()))
        with pytest.raises(StopIteration) as ended:
            loop.throw(RunCancelledError())
    with pytest.raises(RunCancelledError):
        request.asks[0].call()
    assert (ended.value.value.stop, made) == ("cancelled", [])


def test_asyncio_cancellation_is_recorded_and_leaves_no_task():
    sink = MemorySink()

    async def block() -> str:
        await asyncio.sleep(60)
        return "x"

    async def main():
        task = asyncio.create_task(run_async(agent_of(block), TASK, sink=sink))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert stopped(sink)[0].stop_reason.value == "cancelled"


CHILD = """
import asyncio, sys, time
import flightlog
from flightlog.testing import ScriptedModel, asking, saying

@flightlog.tool(effect="read")
def wait() -> str:
    print("waiting", flush=True)
    time.sleep(60)
    return "x"

agent = flightlog.Agent("a", ScriptedModel("m", [asking(("wait", {})), saying("x")]), [wait])
with flightlog.Recorder(sys.argv[1]) as recorder:
    task = flightlog.Task("t", "go")
    if sys.argv[2] == "sync":
        flightlog.run(agent, task, sink=recorder)
    else:
        asyncio.run(flightlog.run_async(agent, task, sink=recorder))
"""


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_as_cancelled_and_then_the_process(tmp_path, how, number):
    import flightlog

    store = tmp_path / "store"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(store), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout.readline() == b"waiting\n"
        started = time.monotonic()
        child.send_signal(number)
        child.wait(30)
    assert time.monotonic() - started < 25  # it did not wait for the tool
    assert child.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT) or (
        child.returncode in (1, 130)
    )
    with flightlog.open(store) as traces:
        assert traces.sql("select stop_reason from runs").fetchall() == [("cancelled",)]


def test_handler_of_the_application_keeps_its_signal():
    got = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append("ours"))
    try:

        def terminate() -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return "x"

        assert run(agent_of(terminate, max_seconds=None), TASK).stop == "ok"
        assert got == ["ours"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_default_handling_is_back_after_the_run():
    run(Agent("a", ScriptedModel("m", [DONE])), TASK)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    async def several():
        agents = [Agent("a", ScriptedModel("m", [DONE])) for _ in range(5)]
        await asyncio.gather(*(run_async(agent, TASK) for agent in agents))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    asyncio.run(several())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
