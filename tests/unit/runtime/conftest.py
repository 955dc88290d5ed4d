"""What the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunResult, run
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeClock, ScriptedModel
from flightlog.trace.events import Event
from flightlog.trace.sink import MemorySink

Play = Callable[..., RunResult]


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def play(sink: MemorySink, clock: FakeClock) -> Play:
    """Plays a script with some tools on the virtual clock; writes are approved."""

    def play_script(
        answers: Any, tools: Sequence[Tool] = (), budget: Budget | None = None, **more: Any
    ) -> RunResult:
        policy = more.pop("policy", None) or Policy(
            tuple(tool.name for tool in tools), budget or Budget(), approver=approve_all
        )
        options = {name: more.pop(name) for name in ("executor", "context") if name in more}
        options["clock"] = more.pop("clock", clock)
        task = more.pop("task", Task("task", "Do it."))
        agent = Agent("agent", ScriptedModel("m", answers), tools, policy=policy, **more)
        return run(agent, task, sink=sink, **options)

    return play_script


@pytest.fixture
def rows(sink: MemorySink) -> Callable[[str], list[Any]]:
    """The recorded events of one kind, in their order."""

    def of_kind(kind: str) -> list[Event]:
        return [event for event in sink.events if event.__struct_config__.tag == kind]

    return of_kind


@pytest.fixture
def done() -> ModelResponse:
    return ModelResponse("done")
