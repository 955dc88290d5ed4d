"""What holds for every run, whatever the model asks for and whatever the tools do."""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run, run_async
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, MemorySink, ScriptedModel, asking
from flightlog.trace.events import ModelCall, RunStarted, RunStopped, ToolCall, ToolIntent
from flightlog.trace.vocab import Effect, Outcome, ServedHow

NAMES = ["read", "pay", "flaky", "nan", "hidden", "unknown"]
ARGUMENTS = ["{}", '{"n": 1}', '{"n": "x"}', "broken", "[]", '{"n": 1, "n": 1}']
CALLS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(ARGUMENTS)), max_size=4)
STEPS = st.lists(CALLS, max_size=6)
LIMITS = st.none() | st.integers(0, 8)
BUDGETS = st.builds(
    Budget,
    max_steps=LIMITS,
    max_seconds=st.none() | st.integers(0, 900).map(lambda tenths: tenths / 1000),
    max_tool_calls=LIMITS,
    max_usd=st.none() | st.floats(0, 0.01),
    max_tokens=st.none() | st.integers(0, 600),
)
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}}


def make(script, budget, approves, stop_on):
    clock = FakeClock()
    told = {"latency_ms": 50.0, "usage": Usage(90, 10)}
    options = {"clock": clock, "latency_ms": 20.0, "input_schema": NUMBER}
    tools = [
        FakeTool("read", [{"a": 1}], **options),
        FakeTool("pay", ["paid"], effect=Effect.WRITE, cost_usd=0.001, **options),
        FakeTool("flaky", [ValueError("x"), "ok", ValueError("y")], **options),
        FakeTool("nan", [float("nan")], **options),
        FakeTool("hidden", **options),
    ]
    answers = [asking(*calls, **told) for calls in script] + [ModelResponse("end", **told)]
    policy = Policy(
        ("read", "pay", "flaky", "nan"), budget, approver=lambda _: approves, stop_on=stop_on
    )
    prices = PriceTable({"m": Price(10.0, 10.0)}, use_public=False)
    return Agent("a", ScriptedModel("m", answers), tools, policy=policy, prices=prices), clock


STOP_ON = st.frozensets(st.sampled_from([one for one in Outcome if one is not Outcome.OK]))


@settings(max_examples=150, deadline=None)
@given(STEPS, BUDGETS, st.booleans(), STOP_ON)
def test_every_run_is_complete_bounded_and_accounted_for(script, budget, approves, stop_on):
    agent, clock = make(script, budget, approves, stop_on)
    sink = MemorySink()
    result = run(agent, Task("t", "go"), sink=sink, clock=clock)
    events = sink.events
    model_calls = [event for event in events if isinstance(event, ModelCall)]
    tool_calls = [event for event in events if isinstance(event, ToolCall)]
    intents = {(e.step, e.call_ix): e.seq for e in events if isinstance(e, ToolIntent)}

    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunStopped)
    assert [event.seq for event in events] == list(range(len(events)))
    assert result.stop_reason is events[-1].stop_reason
    assert (result.stop_detail is None) == (result.stop == "ok")

    asked = sum(call.tool_requests or 0 for call in model_calls)
    assert len(tool_calls) == asked == len({(call.step, call.call_ix) for call in tool_calls})
    shown = [m for m in sink.messages.values() if m.role == "tool"]
    assert all(isinstance(m.text, str) for m in shown)

    called = sum(len(tool.calls) for tool in agent.tools)
    assert called == sum(call.served_how is ServedHow.LIVE for call in tool_calls)
    for call in tool_calls:
        if call.effect is Effect.WRITE and call.served_how is ServedHow.LIVE:
            assert intents[call.step, call.call_ix] < call.seq
        if call.outcome.is_refusal:
            assert call.served_how is None
            assert call.error
    assert agent.tools_by_name["hidden"].calls == []
    assert approves or agent.tools_by_name["pay"].calls == []

    used = result.usage
    assert budget.max_steps is None or used.steps <= budget.max_steps
    assert budget.max_tool_calls is None or called <= used.tool_calls <= budget.max_tool_calls
    assert used.usd == events[-1].used_usd
    assert used.tokens == 100 * len([c for c in model_calls if c.outcome is Outcome.OK])


def table(sink):
    """Events without what parallel threads may order or time differently."""
    rows = [
        json.loads(json.dumps({n: getattr(e, n) for n in e.__struct_fields__}, default=str))
        for e in sink.events
    ]
    for row in rows:
        for name in ("seq", "at", "elapsed_ms", "latency_ms", "prompt_base_seq", "result_digest"):
            row.pop(name, None)
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


@settings(max_examples=60, deadline=None)
@given(STEPS, LIMITS, st.booleans(), STOP_ON)
def test_sync_and_async_agree_on_any_script(script, limit, approves, stop_on):
    # One flaky call per step: which of two parallel calls meets the failure is chance.
    script = [
        [call for at, call in enumerate(calls) if call[0] != "flaky" or at == 0] for calls in script
    ]
    budget = Budget(max_steps=5, max_seconds=None, max_tool_calls=limit)
    sinks, results = [], []
    for mode in ("sync", "async"):
        agent, clock = make(script, budget, approves, stop_on)
        sink, context = MemorySink(), RunContext("run")
        if mode == "sync":
            result = run(agent, Task("t", "go"), sink=sink, clock=clock, context=context)
        else:
            running = run_async(agent, Task("t", "go"), sink=sink, clock=clock, context=context)
            result = asyncio.run(running)
        sinks.append(sink)
        results.append((result.stop, result.stop_detail, result.answer, result.usage))
    assert results[0] == results[1]
    assert table(sinks[0]) == table(sinks[1])
