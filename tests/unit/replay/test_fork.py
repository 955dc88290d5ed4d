"""Forks: recorded before a step, the candidate's own from there on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flightlog.errors import AgentError
from flightlog.replay.cassette import Recording
from flightlog.replay.fork import Forked, fork
from flightlog.replay.overlaid import OverlayExecutor
from flightlog.replay.overlay import Action, Overlay
from flightlog.replay.replayer import replay
from flightlog.runtime.agent import Agent
from flightlog.runtime.model import ModelRequest, ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.trace.events import RunStarted
from flightlog.trace.messages import ToolRequest
from flightlog.trace.sink import MemorySink
from tests.unit.replay.world import TOOLS, Call, executor_over, record

GET: Call = ("get", {"key": "a"})
PUT: Call = ("put", {"key": "a", "value": 5})
TASK = Task("t", "Do it.")


def _ask(*calls: Call) -> ModelResponse:
    requests = [ToolRequest(f"c{ix}", n, json.dumps(a)) for ix, (n, a) in enumerate(calls)]
    return ModelResponse(tool_requests=tuple(requests))


def _agent(*answers: ModelResponse) -> Agent:
    policy = Policy(allow=tuple(tool.name for tool in TOOLS), approver=approve_all)
    return Agent("a", ScriptedModel("m", answers), tools=TOOLS, policy=policy)


def _recorded() -> Recording:
    agent = _agent(_ask(GET, ("get", {"key": "b"})), _ask(PUT), ModelResponse(text="Done."))
    world = executor_over(record([GET, ("get", {"key": "b"}), PUT]))
    return replay(agent, TASK, world, sink=MemorySink(), context=RunContext()).run


def _fork(step: int, agent: Agent, *overlays: Overlay) -> Forked:
    recording = _recorded()
    cassette = executor_over(recording).cassette
    executor = OverlayExecutor(cassette, overlays, golden="t")
    context = RunContext()
    return fork(recording, step, agent, TASK, executor, sink=MemorySink(), context=context)


@pytest.mark.parametrize(("step", "asked"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 0)])
def test_the_candidate_is_asked_from_its_step_on(step: int, asked: int) -> None:
    model = ScriptedModel("m", [ModelResponse(text="Mine.")])
    forked = _fork(step, replace(_agent(), model=model))
    assert len(model.requests) == asked
    assert forked.replayed.result.answer == ("Mine." if asked else "Done.")
    assert len(forked.replayed.calls) == (0, 0, 2, 3, 3)[step]
    assert (forked.is_counterfactual, forked.replayed.executor.live_tool_calls) == (False, 0)


def test_a_changed_prompt_before_the_fork_makes_the_run_counterfactual() -> None:
    forked = _fork(3, replace(_agent(ModelResponse(text="Mine.")), system="Be brief."))
    assert (forked.changed_prompts, forked.is_counterfactual) == ((1, 2), True)


def test_a_run_with_overlays_is_labelled_counterfactual() -> None:
    overlay = Overlay(Action.REPLACE, step=1, value="other")
    forked = _fork(2, _agent(ModelResponse(text="Mine.")), overlay)
    started = next(e for e in forked.replayed.run.events if isinstance(e, RunStarted))
    assert {label.key for label in started.labels} >= {"counterfactual"}
    assert [call.result for call in forked.replayed.calls] == ["other", "other"]


def test_an_async_candidate_goes_on_from_its_step() -> None:
    class Async:
        name = "m"

        async def complete(self, request: ModelRequest) -> ModelResponse:
            return ModelResponse(text="Mine.")

    forked = _fork(2, replace(_agent(), model=Async()))
    assert (forked.replayed.result.answer, len(forked.replayed.calls)) == ("Mine.", 2)


@pytest.mark.parametrize("step", [-1, 5])
def test_a_step_that_the_run_does_not_have_is_an_error(step: int) -> None:
    with pytest.raises(AgentError, match="a fork at step"):
        _fork(step, _agent())
