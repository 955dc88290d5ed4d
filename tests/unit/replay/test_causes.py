"""What the first difference of a run comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.divergence import Cause, Divergence
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect

GET = ("get", {"key": "a"})
PUT = ("put", {"key": "a", "value": 5})
ADD = ("add", {"x": 1})


def tools(*, sum_: int = 2, description: str = "") -> list[Tool]:
    return [
        Tool(
            "get", lambda key: 1, effect=Effect.READ, scopes=("item:{key}",),
            description=description,
        ),
        Tool("put", lambda key, value: value, effect=Effect.WRITE, scopes=("item:{key}",)),
        Tool("add", lambda x: sum_, effect=Effect.PURE),
    ]  # fmt: skip


def agent(*steps: Any, name: str = "m", made: list[Tool] | None = None, **fields: Any) -> Agent:
    answers: list[ModelResponse | Exception] = [asking(*calls) for calls in steps]
    base = Agent(
        "a",
        ScriptedModel(name, [*answers, saying("Done.")]),
        tools=made or tools(),
        policy=Policy(allow=["get", "put", "add"], approver=approve_all),
    )
    return replace(base, **fields)


def diverges(recorded: Agent, candidate: Agent) -> Divergence | None:
    sink = MemorySink()
    task = Task("t", "Do it.")
    run(recorded, task, sink=sink)
    cassette = Cassette([Recording(tuple(sink.events), sink.messages)], Rules(recorded.tools))
    executor = StateAwareExecutor(cassette, golden="t")
    done = replay(candidate, task, executor, sink=MemorySink(), context=RunContext())
    return done.divergence


def test_equal_runs_have_none() -> None:
    assert diverges(agent([GET], [PUT], [ADD]), agent([GET], [PUT], [ADD])) is None


def test_another_decision_of_the_model_is_the_models() -> None:
    found = diverges(agent([GET], [PUT]), agent([GET], [("put", {"key": "a", "value": 500})]))
    assert found is not None
    assert (found.cause, found.step, found.changed) == (Cause.MODEL, 2, ())
    assert "args.value is 500, recorded 5" in str(found)


def test_another_model_is_named() -> None:
    found = diverges(agent([GET]), agent([GET], [GET], name="m2"))
    assert found is not None
    assert found.cause is Cause.MODEL
    assert "other: model m2, recorded m" in str(found)


def test_another_system_prompt_comes_before_the_model() -> None:
    candidate = agent([PUT], name="m2", system="Be quick.")
    found = diverges(agent([GET], system="Be kind."), candidate)
    assert found is not None
    assert found.cause is Cause.PROMPT
    assert found.changed == ("model m2, recorded m", "prompt")


def test_another_description_of_a_tool_is_the_toolsets() -> None:
    found = diverges(agent([GET]), agent([GET], [GET], made=tools(description="Reads.")))
    assert found is not None
    assert (found.cause, found.changed) == (Cause.TOOLSET, ("toolset",))


def test_other_declarations_of_scopes_are_no_other_toolset() -> None:
    made = [replace(tool, scopes=("item:*",)) if tool.name == "get" else tool for tool in tools()]
    found = diverges(agent([GET]), agent([GET], [GET], made=made))
    assert found is not None
    assert found.changed == ()


def test_another_answer_of_a_pure_tool_is_the_tools() -> None:
    found = diverges(agent([ADD], [GET]), agent([ADD], [PUT], made=tools(sum_=3)))
    assert found is not None
    assert (found.cause, found.step, found.tool_name) == (Cause.TOOL, 1, "add")


@pytest.mark.parametrize(
    "policy",
    [
        Policy(allow=["get"]),
        Policy(allow=["get", "put"], approver=lambda request: False),
        Policy(allow=["get", "put"], approver=approve_all, budget=Budget(max_tool_calls=1)),
    ],
    ids=["not allowed", "not approved", "over budget"],
)
def test_a_refusal_of_a_recorded_call_is_the_runtimes(policy: Policy) -> None:
    found = diverges(agent([GET], [PUT]), agent([GET], [PUT], policy=policy))
    assert found is not None
    assert (found.cause, found.step, found.tool_name) == (Cause.RUNTIME, 2, "put")


def test_a_budget_that_ends_the_run_early_is_the_runtimes() -> None:
    policy = Policy(allow=["get"], budget=Budget(max_steps=2))
    found = diverges(agent([GET], [GET], [GET]), agent([GET], [GET], [GET], policy=policy))
    assert found is not None
    assert (found.cause, found.step) == (Cause.RUNTIME, None)


def test_a_recorded_call_that_cannot_be_served_is_the_harness() -> None:
    steps = ([GET], [PUT, ("put", {"key": "a", "value": 6})], [GET])
    found = diverges(agent(*steps), agent(*steps))
    assert found is not None
    assert (found.cause, found.step, found.tool_name) == (Cause.HARNESS, 2, "put")


def test_an_end_that_alone_differs_is_told_with_both_ways() -> None:
    failing = replace(agent([GET]), model=ScriptedModel("m", [asking(GET), ConnectionError("x")]))
    found = diverges(agent([GET]), failing)
    assert found is not None
    assert found.cause is Cause.MODEL
    assert found.what == "it stopped with model_error, the recording with ok"
