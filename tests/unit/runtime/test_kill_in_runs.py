"""The rules of the kill switch within runs: at the next call, in every process, and recorded."""

from __future__ import annotations

import pytest

from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import DEFAULT_STOP_ON, Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.events import ToolIntent
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

DONE = ModelResponse("x")
GOING_ON = DEFAULT_STOP_ON - {Outcome.KILL_SWITCH}


def throw(control, mode, **more):
    control.kill_switch.turn_on(mode, who="ops", why="incident 7", at_us=0, **more)


@pytest.fixture
def control():
    return Control.in_process()


def start(control, script, tools, *, sink=None, tenant=None, stop_on=DEFAULT_STOP_ON, **more):
    policy = Policy(("*",), approver=approve_all, stop_on=stop_on, **more)
    agent = Agent("a", ScriptedModel("m", script), tools, policy=policy)
    context = RunContext(tenant=tenant)
    return run(
        agent, Task("t", "go"), sink=sink, clock=FakeClock(), control=control, context=context
    )


def test_disabled_writes_stop_the_run_at_the_first_write(control):
    throw(control, KillMode.DISABLE_WRITES)
    read, write = FakeTool("read"), FakeTool("pay", effect=Effect.WRITE)
    sink = MemorySink()
    script = [asking(("read", {})), asking(("pay", {})), DONE]
    result = start(control, script, [read, write], sink=sink)
    assert result.stop == "kill_switch"
    assert "disable_writes, by ops: incident 7" in result.stop_detail
    assert (len(read.calls), len(write.calls)) == (1, 0)


def test_run_may_go_on_without_writes(control):
    throw(control, KillMode.DISABLE_WRITES)
    write = FakeTool("pay", effect=Effect.WRITE)
    result = start(control, [asking(("pay", {})), DONE], [write], stop_on=GOING_ON)
    assert (result.stop, write.calls) == ("ok", [])


def test_unknown_effect_counts_as_a_write(control):
    throw(control, KillMode.DISABLE_WRITES)
    tool = FakeTool("a", effect=Effect.UNKNOWN)
    assert start(control, [asking(("a", {})), DONE], [tool]).stop == "kill_switch"


def test_disabled_tools_are_refused_and_others_run(control):
    throw(control, KillMode.DISABLE_TOOLS, tools="http.*")
    tools = [FakeTool("http.get"), FakeTool("search")]
    script = [asking(("search", {}), ("http.get", {})), DONE]
    assert start(control, script, tools, stop_on=GOING_ON).stop == "ok"
    assert [len(tool.calls) for tool in tools] == [0, 1]


def test_stop_all_stops_before_the_model_is_asked(control):
    throw(control, KillMode.STOP_ALL)
    model = ScriptedModel("m", [DONE])
    result = run(Agent("a", model), Task("t", "go"), control=control)
    assert (result.stop, model.requests) == ("kill_switch", [])


def test_stop_all_stops_whatever_the_policy_says(control):
    def throwing():
        throw(control, KillMode.STOP_ALL)
        return "x"

    tools = [FakeTool("a", throwing), FakeTool("b")]
    script = [asking(("a", {})), asking(("b", {})), DONE]
    assert start(control, script, tools, stop_on=frozenset()).stop == "kill_switch"
    assert tools[1].calls == []


def test_switch_thrown_in_mid_run_takes_effect_at_the_next_call(control):
    tools = [
        FakeTool("a", lambda: throw(control, KillMode.DISABLE_WRITES)),
        FakeTool("pay", effect=Effect.WRITE),
    ]
    script = [asking(("a", {})), asking(("pay", {})), DONE]
    assert start(control, script, tools).stop == "kill_switch"
    assert tools[1].calls == []


def test_switch_thrown_between_intent_and_call_prevents_the_call(control):
    class Throwing(MemorySink):
        def emit(self, event, *, messages=(), durable=False):
            if isinstance(event, ToolIntent):
                throw(control, KillMode.DISABLE_WRITES)
            return super().emit(event, messages=messages, durable=durable)

    sink, tool = Throwing(), FakeTool("pay", effect=Effect.WRITE)
    result = start(control, [asking(("pay", {})), DONE], [tool], sink=sink)
    assert (result.stop, tool.calls) == ("kill_switch", [])
    kinds = [event.__struct_config__.tag for event in sink.events]
    assert kinds.index("tool_intent") < kinds.index("tool_call")
    row = next(event for event in sink.events if event.__struct_config__.tag == "tool_call")
    assert row.outcome is Outcome.KILL_SWITCH


def test_switch_of_a_tenant_leaves_others_alone(control):
    throw(control, KillMode.STOP_ALL, tenant="acme")
    assert start(control, [DONE], [], tenant="acme").stop == "kill_switch"
    assert start(control, [DONE], [], tenant="other").stop == "ok"
    assert start(control, [DONE], []).stop == "ok"


@pytest.mark.parametrize(
    ("mode", "stops"), [("disable_writes", True), ("disable_tools:x.*", False), ("stop_all", True)]
)
def test_switch_without_a_mode_means_what_the_agents_policy_says(control, mode, stops):
    throw(control, KillMode.CONFIGURED)
    tool = FakeTool("pay", effect=Effect.WRITE)
    result = start(control, [asking(("pay", {})), DONE], [tool], kill_mode=mode)
    assert (result.stop == "kill_switch") is stops


def test_who_when_and_why_are_recorded_once_per_run(control):
    throw(control, KillMode.DISABLE_WRITES)
    sink, tool = MemorySink(), FakeTool("pay", effect=Effect.WRITE)
    start(control, [asking(*[("pay", {"n": n}) for n in range(3)])], [tool], sink=sink)
    changed = [e for e in sink.events if e.__struct_config__.tag == "state_changed"]
    assert [(e.subject, e.state_to) for e in changed] == [("kill_switch", "disable_writes")]
    assert "by ops: incident 7" in changed[0].detail


def test_switch_turned_off_lets_calls_through_again(control):
    throw(control, KillMode.STOP_ALL)
    control.kill_switch.turn_off()
    assert start(control, [DONE], []).stop == "ok"
