"""In a replay nothing is called live: agents as tools, worker threads, other event loops."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.errors import AgentError
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import Replayed, replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.calls import Served
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.replaying import answering, inherited
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome
from tests.unit.replay.world import TOOLS, Call, record, write_call

TASK = Task("t", "go")
POLICY = Policy(("*",), Budget(max_seconds=None), approver=approve_all)
GET_A: Call = ("get", {"key": "a"})


def _explode(**_: Any) -> Any:
    raise AssertionError("a replay called a tool")


GET = Tool("get", fn=_explode, effect=Effect.READ, scopes=("item:{key}",))


def _agent(answers: list[ModelResponse], tools: list[Tool]) -> Agent:
    return Agent("a", ScriptedModel("m", answers), tools, policy=POLICY)


def _inner() -> Agent:
    return _agent([asking(GET_A), ModelResponse("done")], [GET])


def _here() -> Any:
    return run(_inner(), TASK)


def _in_a_thread() -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(_here()))
    thread.start()
    thread.join()
    return found[0]


def _in_a_pool() -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_here).result()


def _in_another_loop() -> Any:
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(run_async(_inner(), TASK))).result()


PLACES = {
    "here": _here,
    "thread": _in_a_thread,
    "pool": _in_a_pool,
    "event loop": _in_another_loop,
}


def _replayed(recording: Recording, tools: list[Tool], *calls: Call) -> Replayed:
    declared = [*TOOLS, *(tool for tool in tools if tool.name == "delegate")]
    executor = StateAwareExecutor(Cassette([recording], Rules(declared)), golden="g")
    agent = _agent([asking(*calls), ModelResponse("end")], tools)
    return replay(agent, TASK, executor, sink=MemorySink(), context=RunContext(run_id="r"))


@pytest.mark.parametrize("place", PLACES)
def test_agent_inside_a_pure_tool_is_answered_from_the_recording(place: str) -> None:
    results: list[Any] = []

    def delegate() -> str:
        results.append(PLACES[place]())
        return "delegated"

    tools = [Tool("delegate", fn=delegate, effect=Effect.PURE), GET]
    done = _replayed(record([GET_A]), tools, ("delegate", {}))
    assert (results[0].stop, done.result.stop) == ("ok", "ok")
    assert done.executor.served == {"recorded": 1, "pure": 1}
    assert done.executor.live_tool_calls == 0


def test_call_of_an_inner_agent_that_nobody_recorded_is_a_miss_of_the_replay() -> None:
    tools = [Tool("delegate", fn=lambda: _here().stop, effect=Effect.PURE), GET]
    done = _replayed(record([]), tools, ("delegate", {}))
    assert [miss.tool_name for miss in done.executor.misses] == ["get"]


def test_agent_as_a_tool_that_is_not_pure_is_served_as_one_call() -> None:
    delegate = Tool("delegate", fn=_explode, effect=Effect.READ)
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.started(task_id="t")
    write_call(writer, "delegate", {}, Served(Outcome.OK, "answered"), step=1)
    writer.stopped(stop_reason="ok")
    done = _replayed(Recording(tuple(sink.events)), [delegate], ("delegate", {}))
    assert [call.result for call in done.calls] == ["answered"]


def test_outside_of_replays_nothing_is_inherited() -> None:
    assert inherited() is None
    with answering(None):
        assert inherited() is None


def test_thread_that_belongs_to_none_of_several_replays_is_refused() -> None:
    cassette = Cassette([], Rules(TOOLS))
    one, two = (StateAwareExecutor(cassette, golden="g") for _ in range(2))
    found: list[str] = []

    def ask() -> None:
        with pytest.raises(AgentError, match="beside 2 replays"):
            inherited()
        found.append("refused")

    with answering(one), answering(two):
        assert inherited() is two
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert (found, inherited()) == (["refused"], None)


@settings(max_examples=15, deadline=None)
@given(
    calls=st.permutations([GET_A, ("pop", {}), ("pop", {}), ("put", {"key": "b", "value": 1})]),
    beside=st.integers(1, 4),
)
def test_parallel_calls_are_answered_in_call_order_under_any_schedule(
    calls: list[Call], beside: int
) -> None:
    cassette = Cassette([record(calls)], Rules(TOOLS))

    def play() -> list[str | None]:
        executor = StateAwareExecutor(cassette, golden="g")
        agent = _agent([asking(*calls), ModelResponse("end")], list(TOOLS))
        made = replay(agent, TASK, executor, sink=MemorySink(), context=RunContext(run_id="r"))
        return [call.result for call in made.calls]

    with ThreadPoolExecutor(max_workers=beside) as pool:
        made = list(pool.map(lambda _: play(), range(beside)))
    pops = [result for result, call in zip(made[0], calls, strict=True) if call[0] == "pop"]
    assert pops == ["10", "20"]
    assert all(one == made[0] for one in made)
