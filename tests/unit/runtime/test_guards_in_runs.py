"""The guards within runs: each finding is an event, each action works, a replay tells the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.control.breaker_policy import BreakerPolicy, Fallback
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.from_config import agent_settings
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.loop import RunContext, run, run_async
from flightlog.runtime.model import ModelRequest, Usage, UserTurn
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.prompt_fit import keep_last, keep_policy_and_last
from flightlog.runtime.task import Task
from flightlog.testing import (
    FakeClock,
    FakeTool,
    MemorySink,
    ScriptedModel,
    ScriptedUser,
    asking,
    saying,
)
from flightlog.trace.events import ModelCall, StateChanged, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Effect, Outcome, StopReason

SYSTEM = "Never refund more than 50 USD."
TASK = Task("t", "Do it.")
DONE = saying("done")
LIMITS = Budget(max_steps=100, max_tool_calls=100)
LOOK = asking(("look", {"n": 1}))
PAY = asking(("pay", {"usd": 5}))


def policy(action: GuardAction | None = None, *guards: Guard, **thresholds: Any) -> Policy:
    actions = {guard: action for guard in guards if action is not None}
    return Policy(("*",), LIMITS, approver=approve_all, guards=GuardPolicy(actions, **thresholds))


def guarded(sink: MemorySink) -> list[tuple[int | None, str, str, str | None]]:
    """Step, states and tool of what the guards found."""
    return [
        (event.step, event.state_from, event.state_to, event.tool_name)
        for event in sink.events
        if isinstance(event, StateChanged) and event.subject == "guard"
    ]


def details(sink: MemorySink) -> list[str]:
    return [
        event.detail or ""
        for event in sink.events
        if isinstance(event, StateChanged) and event.subject == "guard"
    ]


def outcomes(sink: MemorySink) -> list[Outcome]:
    return [event.outcome for event in sink.events if isinstance(event, ToolCall)]


class Limited(ScriptedModel):
    """A model that tells its context window."""

    context_limit = 1_000


def reach(guard: Guard, action: GuardAction, sink: MemorySink) -> Any:
    """A run in which just this guard has something to find."""
    script: Any = [LOOK] * 3
    given: dict[str, Any] = {"repeats": 50, "stalled_steps": 50}
    fit, model, tool = None, ScriptedModel, FakeTool("look", "found")
    if guard is Guard.REPEATED_CALL:
        given["repeats"] = 3
    elif guard is Guard.CYCLE:
        script = [asking(("look", {"n": n % 2})) for n in range(6)]
    elif guard is Guard.NO_PROGRESS:
        given["stalled_steps"] = 2
    elif guard is Guard.PROMPT_GROWTH:
        given |= {"growth_factor": 2.0, "growth_bytes": 500}
        tool = FakeTool("look", "x" * 1_000)
        script = [LOOK]
    elif guard is Guard.CONTEXT_LIMIT:
        model = Limited
        script = [asking(("look", {"n": 1}), usage=Usage(895, 5))]
        tool = FakeTool("look", "x" * 100)
    elif guard is Guard.TRUNCATED:
        fit = keep_policy_and_last(4)
    else:
        fit = keep_last(4)
        given = {"repeats": 50}
    agent = Agent(
        "a",
        model("m", [*script, PAY, DONE]),
        [tool, FakeTool("pay", effect=Effect.WRITE)],
        system=SYSTEM,
        policy=policy(action, guard, **given),
        fit=fit,
    )
    return run(agent, TASK, sink=sink, clock=FakeClock())


FOUND_AT = {
    Guard.REPEATED_CALL: 3,
    Guard.CYCLE: 6,
    Guard.NO_PROGRESS: 3,
    Guard.PROMPT_GROWTH: 2,
    Guard.CONTEXT_LIMIT: 2,
    Guard.TRUNCATED: 3,
    Guard.POLICY_LOST: 3,
}
NUMBERS = {
    Guard.REPEATED_CALL: "'look' was called 3 times with the same arguments and result, at step 3",
    Guard.CYCLE: "2 steps were repeated 3 times: 'look' -> 'look', at step 6",
    Guard.NO_PROGRESS: "2 steps in a row brought no new observation, at step 3",
    Guard.PROMPT_GROWTH: "1052 bytes is 29.2 times the first one, at step 2",
    Guard.CONTEXT_LIMIT: "has 924 of 1000 tokens of the context window",
    Guard.TRUNCATED: "prompt of 4 messages, 57 bytes lacks messages of the conversation, "
    "which has 6, at step 3",
    Guard.POLICY_LOST: "bytes lacks the system policy, at step 3",
}


@pytest.mark.parametrize("guard", Guard)
def test_each_finding_is_an_event_with_its_step_and_numbers(guard):
    sink = MemorySink()
    assert reach(guard, GuardAction.RECORD, sink).stop == "ok"
    found = [place for place, row in enumerate(guarded(sink)) if row[2] == guard]
    step, before, _, tool = guarded(sink)[found[0]]
    assert (step, before) == (FOUND_AT[guard], "ok")
    assert tool == ("look" if guard is Guard.REPEATED_CALL else None)
    assert NUMBERS[guard] in details(sink)[found[0]]
    assert outcomes(sink)[-1] is Outcome.OK  # the write was made


@pytest.mark.parametrize("guard", Guard)
def test_read_only_refuses_the_next_write_and_offers_no_write_tool(guard):
    sink = MemorySink()
    result = reach(guard, GuardAction.READ_ONLY, sink)
    assert result.stop == "ok"
    calls = [event for event in sink.events if isinstance(event, ToolCall)]
    assert (calls[-1].tool_name, calls[-1].outcome) == ("pay", Outcome.DENIED)
    assert calls[-1].error_type == "read_only"
    assert NUMBERS[guard] in (calls[-1].error or "")
    degraded = [e for e in sink.events if isinstance(e, StateChanged) and e.subject == "degrade"]
    assert [(e.step, e.state_from, e.state_to) for e in degraded] == [
        (FOUND_AT[guard], "normal", "read_only")
    ]


@pytest.mark.parametrize(
    ("guard", "first_without"), [(Guard.REPEATED_CALL, 4), (Guard.POLICY_LOST, 3)]
)
def test_from_the_finding_on_the_model_is_offered_no_write_tool(guard, first_without):
    """Of a prompt this is the very request that it was found in."""
    offered = {}

    def answer(request: ModelRequest) -> Any:
        offered[request.step] = [tool.name for tool in request.tools]
        return LOOK if request.step < 6 else DONE

    tools = [FakeTool("look"), FakeTool("pay", effect=Effect.WRITE)]
    fit = keep_last(4) if guard is Guard.POLICY_LOST else None
    bound = policy(GuardAction.READ_ONLY, guard)
    run(Agent("a", ScriptedModel("m", answer), tools, system=SYSTEM, policy=bound, fit=fit), TASK)
    assert [step for step, names in offered.items() if "pay" in names] == [*range(1, first_without)]
    assert all("look" in names for names in offered.values())


@pytest.mark.parametrize("guard", Guard)
def test_stop_ends_the_run_with_what_was_found(guard):
    sink = MemorySink()
    result = reach(guard, GuardAction.STOP, sink)
    assert result.stop_reason is guard.stop_reason
    assert NUMBERS[guard] in result.stop_detail
    assert result.partial
    models = [event for event in sink.events if isinstance(event, ModelCall)]
    is_loop = guard.stop_reason is StopReason.LOOP_DETECTED
    # A loop ends after the tools of the step, a prompt before the model is asked.
    assert len(models) == (FOUND_AT[guard] if is_loop else FOUND_AT[guard] - 1)
    assert len(outcomes(sink)) == len(models)
    assert guarded(sink)[-1][0] == FOUND_AT[guard]


def test_all_that_was_found_is_recorded_when_one_of_it_stops(play, sink):
    bound = policy(GuardAction.STOP, Guard.NO_PROGRESS, repeats=3, stalled_steps=2)
    result = play([LOOK] * 9, [FakeTool("look")], policy=bound)
    assert result.stop_reason is StopReason.LOOP_DETECTED
    assert {row[2] for row in guarded(sink)} == {"repeated_call", "no_progress"}


def test_findings_of_a_step_that_ends_the_run_anyway_are_recorded(play, sink):
    answers = [ValueError("down")]
    bound = Policy(("*",), LIMITS, stop_on={Outcome.FAILED}, guards=GuardPolicy(stalled_steps=2))
    script = [asking(("hot", {"n": 1})), asking(("hot", {"n": 2}), ("look", {}))]
    result = play(script, [FakeTool("look", answers), FakeTool("hot", "same")], policy=bound)
    assert result.stop == "tool_failed:look"
    script = [asking(("hot", {"n": n})) for n in range(2)] + [asking(("hot", {}), ("look", {}))]
    sink.events.clear()
    result = play(script, [FakeTool("look", answers), FakeTool("hot", "same")], policy=bound)
    assert result.stop == "tool_failed:look"
    assert guarded(sink) == [(3, "ok", "no_progress", None)]


def test_read_only_of_a_guard_outlasts_breakers_of_all_tools(play, sink):
    """A breaker that matches everything has nothing to say of a guard."""
    breakers = {"*": BreakerPolicy(fallback=Fallback.READ_ONLY)}
    bound = Policy(
        ("*",),
        LIMITS,
        approver=approve_all,
        breakers=breakers,
        guards=GuardPolicy({Guard.REPEATED_CALL: GuardAction.READ_ONLY}),
    )
    tools = [FakeTool("look"), FakeTool("pay", effect=Effect.WRITE)]
    play([*[LOOK] * 3, asking(("look", {"n": 2})), PAY, PAY, DONE], tools, policy=bound)
    assert outcomes(sink)[-2:] == [Outcome.DENIED] * 2
    assert tools[1].calls == []


def test_read_only_of_a_guard_outlasts_that_of_a_tool_of_the_same_name(play, sink, clock):
    breakers = {"truncated": BreakerPolicy(min_calls=1, open_s=1, fallback=Fallback.READ_ONLY)}
    guards = GuardPolicy({Guard.REPEATED_CALL: GuardAction.READ_ONLY}, repeats=2)
    bound = Policy(("*",), LIMITS, approver=approve_all, breakers=breakers, guards=guards)
    slow = FakeTool("look", clock=clock, latency_ms=2_000)
    tools = [FakeTool("truncated", [OSError("x")]), slow, FakeTool("pay", effect=Effect.WRITE)]
    play([asking(("truncated", {})), LOOK, LOOK, PAY, DONE], tools, policy=bound)
    assert outcomes(sink) == [Outcome.FAILED, Outcome.OK, Outcome.OK, Outcome.DENIED]
    degraded = [
        (e.step, e.tool_name, e.state_to)
        for e in sink.events
        if isinstance(e, StateChanged) and e.subject == "degrade"
    ]
    assert degraded == [
        (1, "truncated", "without_tool"),
        (1, None, "read_only"),
        (3, "truncated", "normal"),
        (3, None, "normal"),
        (3, None, "read_only"),
    ]


def test_deduplicated_calls_are_calls_to_the_guards(play, sink):
    tool = FakeTool("look", reuse_result=True)
    play([LOOK] * 6 + [DONE], [tool], policy=policy())
    assert outcomes(sink)[1:] == [Outcome.DEDUPLICATED] * 5
    assert [(row[0], row[2]) for row in guarded(sink)] == [
        (3, "repeated_call"),
        (6, "repeated_call"),
        (6, "no_progress"),
    ]


def test_denied_calls_to_tools_that_do_not_exist_are_a_loop(play, sink):
    bound = policy(GuardAction.STOP, Guard.REPEATED_CALL)
    result = play([asking(("lok\ud800", {}))] * 5, [FakeTool("look")], policy=bound)
    assert result.stop_reason is StopReason.LOOP_DETECTED
    assert outcomes(sink) == [Outcome.DENIED] * 3
    assert guarded(sink)[-1][3] == "lok\ufffd\ufffd\ufffd"


def test_attempts_of_one_call_are_no_repetition(play, sink):
    retries = {"look": flightlog.runtime.RetryPolicy(max_attempts=5, initial_s=0.1)}
    bound = Policy(("*",), LIMITS, retries=retries)
    play([LOOK, DONE], [FakeTool("look", [OSError("down")])], policy=bound)
    assert len(outcomes(sink)) == 5
    assert guarded(sink) == []


def test_a_user_with_new_questions_makes_the_same_call_right(play, sink):
    user = ScriptedUser([f"question {n}" for n in range(6)])
    bound = policy(GuardAction.STOP, Guard.REPEATED_CALL)
    script = [answer for _ in range(6) for answer in (LOOK, saying("so"))]
    task = Task("t", "")
    assert play(script, [FakeTool("look")], policy=bound, user=user, task=task).stop == "ok"
    assert guarded(sink) == []


def test_a_user_who_says_the_same_again_does_not(play, sink):
    user = ScriptedUser([UserTurn("try again")] * 6)
    bound = policy(GuardAction.STOP, Guard.REPEATED_CALL)
    script = [answer for _ in range(6) for answer in (LOOK, saying("so"))]
    result = play(script, [FakeTool("look")], policy=bound, user=user, task=Task("t", ""))
    assert result.stop_reason is StopReason.LOOP_DETECTED


# Columns of model calls


def columns(sink: MemorySink) -> list[tuple[bool | None, bool | None]]:
    calls = [event for event in sink.events if isinstance(event, ModelCall)]
    return [(event.is_truncated, event.has_policy) for event in calls]


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (None, [(False, True)] * 4),
        (keep_policy_and_last(100), [(False, True)] * 4),
        (keep_policy_and_last(4), [(False, True)] * 2 + [(True, True)] * 2),
        (keep_last(4), [(False, True)] * 2 + [(True, False)] * 2),
        (list, [(False, True)] * 4),
        (lambda messages: messages[1:], [(True, False)] * 4),
        (
            lambda messages: [Message(m.role, (m.text or "")[:5] or None) for m in messages],
            [(True, False)] * 4,
        ),
    ],
    ids=["none", "roomy", "policy", "last", "copy", "cut", "shortened"],
)
def test_each_model_call_says_what_its_prompt_lacks(play, sink, fit, expected):
    script = [*[asking(("look", {"n": n})) for n in range(3)], DONE]
    play(script, [FakeTool("look")], system=SYSTEM, fit=fit)
    assert columns(sink) == expected


def test_without_a_system_policy_it_is_unknown_whether_it_was_sent(play, sink):
    play([LOOK, DONE], [FakeTool("look")], fit=keep_last(1))
    assert columns(sink) == [(False, None), (True, None)]


def test_lost_policy_is_told_once_with_its_end(play, sink):
    lost = {3, 4, 5, 9}

    def fit(messages: tuple[Message, ...]) -> Any:
        step = sum(message.role == "assistant" for message in messages) + 1
        return messages[1:] if step in lost else messages

    script = [*[asking(("look", {"n": n})) for n in range(10)], DONE]
    tool = FakeTool("look", [f"page {n}" for n in range(10)])
    play(script, [tool], system=SYSTEM, fit=fit)
    assert [row[:3] for row in guarded(sink) if "policy_lost" in row] == [
        (3, "ok", "policy_lost"),
        (6, "policy_lost", "ok"),
        (9, "ok", "policy_lost"),
        (10, "policy_lost", "ok"),
    ]
    assert "no longer so at step 6; it was so from step 3 on" in details(sink)


def test_fit_that_gives_no_messages_ends_the_run_with_an_error(play, rows):
    result = play([DONE], fit=lambda messages: ["text"])
    assert result.stop_reason is StopReason.MODEL_ERROR
    assert "Agent.fit gave a str that is not a Message" in result.stop_detail
    assert rows("model_call") == []


# Drivers, replays, settings


def test_async_runs_find_the_same():
    def found(is_async: bool) -> Any:
        sink = MemorySink()
        bound = policy(GuardAction.STOP, Guard.NO_PROGRESS)
        agent = Agent("a", ScriptedModel("m", [LOOK] * 20), [FakeTool("look")], policy=bound)
        if is_async:
            result = asyncio.run(run_async(agent, TASK, sink=sink, clock=FakeClock()))
        else:
            result = run(agent, TASK, sink=sink, clock=FakeClock())
        return result.stop, guarded(sink), details(sink)

    assert found(is_async=True) == found(is_async=False)


def test_replay_finds_what_the_run_found(tmp_path):
    def agent(tools: Any) -> Agent:
        script = [*[LOOK] * 7, PAY, asking(("look", {"n": 2})), PAY, DONE]
        bound = policy(GuardAction.READ_ONLY, Guard.NO_PROGRESS)
        model = ScriptedModel("m", script)
        return Agent("a", model, tools, system=SYSTEM, policy=bound, fit=keep_last(6))

    tools = [FakeTool("look"), FakeTool("pay", effect=Effect.WRITE)]
    live = MemorySink()
    run(agent(tools), TASK, sink=live, clock=FakeClock())
    with flightlog.Recorder(tmp_path / "store") as recorder:
        run(agent(tools), TASK, sink=recorder, clock=FakeClock())
    cassette = Cassette(read_recordings(Store.open(tmp_path / "store")), Rules(tools))
    replayed = MemorySink()
    executor = StateAwareExecutor(cassette, golden="g")
    result = replay(agent(tools), TASK, executor, sink=replayed, context=RunContext()).result
    assert result.stop == "ok"
    assert guarded(live) == guarded(replayed)
    assert details(live) == details(replayed)
    assert outcomes(live) == outcomes(replayed)
    assert columns(live) == columns(replayed)
    assert {row[2] for row in guarded(live)} >= {"policy_lost", "truncated", "repeated_call"}


def test_guards_of_a_settings_file_bind_a_run(tmp_path: Path):
    path = tmp_path / "flightlog.yaml"
    path.write_text(
        "tools.allow: [look]\nguards: {actions: {repeated_call: stop}, repeats: 2}\n",
        encoding="utf-8",
    )
    model = ScriptedModel("m", [LOOK] * 9)
    result = run(Agent("a", model, [FakeTool("look")], **agent_settings(path)), TASK)
    assert result.stop_reason is StopReason.LOOP_DETECTED
    assert len(model.requests) == 2


def test_findings_of_a_store_can_be_asked_for(tmp_path):
    store = tmp_path / "store"
    tool = FakeTool("look", ["same"] * 6 + ["new"])
    bound = policy(None, repeats=50)
    with flightlog.Recorder(store) as recorder:
        agent = Agent("a", ScriptedModel("m", [*[LOOK] * 7, DONE]), [tool], policy=bound)
        run(agent, TASK, sink=recorder, clock=FakeClock())
    with flightlog.open(store) as traces:
        changes = traces.sql(
            "select step, state_from, state_to from events where subject = 'guard' order by seq"
        ).fetchall()
        [row] = traces.ask("guard_findings").to_pylist()
    assert changes == [(6, "ok", "no_progress"), (7, "no_progress", "ok")]
    assert (row["guard"], row["findings"], row["first_step"]) == ("no_progress", 1, 6)


def test_a_long_loop_leaves_few_events(play, sink):
    bound = Policy(("*",), Budget(max_steps=None, max_seconds=None, max_tool_calls=None))
    play([*[LOOK] * 1_000, DONE], [FakeTool("look")], policy=bound)
    assert len(outcomes(sink)) == 1_000
    assert len(guarded(sink)) == 17  # 9 doublings of 3 repeats, 8 of 5 steps without progress
