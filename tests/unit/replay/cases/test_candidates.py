"""Hard cases of candidates: tools nobody has, refusals, limits, early ends, inner agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.divergence import Cause
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.replay.validity import Validity
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, StopReason
from tests.unit.replay.cases.story import Call, Story, shelf

GET: Call = ("get", {"key": "a"})
PUT: Call = ("put", {"key": "a", "value": 5})


def test_hallucinated_tool_is_refused_as_it_was_and_no_miss(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(("no_such_tool", {"x": 1}), GET)
    told = story.replay(("no_such_tool", {"x": 1}), GET)
    assert told.calls[0].outcome.is_refusal
    assert (told.trial.misses, told.trial.level, told.seen[1]) == ((), "exact", 1)
    assert told.trial.trust.validity is Validity.COMPARABLE


def test_newly_hallucinated_tool_is_refused_and_the_rest_is_served(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET)
    told = story.replay(("no_such_tool", {}), GET)
    assert (told.trial.misses, told.seen[1]) == ((), 1)
    assert told.calls[0].outcome.is_refusal
    assert told.trial.passed


def test_renamed_tool_is_a_difference_of_the_toolset(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET)
    renamed = [replace(tool, name="fetch") if tool.name == "get" else tool for tool in shelf()()]
    told = story.replay(("fetch", {"key": "a"}), tools=renamed)
    assert told.seen == ["replay_miss"]
    assert told.trial.divergence is not None
    assert told.trial.divergence.cause is Cause.TOOLSET


def test_refused_calls_of_a_golden_are_no_observations(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf(), allow=("get",))
    live = story.record(PUT, GET)
    assert live[0].outcome is Outcome.DENIED
    assert story.replay(PUT, GET).trial.level == "exact"
    told = story.replay(PUT, GET, allow=("*",))
    assert told.seen == ["replay_miss"]
    assert told.trial.passed is not True


def test_run_without_calls_is_served_and_a_call_beyond_it_is_a_miss(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record()
    told = story.replay()
    assert (told.calls, told.trial.passed, told.trial.level) == ((), True, "exact")
    told = story.replay(GET)
    assert (told.seen, told.trial.passed) == (["replay_miss"], None)


def test_candidate_that_stops_early_fails_for_the_writes_it_left_out(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET, PUT)
    told = story.replay(GET)
    assert (told.trial.passed, told.trial.misses) == (False, ())
    assert "put" in told.trial.judgement.detail
    assert told.trial.trust.validity is Validity.COMPARABLE


def test_candidate_that_leaves_out_a_read_passes(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET, PUT, GET)
    assert story.replay(PUT).trial.passed


@pytest.mark.parametrize(("limit", "outcomes"), [(2, ["ok", "ok"]), (1, ["ok", "budget"])])
def test_budget_binds_at_its_limit_and_not_before(
    tmp_path: Path, limit: int, outcomes: list[str]
) -> None:
    story = Story(tmp_path, shelf())
    budget = Budget(max_tool_calls=limit)
    live = story.record(GET, PUT, budget=budget)
    assert [str(call.outcome) for call in live] == outcomes
    told = story.replay(GET, PUT, budget=budget)
    assert [str(call.outcome) for call in told.calls] == outcomes
    assert told.trial.level == "exact"


def test_reused_call_ids_of_a_provider_are_no_identity(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())  # the script gives every call the same id
    both: Sequence[Call] = [GET, ("get", {"key": "b"})]
    live = story.record(both, PUT, GET)
    assert {call.tool_call_id for call in live} == {"call_0"}
    told = story.replay(both, PUT, GET)
    assert told.seen == [1, 2, {"put": 5}, 5]
    assert told.trial.level == "exact"


def test_exception_of_a_tool_keeps_its_type_and_its_words(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(("remove", {"key": "z"}))
    [call] = story.replay(("remove", {"key": "z"})).calls
    assert (call.outcome, call.error_type) == (Outcome.FAILED, "LookupError")
    assert call.error == "no item z"


def _directly(inner: Agent) -> Any:
    return run(inner, Task("inner", "look"))


def _from_a_worker(inner: Agent) -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_directly, inner).result()


def _from_another_loop(inner: Agent) -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        task = Task("inner", "look")
        return pool.submit(lambda: asyncio.run(run_async(inner, task))).result()


@pytest.mark.parametrize("start", [_directly, _from_a_worker, _from_another_loop])
def test_tools_of_an_inner_agent_are_served_wherever_it_runs(
    tmp_path: Path, start: Callable[[Agent], Any]
) -> None:
    """The outer run reads the same thing itself, so that the recording can answer."""

    def tools() -> Sequence[Tool]:
        get, put, *_ = shelf()()

        def ask() -> str:
            called: list[str] = []

            def live(key: str) -> Any:
                called.append(key)
                return "live"

            own = Tool("get", fn=live, effect=Effect.READ, scopes=get.scopes)
            model = ScriptedModel("inner", [asking(("get", {"key": "a"})), ModelResponse("seen")])
            policy = Policy(("*",), Budget(max_seconds=None), approver=approve_all)
            done = start(Agent("inner", model, [own], policy=policy))
            return f"{done.stop_reason}, live calls: {len(called)}"

        return [get, put, Tool("ask", fn=ask, effect=Effect.PURE)]

    story = Story(tmp_path, tools)
    live = story.record(GET, ("ask", {}))
    assert live[1].result == "ok, live calls: 1"
    told = story.replay(GET, ("ask", {}))
    assert told.calls[1].result == "ok, live calls: 0"


@pytest.mark.parametrize(
    ("seconds", "stop", "elapsed_ms", "outcomes"),
    [
        (1.0, "ok", 1000.0, ["ok", "ok"]),
        (0.999, "max_seconds", 999.0, ["ok", "ok"]),
        (0.75, "max_seconds", 750.0, ["ok", "timed_out"]),
        (0.6, "max_seconds", 600.0, ["ok"]),
        (0.25, "max_seconds", 250.0, ["budget"]),
    ],
)
def test_seconds_are_cut_exactly_on_the_virtual_clock(
    seconds: float, stop: str, elapsed_ms: float, outcomes: list[str]
) -> None:
    recorded = MemorySink()
    writer = RunWriter(recorded, "rec")
    writer.started(task_id="t")
    for step, key in enumerate(("a", "b"), 1):
        args = f'{{"key":"{key}"}}'
        told = {"outcome": Outcome.OK, "result": "1", "latency_ms": 250.0}
        writer.tool_call(step=step, call_ix=0, tool_name="get", args=args, **told)
    writer.stopped(stop_reason=StopReason.OK)
    recording = Recording(tuple(recorded.events), recorded.messages)
    model = ScriptedModel(
        "m",
        [
            asking(("get", {"key": "a"}), latency_ms=250.0),
            asking(("get", {"key": "b"}), latency_ms=125.0),
            ModelResponse("done", latency_ms=125.0),
        ],
    )
    policy = Policy(("*",), Budget(max_seconds=seconds), approver=approve_all)
    tools = shelf()()
    executor = StateAwareExecutor(Cassette([recording], Rules(tools)), golden="g")
    done = replay(
        Agent("a", model, tools, policy=policy),
        Task("t", "go"),
        executor,
        sink=MemorySink(),
        context=RunContext(),
    )
    assert done.run.stopped is not None
    assert (done.result.stop, done.run.stopped.elapsed_ms) == (stop, elapsed_ms)
    assert [str(call.outcome) for call in done.calls] == outcomes
