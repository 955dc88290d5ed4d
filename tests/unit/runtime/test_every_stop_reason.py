"""Every stop reason is reached through the public API, and its event tells what was spent."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog import Recorder
from flightlog.control.breaker_policy import BreakerPolicy, Fallback
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.control.window_budget import WindowBudget
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.approvers import queue_approver
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.policy import DEFAULT_STOP_ON, Decision, Policy, approve_all
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.result import RESULT_SCHEMA, RunContext, RunResult
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, ScriptedModel, asking, saying
from flightlog.trace.events import RunStopped
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, RunStatus, StopReason

PRICES = PriceTable({"m": Price(1.0, 1.0)}, use_public=False)
USAGE = Usage(600_000, 0)
FEW = Usage(10, 1)
LIMITS: dict[str, Any] = {
    "max_steps": 5,
    "max_seconds": 60,
    "max_tool_calls": 4,
    "max_usd": 10.0,
    "max_tokens": 10_000_000,
}
READ, WRITE = Effect.READ, Effect.WRITE
TASK = Task("t", "Go.")


@dataclass
class World:
    """What a scenario may use: a folder, a sink, a control, a clock."""

    folder: Path
    sink: Any = field(default_factory=MemorySink)
    control: Control = field(default_factory=Control.in_process)
    clock: FakeClock = field(default_factory=FakeClock)

    def play(
        self, script: Any, *tools: Any, limits: dict[str, Any] | None = None, **more: Any
    ) -> RunResult:
        around = {name: more.pop(name) for name in ("cancel", "executor") if name in more}
        stop_on = DEFAULT_STOP_ON | frozenset(more.pop("stop_on", ()))
        policy = Policy(
            more.pop("allow", ("*",)),
            Budget(**(LIMITS | (limits or {}))),
            approver=more.pop("approver", approve_all),
            stop_on=stop_on,
            **more,
        )
        model = ScriptedModel("m", script)
        agent = Agent("a", model, tools, policy=policy, prices=PRICES, system="Be brief.")
        return run(
            agent,
            TASK,
            sink=self.sink,
            clock=self.clock,
            control=self.control,
            context=RunContext(tenant="acme"),
            **around,
        )

    def stops(self) -> list[RunStopped]:
        return [event for event in self.sink.events if isinstance(event, RunStopped)]


Scenario = Callable[[World], "RunResult | None"]
SCENARIOS: dict[StopReason, Scenario] = {}


def reaches(reason: StopReason) -> Callable[[Scenario], Scenario]:
    def register(scenario: Scenario) -> Scenario:
        assert reason not in SCENARIOS
        SCENARIOS[reason] = scenario
        return scenario

    return register


def ask(*calls: Any, usage: Usage = FEW) -> ModelResponse:
    return asking(*calls, usage=usage)


def say(text: str, **more: Any) -> ModelResponse:
    return saying(text, usage=FEW, **more)


def calls(name: str, count: int) -> list[ModelResponse]:
    """That many steps of one call each, no two of them alike, and then an answer."""
    return [*(ask((name, {"n": n})) for n in range(count)), say("done")]


@reaches(StopReason.OK)
def _(world: World) -> RunResult:
    return world.play(calls("look", 2), FakeTool("look"))


@reaches(StopReason.MAX_STEPS)
def _(world: World) -> RunResult:
    return world.play(calls("look", 5), FakeTool("look"), limits={"max_tool_calls": None})


@reaches(StopReason.MAX_SECONDS)
def _(world: World) -> RunResult:
    slow = FakeTool("look", clock=world.clock, latency_ms=25_000.0)
    return world.play(calls("look", 4), slow)


@reaches(StopReason.MAX_TOOL_CALLS)
def _(world: World) -> RunResult:
    many = ask(*(("look", {"n": n}) for n in range(5)))
    return world.play([many, say("done")], FakeTool("look"))


@reaches(StopReason.MAX_USD)
def _(world: World) -> RunResult:
    script = [ask(("look", {"n": n}), usage=USAGE) for n in range(4)]
    return world.play(script, FakeTool("look"), limits={"max_usd": 1.0})


@reaches(StopReason.MAX_TOKENS)
def _(world: World) -> RunResult:
    script = [ask(("look", {"n": n}), usage=USAGE) for n in range(4)]
    return world.play(script, FakeTool("look"), limits={"max_tokens": 1_000_000})


@reaches(StopReason.TOOL_DENIED)
def _(world: World) -> RunResult:
    return world.play(calls("pay", 1), FakeTool("pay"), allow=("look",), stop_on=[Outcome.DENIED])


@reaches(StopReason.APPROVAL_DENIED)
def _(world: World) -> RunResult:
    tool = FakeTool("pay", effect=WRITE)
    stop_on = [Outcome.APPROVAL_DENIED]
    return world.play(calls("pay", 1), tool, approver=lambda _: False, stop_on=stop_on)


@reaches(StopReason.APPROVAL_PENDING)
def _(world: World) -> RunResult:
    approver = queue_approver(world.control)
    return world.play(calls("pay", 1), FakeTool("pay", effect=WRITE), approver=approver)


@reaches(StopReason.INVALID_TOOL_OUTPUT)
def _(world: World) -> RunResult:
    tool = FakeTool("look", [{"found": "x"}], output_schema={"type": "array"})
    return world.play(calls("look", 1), tool)


@reaches(StopReason.INVALID_TOOL_INPUT)
def _(world: World) -> RunResult:
    script = [ask(("look", "{broken")), say("done")]
    return world.play(script, FakeTool("look"), stop_on=[Outcome.INVALID_INPUT])


@reaches(StopReason.TOOL_FAILED)
def _(world: World) -> RunResult:
    tool = FakeTool("look", [ValueError("down")])
    return world.play(calls("look", 1), tool, stop_on=[Outcome.FAILED])


@reaches(StopReason.CIRCUIT_OPEN)
def _(world: World) -> RunResult:
    breaker = BreakerPolicy(min_calls=2, window_s=60, open_s=30, fallback=Fallback.STOP)
    tool = FakeTool("look", [ValueError("down")])
    return world.play(calls("look", 4), tool, breakers={"look": breaker})


@reaches(StopReason.KILL_SWITCH)
def _(world: World) -> RunResult:
    def throw(**_: Any) -> str:
        world.control.kill_switch.turn_on(KillMode.STOP_ALL, who="ops", why="", at_us=0)
        return "ok"

    return world.play(calls("look", 2), FakeTool("look", throw))


@reaches(StopReason.LOOP_DETECTED)
def _(world: World) -> RunResult:
    guards = GuardPolicy(actions={Guard.REPEATED_CALL: GuardAction.STOP}, repeats=3)
    script = [ask(("look", {"n": 1})) for _ in range(5)]
    return world.play(script, FakeTool("look"), guards=guards)


@reaches(StopReason.CONTEXT_OVERFLOW)
def _(world: World) -> RunResult:
    return world.play([say("So", finish_reason="model_context_window_exceeded")])


@reaches(StopReason.MODEL_ERROR)
def _(world: World) -> RunResult:
    return world.play([OSError("the model's server is away")])


@reaches(StopReason.MODEL_REFUSED)
def _(world: World) -> RunResult:
    return world.play([say("I would rather not.", finish_reason="refusal")])


@reaches(StopReason.CANCELLED)
def _(world: World) -> RunResult:
    token = CancelToken()

    def give_up(**_: Any) -> str:
        token.cancel("the user pressed stop")
        return "ok"

    return world.play(calls("look", 2), FakeTool("look", give_up), cancel=token)


@reaches(StopReason.REPLAY_MISS)
def _(world: World) -> RunResult:
    with Recorder(world.folder) as recorder:
        World(world.folder, recorder).play(calls("look", 1), FakeTool("look"))
    recordings = read_recordings(Store.open(world.folder))
    tools = (FakeTool("look"),)
    executor = StateAwareExecutor(Cassette(recordings, Rules(tools)), golden="g")
    policy = Policy(("*",), Budget(**LIMITS))
    script = [ask(("look", {"n": 7}))]
    agent = Agent("a", ScriptedModel("m", script), tools, policy=policy, prices=PRICES)
    return replay(agent, TASK, executor, sink=world.sink, context=RunContext()).result


@reaches(StopReason.CRASHED)
def _(world: World) -> None:
    class Broken:
        def resolve(self, call: Any) -> None:
            raise RuntimeError("a bug outside of any tool")

    with pytest.raises(RuntimeError, match="a bug"):
        world.play(calls("look", 1), FakeTool("look"), executor=Broken())


@reaches(StopReason.RECORDER_FAILED)
def _(world: World) -> RunResult:
    class FullDisk(MemorySink):
        def emit(self, event: Any, *, messages: Any = (), durable: bool = False) -> bool:
            return super().emit(event, messages=messages) and not durable

    world.sink = FullDisk()
    return world.play(calls("pay", 1), FakeTool("pay", effect=WRITE))


def test_every_stop_reason_has_a_scenario():
    assert set(SCENARIOS) == set(StopReason)


@pytest.mark.parametrize("reason", StopReason)
def test_the_reason_is_reached_and_its_event_tells_what_was_allowed_and_spent(reason, tmp_path):
    world = World(tmp_path / "store")
    result = SCENARIOS[reason](world)
    (event,) = world.stops()
    assert (event.stop_reason, event.status) == (reason, reason.status)
    for name in LIMITS:
        assert getattr(event, name) is not None or name == "max_tool_calls", name
        assert getattr(event, f"used_{name.removeprefix('max_')}") is not None, name
    assert (event.stop_detail is None) == (reason is StopReason.OK)
    if result is None:
        return
    assert (result.stop_reason, result.stop_detail) == (reason, event.stop_detail)
    assert result.partial == (reason.status is not RunStatus.COMPLETED)
    shown = json.loads(result.to_json())
    jsonschema_rs.validate(dict(RESULT_SCHEMA), shown)
    for name, use in shown["budgets"].items():
        assert use["used"] == getattr(event, f"used_{name.removeprefix('max_')}")
        assert use["allowed"] == getattr(event, name)


def test_a_limit_that_the_runs_of_a_tenant_share_is_told_as_such(tmp_path):
    world = World(tmp_path)
    window = WindowBudget(3600, max_tool_calls=2)
    result = world.play(calls("look", 3), FakeTool("look"), tenant_budgets={"acme": window})
    assert result.stop_reason is StopReason.MAX_TOOL_CALLS
    assert result.message.startswith("The agent stopped because it shares a limit on tool calls")


def test_a_run_whose_process_is_killed_is_found_to_have_crashed(tmp_path):
    """What it was allowed is in its end; what it spent is unknown, and never zero."""
    code = f"""
        import os, signal
        from flightlog import Recorder
        from flightlog.runtime.agent import Agent
        from flightlog.runtime.budget import Budget
        from flightlog.runtime.loop import run
        from flightlog.runtime.policy import Policy
        from flightlog.runtime.task import Task
        from flightlog.testing import FakeTool, ScriptedModel, asking

        def die(**_):
            os.kill(os.getpid(), signal.SIGKILL)

        policy = Policy(("*",), Budget(max_steps=5))
        model = ScriptedModel("m", [asking(("look", {{}}))])
        agent = Agent("a", model, [FakeTool("look", die)], policy=policy)
        run(agent, Task("t", "Go."), sink=Recorder({str(tmp_path / "store")!r}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Recorder(tmp_path / "store"):
        pass  # closing it seals what dead writers left
    (recording,) = read_recordings(Store.open(tmp_path / "store"))
    stop = recording.stopped
    assert stop is not None
    assert (stop.stop_reason, stop.status) == (StopReason.CRASHED, RunStatus.FAILED)
    assert (stop.max_steps, stop.max_tool_calls) == (5, 15)


@pytest.mark.parametrize("reason", [one for one in StopReason if one is not StopReason.OK])
def test_detail_of_a_stop_is_one_line_that_ends_with_one_full_stop(reason, tmp_path):
    world = World(tmp_path / "store")
    SCENARIOS[reason](world)
    assert is_clean(world.stops()[0].stop_detail)


def is_clean(detail: str | None) -> bool:
    """One line, no blanks at its ends or beside each other, and one sign at its end."""
    text = detail or ""
    return text == " ".join(text.split()) and bool(re.search(r"([^\s.:;,!?]\.|[!?])$", text))


WORDS = st.text(st.sampled_from("ab.:;, \n\t!?)"), max_size=12)
"""What others write: with a full stop or without, with blanks, in several lines, or nothing."""


class Shouting(Exception):  # noqa: N818 - as others name theirs
    """Says what it is told to."""


def failing_tool(world: World, words: str) -> None:
    world.play(calls("look", 1), FakeTool("look", [Shouting(words)]), stop_on=[Outcome.FAILED])


def failing_model(world: World, words: str) -> None:
    world.play([Shouting(words)])


def failing_prompt(world: World, words: str) -> None:
    def fit(messages: Any) -> Any:
        raise Shouting(words)

    policy = Policy(("*",), Budget(**LIMITS))
    agent = Agent("a", ScriptedModel("m", [say("x")]), (), policy=policy, prices=PRICES, fit=fit)
    run(agent, TASK, sink=world.sink, clock=world.clock)


def failing_user(world: World, words: str) -> None:
    class User:
        name = "u"

        def reply(self, messages: Any) -> Any:
            raise Shouting(words)

    policy = Policy(("*",), Budget(**LIMITS))
    agent = Agent(
        "a", ScriptedModel("m", [say("x")]), (), policy=policy, prices=PRICES, user=User()
    )
    run(agent, TASK, sink=world.sink, clock=world.clock)


def crashing(world: World, words: str) -> None:
    class Broken:
        def resolve(self, call: Any) -> None:
            raise Shouting(words)

    with pytest.raises(Shouting):
        world.play(calls("look", 1), FakeTool("look"), executor=Broken())


def cancelled(world: World, words: str) -> None:
    token = CancelToken()
    token.cancel(words)
    world.play(calls("look", 1), FakeTool("look"), cancel=token)


def denied(world: World, words: str) -> None:
    def approve(request: Any) -> bool:
        request.explain(words)
        return False

    tool = FakeTool("pay", effect=WRITE)
    world.play(calls("pay", 1), tool, approver=approve, stop_on=[Outcome.APPROVAL_DENIED])


def pending(world: World, words: str) -> None:
    def approve(request: Any) -> Decision:
        request.explain(words)
        return Decision.PENDING

    world.play(calls("pay", 1), FakeTool("pay", effect=WRITE), approver=approve)


def killed(world: World, words: str) -> None:
    switch = world.control.kill_switch
    switch.turn_on(KillMode.STOP_ALL, who="ops", why=words, at_us=0)
    world.play(calls("look", 1), FakeTool("look"))


@pytest.mark.parametrize(
    "way",
    [
        failing_tool,
        failing_model,
        failing_prompt,
        failing_user,
        crashing,
        cancelled,
        denied,
        pending,
        killed,
    ],
)
@given(words=WORDS)
def test_detail_of_a_stop_stays_clean_whatever_others_say(way, words):
    world = World(Path())
    way(world, words)
    assert is_clean(world.stops()[0].stop_detail)


@pytest.mark.parametrize("limit", ["max_tool_calls", "max_usd", "max_tokens"])
def test_detail_of_a_stop_by_the_tenants_budget_is_clean(limit):
    world = World(Path())
    window = WindowBudget(3600, **{limit: 1})
    script = [ask(("look", {"n": n}), usage=USAGE) for n in range(4)]
    world.play(script, FakeTool("look"), tenant_budgets={"*": window})
    (stop,) = world.stops()
    assert (stop.stop_reason, is_clean(stop.stop_detail)) == (StopReason(limit), True)
