"""A whole candidate run through the loop, served from recordings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from flightlog.replay.replayer import Replayed, replay
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.model import ModelRequest, ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.trace.events import encode_event
from flightlog.trace.messages import ToolRequest
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Origin, Outcome, ServedHow, StopReason
from tests.unit.replay.world import TOOLS, Call, executor_over, record

GET: Call = ("get", {"key": "a"})
PUT: Call = ("put", {"key": "a", "value": 5})


def _answers(steps: list[list[Call]]) -> list[ModelResponse]:
    asked = [
        ModelResponse(
            tool_requests=tuple(
                ToolRequest(f"c{step}-{ix}", name, json.dumps(args))
                for ix, (name, args) in enumerate(calls)
            )
        )
        for step, calls in enumerate(steps)
    ]
    return [*asked, ModelResponse(text="Done.")]


def _agent(*steps: list[Call], **policy: object) -> Agent:
    allow = tuple(tool.name for tool in TOOLS)
    fields = {"allow": allow, "approver": approve_all, "budget": Budget(max_seconds=None)}
    return Agent(
        "a",
        ScriptedModel("m", _answers(list(steps))),
        tools=TOOLS,
        policy=Policy(**{**fields, **policy}),  # type: ignore[arg-type]
    )


def _replay(agent: Agent, *recorded: Call, sink: MemorySink | None = None) -> Replayed:
    return replay(
        agent,
        Task("t", "Do it."),
        executor_over(record(list(recorded))),
        sink=sink or MemorySink(),
        context=RunContext(run_id="cand", origin=Origin.REPLAY, golden="g"),
    )


def test_a_run_is_served_to_its_end_and_says_how() -> None:
    done = _replay(_agent([GET], [PUT], [GET]), GET, PUT, GET)
    assert done.result.stop_reason is StopReason.OK
    assert [call.result for call in done.calls] == ["1", "1", "5"]
    assert {call.served_how for call in done.calls} == {ServedHow.RECORDED}
    assert done.divergence is None


def test_a_miss_stops_the_run_with_its_reason() -> None:
    done = _replay(_agent([GET], [("get", {"key": "zzz"})], [GET]), GET)
    assert (done.result.stop_reason, done.result.stop_tool) == (StopReason.REPLAY_MISS, "get")
    assert done.calls[-1].outcome is Outcome.REPLAY_MISS
    assert "nearest recorded: step 1" in (done.result.stop_detail or "")
    assert done.divergence is not None
    assert done.divergence.step == 2


def test_a_tool_that_does_not_exist_is_denied_and_no_miss() -> None:
    done = _replay(_agent([("gett", {"key": "a"})], [GET]), GET)
    assert [call.outcome for call in done.calls] == [Outcome.DENIED, Outcome.OK]
    assert done.executor.misses == []
    assert done.result.stop_reason is StopReason.OK


def test_the_candidates_own_gateway_still_refuses() -> None:
    done = _replay(_agent([PUT], approver=None), PUT)
    assert [call.outcome for call in done.calls] == [Outcome.APPROVAL_DENIED]


def test_the_candidates_own_budget_still_binds() -> None:
    budget = Budget(max_tool_calls=1, max_seconds=None)
    done = _replay(_agent([GET], [GET], budget=budget), GET)
    assert done.result.stop_reason is StopReason.MAX_TOOL_CALLS


def test_parallel_calls_of_a_step_are_served_in_their_order() -> None:
    done = _replay(_agent([GET, PUT, GET]), GET, PUT, GET)
    assert [call.result for call in done.calls] == ["1", "1", "5"]


def test_the_same_candidate_gives_the_same_events_byte_for_byte() -> None:
    traces = []
    for _ in range(2):
        sink = MemorySink()
        _replay(_agent([GET, ("queue_size", {})], [PUT]), GET, ("queue_size", {}), PUT, sink=sink)
        traces.append(b"\n".join(encode_event(event) for event in sink.events))
    assert traces[0] == traces[1]


class _AsyncModel:
    name, provider = "async", None

    def __init__(self) -> None:
        self._answers = _answers([[GET]])

    async def complete(self, request: ModelRequest) -> ModelResponse:
        await asyncio.sleep(0)
        return replace(self._answers[request.step - 1], latency_ms=0.0)


def test_an_async_agent_is_replayed_too() -> None:
    done = _replay(replace(_agent(), model=_AsyncModel()), GET)
    assert done.result.stop_reason is StopReason.OK
    assert done.calls[0].result == "1"


def test_an_async_agent_is_replayed_from_inside_a_running_loop() -> None:
    async def inside() -> Replayed:
        return _replay(replace(_agent(), model=_AsyncModel()), GET)

    assert asyncio.run(inside()).result.stop_reason is StopReason.OK
