"""An agent with a loop of its own, bounded and recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.integrations.own_loop import own_loop
from flightlog.runtime.model import ForeignModel, ModelResponse, Usage
from flightlog.runtime.own_loop import OwnLoop, RunOverError
from flightlog.trace.messages import Message, ToolRequest


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    if order_id == "A0":
        raise LookupError("no order A0")
    return f"{order_id} is shipped"


@flightlog.tool(effect="write")
def refund(order_id: str) -> str:
    """Refunds an order."""
    return f"refunded {order_id}"


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


def ask(run: OwnLoop, text: str | None, *calls: str, tokens: int = 10) -> None:
    requests = tuple(ToolRequest(f"c{n}", name, "{}") for n, name in enumerate(calls))
    with run.model_call("model-a", prompt=[Message("user", "Where is A1?")]) as call:
        call.answer(ModelResponse(text, requests, Usage(tokens, tokens), finish_reason="stop"))


def test_a_loop_of_ones_own_is_a_run(tmp_path: Path) -> None:
    task = flightlog.Task("t1", "Where is A1?", suite="desk")
    model = ForeignModel("model-a", "openai")
    with own_loop("desk", [get_order], store=tmp_path, task=task, model=model) as run:
        ask(run, None, "get_order")
        assert "no order A0" in run.tools["get_order"](order_id="A0")
        assert run.tools["get_order"](order_id="A1") == "A1 is shipped"
        ask(run, "It is shipped.")
    assert run.result is not None
    assert (run.result.stop_reason, run.result.answer) == ("ok", "It is shipped.")
    [found] = rows(tmp_path, "SELECT * FROM runs")
    assert (found["agent"], found["model"], found["task_id"]) == ("desk", "model-a", "t1")
    assert (found["steps"], found["tool_calls"], found["input_tokens"]) == (2, 2, 20)
    calls = rows(tmp_path, "SELECT * FROM tool_calls ORDER BY seq")
    assert [(one["step"], one["call_ix"], one["outcome"]) for one in calls] == [
        (1, 0, "failed"),
        (1, 1, "ok"),
    ]


def test_a_bound_ends_the_block_whatever_the_loop_catches(tmp_path: Path) -> None:
    policy = flightlog.Policy(allow=("get_order",), budget=flightlog.Budget(max_tool_calls=5))
    asked = 0
    with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
        while True:  # an agent that tries everything again
            try:
                run.call("get_order", order_id="A0")
                asked += 1
            except Exception:
                continue
    assert asked == 5
    assert run.result is not None
    assert run.result.stop_reason == "max_tool_calls"
    assert len(rows(tmp_path, "SELECT * FROM runs")) == 1


def test_model_calls_count_against_the_budget() -> None:
    policy = flightlog.Policy(allow=(), budget=flightlog.Budget(max_tokens=45, max_steps=9))
    with own_loop("desk", [], policy=policy) as run:
        for _ in range(9):
            ask(run, "Again.")
    assert run.result is not None
    assert run.result.stop_reason == "max_tokens"
    assert run.result.usage.tokens == 60


def test_a_write_without_an_approver_is_refused_and_told() -> None:
    with own_loop("desk", [get_order, refund]) as run:
        assert "approval" in run.tools["refund"](order_id="A1")
        assert run.tools["get_order"](order_id="A1") == "A1 is shipped"


def test_an_exception_of_the_loop_is_a_crash_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), own_loop("desk", [get_order], store=tmp_path):
        _ = 1 / 0
    [found] = rows(tmp_path, "SELECT stop_reason, stop_detail FROM runs")
    assert found["stop_reason"] == "crashed"
    assert "ZeroDivisionError" in found["stop_detail"]


def test_a_model_call_that_fails_is_recorded_as_such(tmp_path: Path) -> None:
    with (
        pytest.raises(TimeoutError),
        own_loop("desk", [get_order], store=tmp_path) as run,
        run.model_call("model-a"),
    ):
        raise TimeoutError("the provider is slow")
    [call] = rows(tmp_path, "SELECT outcome, error, input_tokens FROM model_calls")
    assert call == {
        "outcome": "failed",
        "error": "TimeoutError: the provider is slow",
        "input_tokens": None,
    }


def test_the_kill_switch_stops_the_next_model_call(tmp_path: Path) -> None:
    with flightlog.Recorder(tmp_path) as recorder:
        with own_loop("desk", [get_order], store=recorder) as run:
            ask(run, "Going on.")
            recorder.control.kill_switch.turn_on("stop_all", who="ann", why="drill", at_us=1)
            ask(run, "Going on.")
            pytest.fail("it went on")
        assert run.result is not None
        assert run.result.stop_reason == "kill_switch"


def test_plain_functions_and_coroutines_are_tools(tmp_path: Path) -> None:
    async def look(place: str) -> str:
        """Looks somewhere."""
        await asyncio.sleep(0)
        return f"seen {place}"

    policy = flightlog.Policy(allow=("look",), require_approval=False)

    async def main() -> list[str]:
        with own_loop("desk", [look], store=tmp_path, policy=policy) as run:
            return list(await asyncio.gather(*(run.tools["look"](place=p) for p in "abc")))

    assert asyncio.run(main()) == ["seen a", "seen b", "seen c"]


def test_what_comes_after_the_end_is_refused() -> None:
    with own_loop("desk", [get_order]) as run:
        pass
    with pytest.raises(RunOverError):
        run.call("get_order", order_id="A1")
