"""The gateway by itself: an agent's own loop calls its tools through a session."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flightlog.errors import AgentError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.policy import Policy
from flightlog.runtime.session import Session
from flightlog.runtime.setting_up import Around
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.events import Event, RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect, StopReason


class Events:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event, **_: Any) -> bool:
        self.events.append(event)
        return True

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def look(place: str) -> str:
    if place == "nowhere":
        raise LookupError("no such place")
    return f"seen {place}"


LOOK = Tool(
    "look",
    look,
    effect=Effect.READ,
    input_schema={
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
)


def asking(place: Any, name: str = "look", ident: str = "c1") -> ToolRequest:
    return ToolRequest(ident, name, json.dumps({"place": place}))


def session(
    sink: Events, *tools: Tool, budget: Budget | None = None, cancel: CancelToken | None = None
) -> Session:
    policy = Policy(
        allow=tuple(tool.name for tool in tools or (LOOK,)),
        budget=budget or Budget(),
        require_approval=False,
    )
    agent = Agent("foreign", ForeignModel(), tools or (LOOK,), policy=policy)
    return Session(agent, Task("t1", ""), Around(sink=sink, cancel=cancel))


def test_a_call_passes_the_gateway_and_is_recorded() -> None:
    sink = Events()
    run = session(sink)
    called = run.call([asking("here")])
    assert (called.messages[0].text, called.is_ok, called.stop) == ("seen here", (True,), None)
    result = run.end(answer="done")
    assert (result.stop_reason, result.answer) == (StopReason.OK, "done")
    [started], [call], [stopped] = sink.of(RunStarted), sink.of(ToolCall), sink.of(RunStopped)
    assert (started.agent, started.model, started.task_id) == ("foreign", None, "t1")
    assert (call.step, call.outcome, call.result) == (1, "ok", "seen here")
    assert (stopped.used_tool_calls, stopped.used_steps) == (1, 1)


def test_what_the_gateway_refuses_is_an_observation() -> None:
    sink = Events()
    run = session(sink)
    wrong = run.call([asking(5), asking("x", "rm"), asking("nowhere")])
    assert wrong.is_ok == (False, False, False)
    outcomes = [call.outcome for call in sink.of(ToolCall)]
    assert sorted(outcomes) == ["denied", "failed", "invalid_input"]


def test_after_a_stop_every_call_is_refused_with_the_reason() -> None:
    sink = Events()
    run = session(sink, budget=Budget(max_tool_calls=2))
    assert run.call([asking("a")]).stop is None
    run.call([asking("b")])
    over = run.call([asking("c")])
    assert over.stop is not None
    assert over.stop.reason is StopReason.MAX_TOOL_CALLS
    late = run.call([asking("d")])
    assert late.is_ok == (False,)
    assert "max_tool_calls" in (late.messages[0].text or "")
    assert len(sink.of(RunStopped)) == 1
    assert run.end().stop_reason is StopReason.MAX_TOOL_CALLS
    assert isinstance(sink.events[-1], RunStopped)


def test_calls_of_several_threads_have_places_of_their_own() -> None:
    sink, together = Events(), threading.Barrier(8)

    def wait(place: str) -> str:
        together.wait(20)
        return place

    run = session(sink, Tool("look", wait, effect=Effect.READ))
    run.begin_step()
    with ThreadPoolExecutor(8) as pool:
        done = [
            pool.submit(run.call, [asking(f"p{n}", ident=f"c{n}")], begins_step=False)
            for n in range(8)
        ]
        texts = {one.result().messages[0].text for one in done}
    assert texts == {f"p{n}" for n in range(8)}
    calls = sink.of(ToolCall)
    assert {call.step for call in calls} == {1}
    assert sorted(call.call_ix for call in calls) == list(range(8))


def test_coroutines_call_beside_each_other() -> None:
    sink = Events()

    async def slow(place: str) -> str:
        await asyncio.sleep(0.2)
        return place

    async def several() -> float:
        run = session(sink, Tool("look", slow, effect=Effect.READ))
        started = time.monotonic()
        calls = (run.call_async([asking(f"p{n}", ident=f"c{n}")]) for n in range(10))
        done = await asyncio.gather(*calls)
        assert [one.messages[0].text for one in done] == [f"p{n}" for n in range(10)]
        run.end()
        return time.monotonic() - started

    assert asyncio.run(several()) < 1.5
    assert sorted(call.step for call in sink.of(ToolCall)) == list(range(1, 11))


def test_a_cancelled_session_refuses_and_says_so() -> None:
    sink, cancel = Events(), CancelToken()

    def stuck(place: str) -> str:
        cancel.cancel("the user left")
        time.sleep(0.1)
        return place

    run = session(sink, Tool("look", stuck, effect=Effect.READ), cancel=cancel)
    called = run.call([asking("here")])
    assert called.stop is not None
    assert (called.stop.reason, called.stop.detail) == (StopReason.CANCELLED, "the user left")
    [stopped] = sink.of(RunStopped)
    assert stopped.stop_reason == "cancelled"


def test_an_end_in_the_middle_of_a_call_is_not_overtaken_by_it() -> None:
    sink, begun = Events(), threading.Event()

    def slow(place: str) -> str:
        begun.set()
        time.sleep(0.3)
        return place

    run = session(sink, Tool("look", slow, effect=Effect.READ))
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(run.call, [asking("here")])
        assert begun.wait(20)
        run.end(StopReason.CANCELLED, detail="the client left")
        calling.result()
    assert len(sink.of(RunStopped)) == 1


def test_steps_that_are_told_count_against_the_budget() -> None:
    sink = Events()
    run = session(sink, budget=Budget(max_steps=2))
    assert run.begin_step() is None
    run.call([asking("a")], begins_step=False)
    assert run.begin_step() is None
    stop = run.begin_step()
    assert stop is not None
    assert stop.reason is StopReason.MAX_STEPS
    assert run.call([asking("b")], begins_step=False).stop == stop


def test_a_foreign_model_is_never_asked() -> None:
    with pytest.raises(AgentError, match="loop of its agent"):
        ForeignModel().complete(None)  # type: ignore[arg-type]
