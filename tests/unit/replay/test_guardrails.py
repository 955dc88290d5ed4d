"""Guardrails in a replay: as in production, but nobody is asked and nothing is shared with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flightlog
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.control.window_budget import WindowBudget
from flightlog.replay.cassette import Recording
from flightlog.replay.replayer import replay
from flightlog.runtime.agent import Agent
from flightlog.runtime.approvers import queue_approver, terminal_approver
from flightlog.runtime.budget import Budget
from flightlog.runtime.calls import Served
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking
from flightlog.trace.events import ToolCall, encode_event
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, ServedHow
from tests.unit.replay.world import executor_over, write_call

TOOLS = (
    Tool("look", effect=Effect.READ, scopes=("x",)),
    Tool("pay", effect=Effect.WRITE, scopes=("x",), is_idempotent=True),
)
TASK = Task("t", "go")


def recording(*calls):
    """A recorded run of (tool, outcome) calls, one per step."""
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.started(task_id="t")
    for step, (name, outcome) in enumerate(calls, 1):
        served = Served(outcome, result="done" if outcome is Outcome.OK else None, latency_ms=10)
        write_call(writer, name, {}, served, step=step)
    writer.stopped(stop_reason="ok")
    return Recording(tuple(sink.events), sink.messages)


def candidate(*names, tools=TOOLS, credentials=None, **policy):
    script = [asking((name, {})) for name in names] + [ModelResponse("end")]
    given = {"approver": approve_all, "budget": Budget(max_seconds=None), **policy}
    own = Policy(("look", "pay"), **given)
    return Agent("a", ScriptedModel("m", script), tools, policy=own, credentials=credentials)


def play(agent, *recorded, sink=None, tools=TOOLS):
    return replay(
        agent,
        TASK,
        executor_over(recording(*recorded), tools=tools),
        sink=sink or MemorySink(),
        context=RunContext(run_id="cand", tenant="acme"),
    )


def outcomes(replayed):
    return [call.outcome.value for call in replayed.calls]


@pytest.mark.parametrize("kind", ["queue", "terminal"])
def test_no_person_is_asked_and_no_approval_of_production_is_spent(tmp_path, kind):
    control = Control.at(tmp_path / "store")
    approver = queue_approver(control) if kind == "queue" else terminal_approver()
    done = play(candidate("pay", approver=approver), ("pay", Outcome.OK))
    assert (done.result.stop, outcomes(done)) == ("ok", ["ok"])
    assert not (tmp_path / "store").exists()


def test_write_that_a_person_denied_stays_denied():
    done = play(candidate("pay", approver=terminal_approver()), ("pay", Outcome.APPROVAL_DENIED))
    assert outcomes(done) == ["approval_denied"]


def test_approver_of_the_agents_own_code_is_part_of_the_candidate():
    done = play(candidate("pay", approver=lambda request: False), ("pay", Outcome.OK))
    assert outcomes(done) == ["approval_denied"]


def test_kill_switch_breakers_and_windows_of_production_have_no_say(tmp_path):
    store = tmp_path / "store"
    with flightlog.Recorder(store) as recorder:
        control = recorder.control
        control.kill_switch.turn_on(KillMode.STOP_ALL, who="ops", why="x", at_us=0)
        window = WindowBudget(3600, max_tool_calls=1)
        control.windows.reserve("acme", window, 1.8e9, tool_calls=1)
        agent = candidate("look", tenant_budgets={"acme": window})
        assert play(agent, ("look", Outcome.OK), sink=recorder).result.stop == "ok"
        assert control.windows.used("acme", 3600, 1.8e9).tool_calls == 1


RETRY = RetryPolicy(max_attempts=3, initial_s=1, jitter=0.5)


def test_recorded_failures_are_tried_again_from_the_recording_in_their_order():
    recorded = [("look", Outcome.FAILED), ("look", Outcome.TIMED_OUT), ("look", Outcome.OK)]
    done = play(candidate("look", retries={"look": RETRY}), *recorded)
    assert outcomes(done) == ["failed", "timed_out", "ok"]
    assert [call.attempt for call in done.calls] == [1, 2, 3]
    assert {call.served_how for call in done.calls} == {ServedHow.RECORDED}


def test_breaker_opens_in_a_replay_as_it_would_live():
    policy = {"look": BreakerPolicy(min_calls=2)}
    done = play(candidate("look", "look", "look", breakers=policy), *[("look", Outcome.FAILED)] * 3)
    assert outcomes(done) == ["failed", "failed", "circuit_open"]


def test_repeated_read_is_answered_from_the_runs_own_result():
    tools = (replace(TOOLS[0], reuse_result=True), TOOLS[1])
    done = play(candidate("look", "look", tools=tools), ("look", Outcome.OK), tools=tools)
    assert outcomes(done) == ["ok", "deduplicated"]


@pytest.mark.parametrize("credentials", [None, "unset"])
def test_replay_needs_no_secrets(credentials):
    needing = (replace(TOOLS[0], credentials=("api_key",)), TOOLS[1])
    held = None
    if credentials:
        held = Credentials({"acme": {"look": {"api_key": {"env": "NOT_SET_ANYWHERE"}}}})
    agent = candidate("look", tools=needing, credentials=held)
    assert outcomes(play(agent, ("look", Outcome.OK), tools=needing)) == ["ok"]


def test_replay_denies_a_tool_whose_credential_the_tenant_was_never_given():
    needing = (replace(TOOLS[0], credentials=("api_key",)), TOOLS[1])
    held = Credentials({"other": {"look": {"api_key": "secret-value"}}})
    agent = candidate("look", tools=needing, credentials=held)
    assert outcomes(play(agent, ("look", Outcome.OK), tools=needing)) == ["denied"]


def test_two_replays_with_retries_and_breakers_give_the_same_events():
    def events():
        sink = MemorySink()
        agent = candidate(
            "look", "pay", retries={"*": RETRY}, breakers={"*": BreakerPolicy(min_calls=2)}
        )
        play(agent, ("look", Outcome.FAILED), ("look", Outcome.OK), ("pay", Outcome.OK), sink=sink)
        return [encode_event(event) for event in sink.events if isinstance(event, ToolCall)]

    assert events() == events()
