"""A whole candidate run through the loop, served from recordings."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings

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
from tests.torture.size import sized
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


class _Reaching(ScriptedModel):
    """A model that asks a server first, as one behind an API does."""

    def __init__(self, port: int, *, endpoints: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__("m", _answers([]))
        self._port = port
        self.endpoints = endpoints

    def complete(self, request: ModelRequest) -> ModelResponse:
        with socket.create_connection(("127.0.0.1", self._port), timeout=5):
            return super().complete(request)


def _reaching(model: ScriptedModel) -> Replayed:
    return _replay(Agent("a", model, tools=TOOLS, policy=Policy()), GET)


def test_the_network_is_shut_and_what_was_tried_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = _reaching(_Reaching(port))
    assert done.result.stop_reason is StopReason.MODEL_ERROR
    assert done.refused[0] == f"connect 127.0.0.1:{port}"
    assert "runs nothing live" in (done.result.stop_detail or "")


def test_the_endpoint_that_the_model_names_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = _reaching(_Reaching(port, endpoints=[("127.0.0.1", port)]))
    assert (done.result.stop_reason, done.refused) == (StopReason.OK, ())


def test_a_pure_tool_that_reaches_out_fails_and_is_told() -> None:
    def add(**_: object) -> str:
        socket.getaddrinfo("calculator.example", 443)
        return "3"

    tools = [replace(tool, fn=add) if tool.name == "add" else tool for tool in TOOLS]
    model = ScriptedModel("m", _answers([[("add", {"x": 1})]]))
    done = _replay(Agent("a", model, tools=tools, policy=Policy(allow=["add"])), GET)
    assert done.calls[0].outcome is Outcome.FAILED
    assert done.refused == ("look up calculator.example",)


class _Dawdling:
    """An async model with given answers, which lets others go first now and then."""

    name = "m"

    def __init__(self, answers: Sequence[ModelResponse], seed: int) -> None:
        self._script = ScriptedModel("m", answers)
        self._rng = random.Random(seed)

    async def complete(self, request: ModelRequest) -> ModelResponse:
        for _ in range(self._rng.randrange(5)):
            await asyncio.sleep(0)
        return self._script.complete(request)


_STEPS = st.lists(
    st.lists(
        st.sampled_from([GET, PUT, ("get", {"key": "b"}), ("list_items", {}), ("pop", {})]),
        min_size=1,
        max_size=4,
    ),
    max_size=5,
)


@given(_STEPS, st.lists(st.integers(0, 1 << 30), min_size=2, max_size=4))
@settings(max_examples=sized(25, 1000))
def test_same_recording_and_same_answers_give_the_same_bytes_under_any_schedule(
    steps: list[list[Call]], seeds: list[int]
) -> None:
    recorded = [call for calls in steps for call in calls]
    answers = [replace(answer, latency_ms=10.0) for answer in _answers(steps)]

    def once(seed: int) -> list[bytes]:
        sink = MemorySink()
        agent = replace(_agent(), model=_Dawdling(answers, seed))
        _replay(agent, *recorded, sink=sink)
        return [encode_event(event) for event in sink.events]

    with ThreadPoolExecutor(len(seeds)) as pool:
        first, *others = pool.map(once, seeds)
    assert all(other == first for other in others)
