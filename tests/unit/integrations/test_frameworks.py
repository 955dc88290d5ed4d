"""Real agents of the OpenAI Agents SDK and of pydantic-ai, offline: bounded and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import agents
import pytest
from agents.models.interface import Model
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage, UsageLimits

import flightlog
from flightlog.analysis.db import Traces
from flightlog.integrations.openai_agents import agents_model, agents_tools
from flightlog.integrations.own_loop import OwnLoop, own_loop
from flightlog.integrations.pydantic_agents import pydantic_model, pydantic_tools

Invoke = Callable[..., str]
ANSWER = "It is shipped."


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    if order_id == "A0":
        raise LookupError("no order A0")
    return f"{order_id} is shipped"


class FakeModel(Model):
    """Asks for these orders, one after the other, then answers."""

    def __init__(self, orders: Sequence[str]) -> None:
        self.model = "model-a"
        self._orders = list(orders)

    async def get_response(self, *_: Any, **__: Any) -> Any:
        usage = agents.Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)
        item: Any
        if self._orders:
            number, order = len(self._orders), self._orders.pop(0)
            args = f'{{"order_id": "{order}"}}'
            item = ResponseFunctionToolCall(
                type="function_call", call_id=f"c{number}", name="get_order", arguments=args
            )
        else:
            text = ResponseOutputText(type="output_text", text=ANSWER, annotations=[])
            item = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
        return agents.ModelResponse(output=[item], usage=usage, response_id="r1")

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def openai_agents(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    model = agents_model(run, FakeModel(orders))
    agent = agents.Agent("desk", instructions="Be kind.", model=model, tools=agents_tools(run))
    config = agents.RunConfig(tracing_disabled=True)
    running = agents.Runner.run(agent, "Where is A1?", run_config=config, max_turns=50, **limits)
    return str(asyncio.run(running).final_output)


def pydantic_ai(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    left = list(orders)

    def said(_: Any, __: Any) -> ModelResponse:
        usage = RequestUsage(input_tokens=100, output_tokens=20)
        if left:
            part = ToolCallPart("get_order", {"order_id": left.pop(0)}, f"c{len(left)}")
            return ModelResponse([part], usage=usage)
        return ModelResponse([TextPart(ANSWER)], usage=usage)

    model = pydantic_model(run, FunctionModel(said, model_name="model-a"))
    agent = PydanticAgent(model, system_prompt="Be kind.", tools=pydantic_tools(run))
    return asyncio.run(agent.run("Where is A1?", **limits)).output


FRAMEWORKS: dict[str, Invoke] = {"openai-agents": openai_agents, "pydantic-ai": pydantic_ai}


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_agent_of_a_framework_is_a_run(name: str, tmp_path: Path) -> None:
    with own_loop("desk", [get_order], store=tmp_path, task="Where is A1?") as run:
        assert FRAMEWORKS[name](run, ["A0", "A1"]) == ANSWER
    [found] = rows(tmp_path, "SELECT * FROM runs")
    assert (found["stop_reason"], found["steps"], found["tool_calls"]) == ("ok", 3, 2)
    assert (found["input_tokens"], found["answer"]) == (300, ANSWER)
    calls = rows(tmp_path, "SELECT * FROM model_calls ORDER BY seq")
    assert [one["prompt_messages"] for one in calls] == [2, 4, 6]
    assert {one["request_model"] for one in calls} == {"model-a"}
    assert [one["tool_requests"] for one in calls] == [1, 1, 0]
    tools = rows(tmp_path, "SELECT * FROM tool_calls ORDER BY seq")
    assert [(one["step"], one["args"], one["outcome"]) for one in tools] == [
        (1, '{"order_id":"A0"}', "failed"),
        (2, '{"order_id":"A1"}', "ok"),
    ]


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("bound", ["max_steps", "max_tool_calls"])
def test_a_budget_ends_an_agent_that_never_has_enough(
    name: str, bound: str, tmp_path: Path
) -> None:
    budget = flightlog.Budget(**{"max_steps": None, "max_tool_calls": None, bound: 4})
    policy = flightlog.Policy(allow=("get_order",), budget=budget)
    with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
        FRAMEWORKS[name](run, ["A0"] * 40)
        pytest.fail("it went on to its end")
    assert run.result is not None
    assert run.result.stop_reason == bound
    [found] = rows(tmp_path, "SELECT stop_reason FROM runs")
    assert found["stop_reason"] == bound


def test_a_limit_of_pydantic_ai_is_the_stop_reason_that_it_means(tmp_path: Path) -> None:
    limits = UsageLimits(request_limit=3)
    with (
        pytest.raises(UsageLimitExceeded),
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        pydantic_ai(run, ["A1"] * 9, usage_limits=limits)
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "max_steps"}]
