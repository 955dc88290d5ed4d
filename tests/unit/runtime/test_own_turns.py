"""An agent with a loop of its own is run, replayed and refused like any other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.errors import AgentError
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.model import ForeignModel, ModelResponse, ScriptedUser, Usage
from flightlog.runtime.own_loop import OwnLoop
from flightlog.trace.messages import Message, ToolRequest

MODEL = ForeignModel("model-a", "openai")


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    return f"{order_id} is shipped"


def look(run: OwnLoop) -> str:
    asked = (ToolRequest("c1", "get_order", '{"order_id": "A1"}'),)
    with run.model_call(prompt=[Message("user", run.prompt)]) as call:
        call.answer(ModelResponse(None, asked, Usage(10, 5)))
    observed = run.tools["get_order"](order_id="A1")
    with run.model_call() as call:
        call.answer(ModelResponse(observed, usage=Usage(10, 5)))
    return observed


async def look_async(run: OwnLoop) -> str:
    return await run.call_async("get_order", order_id="A1")


def agent(loop: Any, **given: Any) -> flightlog.Agent:
    return flightlog.Agent("desk", MODEL, [get_order], loop=loop, **given)


def bounded(**limits: Any) -> flightlog.Policy:
    return flightlog.Policy(allow=("get_order",), budget=flightlog.Budget(**limits))


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


def test_run_calls_the_loop_and_records_what_it_does(tmp_path: Path) -> None:
    task = flightlog.Task("t1", "Where is A1?")
    with flightlog.Recorder(tmp_path) as recorder:
        result = flightlog.run(agent(look), task, sink=recorder)
    assert (result.stop_reason, result.answer) == ("ok", "A1 is shipped")
    [run] = rows(tmp_path, "SELECT agent, model, steps, tool_calls, answer FROM runs")
    wanted = {"agent": "desk", "model": "model-a", "steps": 2, "tool_calls": 1}
    assert run == wanted | {"answer": "A1 is shipped"}


@pytest.mark.parametrize("loop", [look, look_async])
def test_run_async_takes_a_loop_of_either_kind(loop: Any) -> None:
    result = asyncio.run(flightlog.run_async(agent(loop), flightlog.Task("t1", "")))
    assert (result.stop_reason, result.answer) == ("ok", "A1 is shipped")


def test_an_async_loop_needs_run_async() -> None:
    with pytest.raises(AgentError, match="its loop is async"):
        flightlog.run(agent(look_async), flightlog.Task("t1", ""))


def test_without_an_answer_of_its_own_the_last_text_of_the_model_is_it() -> None:
    def silent(run: OwnLoop) -> None:
        look(run)

    result = flightlog.run(agent(silent), flightlog.Task("t1", ""))
    assert result.answer == "A1 is shipped"


def test_an_exception_of_the_loop_is_how_the_run_ended_and_says_where() -> None:
    def broken(_: OwnLoop) -> str:
        raise KeyError("order_id")

    result = flightlog.run(agent(broken), flightlog.Task("t1", ""))
    assert result.stop_reason == "crashed"
    assert "KeyError: 'order_id' (test_own_turns.py:" in (result.stop_detail or "")


def test_a_limit_of_a_framework_is_the_stop_reason_that_it_means() -> None:
    class GraphRecursionError(Exception):
        pass

    def endless(_: OwnLoop) -> str:
        raise GraphRecursionError("Recursion limit of 25 reached")

    assert flightlog.run(agent(endless), flightlog.Task("t1", "")).stop_reason == "max_steps"


def test_an_answer_that_is_no_text_is_an_error_that_says_so() -> None:
    result = flightlog.run(agent(lambda _: 7), flightlog.Task("t1", ""))
    assert result.stop_reason == "crashed"
    assert "the loop gave a int, not the text of an answer or None" in (result.stop_detail or "")


@pytest.mark.parametrize("bound", ["max_steps", "max_tool_calls"])
def test_a_bound_ends_a_loop_that_never_has_enough(bound: str) -> None:
    def endless(run: OwnLoop) -> str:
        while True:
            try:
                look(run)
            except Exception:
                continue

    limits = {"max_steps": None, "max_tool_calls": None} | {bound: 5}
    result = flightlog.run(agent(endless, policy=bounded(**limits)), flightlog.Task("t1", ""))
    assert result.stop_reason == bound


def _blocked(_: OwnLoop) -> None:
    time.sleep(60)


async def _blocked_async(_: OwnLoop) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("loop", [_blocked, _blocked_async])
def test_a_loop_that_blocks_is_left_behind_at_the_deadline(loop: Any) -> None:
    task, waiting = flightlog.Task("t1", ""), agent(loop, policy=bounded(max_seconds=0.2))
    started = time.monotonic()
    result = asyncio.run(flightlog.run_async(waiting, task))
    assert result.stop_reason == "max_seconds"
    assert time.monotonic() - started < 30
    if loop is _blocked:
        assert flightlog.run(waiting, task).stop_reason == "max_seconds"


def test_a_token_cancels_a_loop() -> None:
    token = CancelToken()
    threading.Timer(0.2, token.cancel, ["the user left"]).start()
    result = flightlog.run(agent(_blocked), flightlog.Task("t1", ""), cancel=token)
    assert result.stop_reason == "cancelled"
    assert "the user left" in (result.stop_detail or "")


def test_an_interrupt_of_the_loop_is_recorded_and_goes_on(tmp_path: Path) -> None:
    def interrupted(_: OwnLoop) -> None:
        raise KeyboardInterrupt

    with flightlog.Recorder(tmp_path) as recorder, pytest.raises(KeyboardInterrupt):
        flightlog.run(agent(interrupted), flightlog.Task("t1", ""), sink=recorder)
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "cancelled"}]


def _with(**given: Any) -> Callable[[], object]:
    return lambda: agent(look, **given)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(_with(user=ScriptedUser([])), "user= beside a loop", id="user"),
        pytest.param(_with(fit=lambda sent: sent), "fit= beside a loop", id="fit"),
        pytest.param(
            lambda: flightlog.run(flightlog.Agent("desk"), flightlog.Task("t1", "")),
            "neither a model that answers nor a loop",
            id="neither",
        ),
    ],
)
def test_what_a_loop_would_ignore_is_refused(make: Callable[[], object], why: str) -> None:
    with pytest.raises(AgentError, match=why):
        make()
