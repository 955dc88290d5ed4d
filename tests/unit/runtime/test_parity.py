"""Sync and async are two drivers of one loop: the same agent gives the same events."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from flightlog.errors import AgentError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run, run_async
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, MemorySink, ScriptedModel, ScriptedUser, asking
from flightlog.trace.events import RunStopped, ToolCall
from flightlog.trace.vocab import Effect

TASK = Task("t", "go")
_TIMES = ("at", "elapsed_ms", "latency_ms", "duration_ms", "used_seconds", "seq", "prompt_base_seq")


def event_table(sink):
    """All events without their times, in the order of the run (parallel calls by place)."""
    table = []
    for event in sink.events:
        row = msgspec.to_builtins(event)
        table.append({name: value for name, value in row.items() if name not in _TIMES})
    return sorted(
        table,
        key=lambda row: (
            row["kind"] == "run_stopped",
            row.get("step", 0),
            ["run_started", "model_call", "state_changed", "tool_intent"].index(row["kind"])
            if row["kind"] not in ("tool_call", "run_stopped")
            else 9,
            row.get("call_ix", 0),
        ),
    )


SCRIPTS = {
    "answer": [ModelResponse("x", usage=Usage(1, 2))],
    "tools": [asking(("read", {}), ("pay", {"usd": 1})), asking(("read", {})), ModelResponse("x")],
    "parallel": [asking(*[("read", {"n": n}) for n in range(20)]), ModelResponse("x")],
    "refused": [
        asking(("nope", {}), ("read", "bad"), ("flaky", {}), ("hidden", {})),
        ModelResponse("x"),
    ],
    "invalid output": [asking(("nan", {}))],
    "budget": [asking(("read", {}), ("read", {}))] * 20,
    "model error": [asking(("read", {})), ValueError("down")],
    "refusal": [ModelResponse("no", finish_reason="refusal")],
    "max steps": [asking(("nope", {}))] * 9,
}


def make_agent(script, *, is_async):
    def answer(fn):
        async def answer_async(**arguments):
            await asyncio.sleep(0)
            return fn(**arguments)

        return answer_async if is_async else fn

    def fail():
        raise ValueError("flaky")

    tools = [
        Tool("read", answer(lambda n=0: {"n": n}), effect=Effect.READ),
        Tool("pay", answer(lambda usd: f"paid {usd}"), effect=Effect.WRITE),
        Tool("flaky", answer(fail), effect=Effect.READ),
        Tool("nan", answer(lambda: float("nan")), effect=Effect.READ),
        Tool("hidden", answer(lambda: "x")),
    ]
    model = ScriptedModel("m", script)
    if is_async:

        class AsyncModel:
            name, provider = "m", None

            async def complete(self, request):
                await asyncio.sleep(0)
                return model.complete(request)

        model_used = AsyncModel()
    else:
        model_used = model
    policy = Policy(
        ("read", "pay", "flaky", "nan"),
        Budget(max_steps=6, max_tool_calls=25, max_seconds=60),
        approver=lambda request: True,
    )
    return Agent("a", model_used, tools, system="s", policy=policy, user=ScriptedUser(["more?"]))


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("is_async_agent", [False, True], ids=["sync agent", "async agent"])
def test_both_drivers_give_the_same_event_table(name, is_async_agent):
    one, two = MemorySink(), MemorySink()
    context = RunContext("run")
    script = [*SCRIPTS[name], ModelResponse("end")]
    first = run(make_agent(script, is_async=False), TASK, sink=one, context=context)
    agent = make_agent(script, is_async=is_async_agent)
    second = asyncio.run(run_async(agent, TASK, sink=two, context=context))
    assert event_table(one) == event_table(two)
    assert (first.stop, first.answer, first.stop_detail) == (
        second.stop,
        second.answer,
        second.stop_detail,
    )
    assert one.messages == two.messages


def test_async_tools_of_a_step_run_beside_each_other():
    sink = MemorySink()

    async def main():
        arrived, everyone = [], asyncio.Event()

        async def meet(n):
            arrived.append(n)
            if len(arrived) == 50:
                everyone.set()
            await everyone.wait()
            return n

        tool = Tool("meet", meet, effect=Effect.READ)
        script = [asking(*[("meet", {"n": n}) for n in range(50)]), ModelResponse("x")]
        policy = Policy(("meet",), Budget(max_tool_calls=50))
        return await run_async(
            Agent("a", ScriptedModel("m", script), [tool], policy=policy), TASK, sink=sink
        )

    assert asyncio.run(main()).stop == "ok"
    rows = [event for event in sink.events if isinstance(event, ToolCall)]
    assert sorted(row.result for row in rows) == sorted(str(n) for n in range(50))


def test_sync_tool_does_not_stall_the_event_loop():
    async def main():
        loop, moved = asyncio.get_running_loop(), asyncio.Event()

        def wait_for_the_loop():
            return asyncio.run_coroutine_threadsafe(moved.wait(), loop).result(20)

        async def move():
            moved.set()

        tool = Tool("a", wait_for_the_loop, effect=Effect.READ)
        agent = Agent("a", ScriptedModel("m", [asking(("a", {})), ModelResponse("x")]), [tool])
        result, _ = await asyncio.gather(run_async(agent, TASK), move())
        return result

    assert asyncio.run(main()).stop == "ok"


def test_cancelled_run_is_recorded_and_raises_and_cancels_its_tools():
    sink, cancelled = MemorySink(), []

    async def main():
        started = asyncio.Event()

        async def hang():
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

        tool = Tool("hang", hang, effect=Effect.READ)
        agent = Agent("a", ScriptedModel("m", [asking(("hang", {}), ("hang", {}))]), [tool])
        task = asyncio.create_task(run_async(agent, TASK, sink=sink))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled == [True, True]

    asyncio.run(main())
    stopped = sink.events[-1]
    assert isinstance(stopped, RunStopped)
    assert stopped.stop_reason == "cancelled"
    assert stopped.stop_detail == "cancelled by its caller (CancelledError) at step 1."


def test_tool_that_cancels_itself_is_only_a_failed_call():
    async def leave():
        raise asyncio.CancelledError

    sink = MemorySink()
    tool = Tool("leave", leave, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", [asking(("leave", {})), ModelResponse("x")]), [tool])
    assert asyncio.run(run_async(agent, TASK, sink=sink)).stop == "ok"
    (row,) = [event for event in sink.events if isinstance(event, ToolCall)]
    assert (row.outcome, row.error_type) == ("failed", "CancelledError")


def test_plain_function_that_returns_an_awaitable_is_awaited():
    async def fetch():
        return "fetched"

    def hidden():
        return fetch()

    sink = MemorySink()
    tool = Tool("a", hidden, effect=Effect.READ)
    agent = Agent("a", ScriptedModel("m", [asking(("a", {})), ModelResponse("x")]), [tool])
    asyncio.run(run_async(agent, TASK, sink=sink))
    (row,) = [event for event in sink.events if isinstance(event, ToolCall)]
    assert row.result == "fetched"


def test_async_model_in_a_sync_run_names_run_async():
    class Model:
        name, provider = "m", None

        async def complete(self, request):
            return ModelResponse("x")

    with pytest.raises(AgentError, match="run_async"):
        run(Agent("a", Model()), TASK)


def test_blocking_approver_does_not_stall_the_event_loop():
    async def main():
        loop, moved = asyncio.get_running_loop(), asyncio.Event()

        def approve(request):
            return asyncio.run_coroutine_threadsafe(moved.wait(), loop).result(20)

        async def move():
            moved.set()

        pay = FakeTool("pay", effect=Effect.WRITE)
        model = ScriptedModel("m", [asking(("pay", {})), ModelResponse("x")])
        agent = Agent("a", model, [pay], policy=Policy(("pay",), approver=approve))
        await asyncio.gather(run_async(agent, TASK), move())
        return pay.calls

    assert asyncio.run(main()) == [{}]


def test_many_runs_on_one_event_loop_do_not_mix():
    async def main():
        sinks = [MemorySink() for _ in range(20)]
        runs = []
        for n, sink in enumerate(sinks):
            model = ScriptedModel("m", [asking(("a", {"n": n})), ModelResponse(str(n))])
            tool = Tool("a", lambda n: n, effect=Effect.READ)
            policy = Policy(("a",), approver=approve_all)
            runs.append(run_async(Agent("a", model, [tool], policy=policy), TASK, sink=sink))
        return sinks, await asyncio.gather(*runs)

    sinks, results = asyncio.run(main())
    assert [result.answer for result in results] == [str(n) for n in range(20)]
    for n, sink in enumerate(sinks):
        assert [event.result for event in sink.events if isinstance(event, ToolCall)] == [str(n)]
