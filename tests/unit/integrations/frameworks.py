"""One agent on each framework, with fake models: looks orders up, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import agents
from agents.models.interface import Model
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage

import flightlog
from flightlog.integrations.langchain import langchain_callbacks, langchain_tools
from flightlog.integrations.openai_agents import agents_model, agents_tools
from flightlog.integrations.pydantic_agents import pydantic_model, pydantic_tools
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.own_loop import OwnLoop

Invoke = Callable[..., str]
ANSWER = "It is shipped."
looked_up: list[str] = []
"""Orders that were looked up for real."""


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    looked_up.append(order_id)
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
    running = agents.Runner.run(agent, run.prompt, run_config=config, max_turns=50, **limits)
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
    return asyncio.run(agent.run(run.prompt, **limits)).output


class ChainModel(GenericFakeChatModel):
    """LangChain's own fake model; it takes tools and lets them be."""

    model_name: str = "model-a"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop, **kwargs) | {"ls_model_name": self.model_name}


def langchain(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    usage: Any = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    answers = [
        AIMessage(
            content="",
            tool_calls=[{"name": "get_order", "args": {"order_id": order}, "id": f"c{place}"}],
            usage_metadata=usage,
        )
        for place, order in enumerate(orders)
    ]
    model = ChainModel(messages=iter([*answers, AIMessage(ANSWER, usage_metadata=usage)]))
    agent = create_agent(model, tools=langchain_tools(run), system_prompt="Be kind.")
    asked: Any = {"messages": [{"role": "user", "content": run.prompt}]}
    config: Any = {"callbacks": [langchain_callbacks(run)], **limits}
    return cast("str", agent.invoke(asked, config)["messages"][-1].content)


FRAMEWORKS: dict[str, Invoke] = {
    "langchain": langchain,
    "openai-agents": openai_agents,
    "pydantic-ai": pydantic_ai,
}


def desk(name: str, orders: Sequence[str], **given: Any) -> flightlog.Agent:
    """The agent as one of flightlog's, whose loop is the framework's."""

    def loop(run: OwnLoop) -> str:
        return FRAMEWORKS[name](run, orders)

    return flightlog.Agent("desk", ForeignModel("model-a"), [get_order], loop=loop, **given)
