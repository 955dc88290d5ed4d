"""One agent on each framework, with fake models: looks orders up, one after the other."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when imported

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, cast

import agents
import anthropic
import httpx2
import litellm
import openai
from agents.models.interface import Model
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage

import flightlog
from flightlog.integrations.anthropic_tools import anthropic_tools, until_done
from flightlog.integrations.claude_agent import claude_query
from flightlog.integrations.langchain import langchain_callbacks, langchain_tools
from flightlog.integrations.litellm_calls import litellm_calls
from flightlog.integrations.openai_agents import agents_model, agents_tools
from flightlog.integrations.openai_tools import (
    chat_results,
    chat_tools,
    responses_results,
    responses_tools,
)
from flightlog.integrations.pydantic_agents import pydantic_model, pydantic_tools
from flightlog.integrations.wire import recorded_client
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.own_loop import OwnLoop
from tests.unit.integrations.model_server import BODIES, Answer, Server, serving

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
        usage = agents.Usage(
            requests=1,
            input_tokens=100,
            output_tokens=20,
            total_tokens=120,
            input_tokens_details=InputTokensDetails(cached_tokens=40, cache_write_tokens=7),
            output_tokens_details=OutputTokensDetails(reasoning_tokens=5),
        )
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


def function_model(orders: Sequence[str]) -> FunctionModel:
    """pydantic-ai's own fake model: it asks for these orders, then answers."""
    left = list(orders)

    def said(_: Any, __: Any) -> ModelResponse:
        usage = RequestUsage(
            input_tokens=100,
            output_tokens=20,
            cache_read_tokens=40,
            cache_write_tokens=7,
            details={"reasoning_tokens": 5},
        )
        told: Any = {"provider_name": "openai", "provider_response_id": "r1"}
        if left:
            part = ToolCallPart("get_order", {"order_id": left.pop(0)}, f"c{len(left)}")
            return ModelResponse([part], usage=usage, finish_reason="tool_call", **told)
        return ModelResponse([TextPart(ANSWER)], usage=usage, finish_reason="stop", **told)

    return FunctionModel(said, model_name="model-a")


def pydantic_ai(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    model = pydantic_model(run, function_model(orders))
    agent = PydanticAgent(model, system_prompt="Be kind.", tools=pydantic_tools(run))
    return asyncio.run(agent.run(run.prompt, **limits)).output


class ChainModel(GenericFakeChatModel):
    """LangChain's own fake model; it takes tools and lets them be."""

    model_name: str = "model-a"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return super()._get_ls_params(stop, **kwargs) | {
            "ls_model_name": self.model_name,
            "ls_provider": "openai",
        }


def chain_model(orders: Sequence[str]) -> ChainModel:
    """It asks for these orders, then answers."""
    usage: Any = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
    usage["input_token_details"] = {"cache_read": 40, "cache_creation": 7}
    usage["output_token_details"] = {"reasoning": 5}
    told = {"model_name": "model-a-1", "model_provider": "openai"}
    asked = [
        AIMessage(
            content="",
            tool_calls=[{"name": "get_order", "args": {"order_id": order}, "id": f"c{place}"}],
            usage_metadata=usage,
            response_metadata=told | {"finish_reason": "tool_calls"},
        )
        for place, order in enumerate(orders)
    ]
    last = AIMessage(
        ANSWER, usage_metadata=usage, response_metadata=told | {"finish_reason": "stop"}
    )
    return ChainModel(messages=iter([*asked, last]))


def langchain(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    tools = langchain_tools(run)
    agent = create_agent(chain_model(orders), tools=tools, system_prompt="Be kind.")
    asked: Any = {"messages": [{"role": "user", "content": run.prompt}]}
    config: Any = {"callbacks": [langchain_callbacks(run)], **limits}
    return cast("str", agent.invoke(asked, config)["messages"][-1].content)


def scripted_client(kind: Any, http: Any, orders: Sequence[str]) -> Any:
    """A client of the provider's SDK that is answered without a network."""
    asked = [
        Answer(calls=[(f"c{place}", "get_order", json.dumps({"order_id": order}))])
        for place, order in enumerate(orders)
    ]
    answers = [*asked, Answer(ANSWER)]

    def answered(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) | {"ident": str(len(answers))}
        form = request.url.path.rpartition("/")[2]
        return httpx2.Response(200, json=BODIES[form](answers.pop(0), body))

    return kind(api_key="k", http_client=http(transport=httpx2.MockTransport(answered)))


def anthropic_runner(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    with scripted_client(anthropic.Anthropic, httpx2.Client, orders) as made:
        client = recorded_client(run, made)
        runner = client.beta.messages.tool_runner(
            model="model-a",
            max_tokens=500,
            system="Be kind.",
            tools=anthropic_tools(run),
            messages=[{"role": "user", "content": run.prompt}],
            **limits,
        )
        return str(until_done(run, runner).content[0].text)


def openai_chat(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    with scripted_client(openai.OpenAI, httpx2.Client, orders) as made:
        client = recorded_client(run, made)
        messages: list[Any] = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": run.prompt},
        ]
        while True:
            answer = client.chat.completions.create(
                model="model-a", messages=messages, tools=chat_tools(run), **limits
            )
            message = answer.choices[0].message
            if not message.tool_calls:
                return message.content or ""
            messages += [message.to_dict(), *chat_results(run, message)]


def openai_responses(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    with scripted_client(openai.OpenAI, httpx2.Client, orders) as made:
        client = recorded_client(run, made)
        given: Any = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": run.prompt},
        ]
        previous = None
        while True:
            answer = client.responses.create(
                model="model-a",
                input=given,
                tools=responses_tools(run),  # type: ignore[arg-type]
                previous_response_id=previous,
                **limits,
            )
            previous, given = answer.id, responses_results(run, answer)
            if not given:
                return answer.output_text


def litellm_loop(run: OwnLoop, orders: Sequence[str], **limits: Any) -> str:
    left = list(orders)
    messages: list[Any] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": run.prompt},
    ]
    with litellm_calls(run):
        while True:
            asked: dict[str, Any] = {"mock_response": ANSWER}
            if left:
                function = {"name": "get_order", "arguments": json.dumps({"order_id": left.pop(0)})}
                call = {"id": f"c{len(left)}", "type": "function", "function": function}
                asked = {"mock_tool_calls": [call]}
            answer = litellm.completion(
                model="openai/model-a", messages=messages, tools=chat_tools(run), **asked, **limits
            )
            message = answer.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages += [message.model_dump(), *chat_results(run, message)]


async def _claude(run: OwnLoop, server: Server, **options: Any) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        env = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k", "HOME": home}
        env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
        messages = claude_query(
            run,
            run.prompt,
            model="model-a",
            system_prompt="Be kind.",
            setting_sources=[],
            env=env,
            cwd=home,
            **options,
        )
        answer = ""
        async for message in messages:
            answer = getattr(message, "result", None) or answer
        return answer


def claude_agent(run: OwnLoop, orders: Sequence[str], **options: Any) -> str:
    tool = "mcp__flightlog__get_order"
    asked = [
        Answer(calls=[(f"toolu_{place}", tool, json.dumps({"order_id": order}))])
        for place, order in enumerate(orders)
    ]
    with serving(*asked, Answer(ANSWER)) as server:
        return asyncio.run(_claude(run, server, **options))


INPUT_TOKENS = {
    "anthropic": 107,
    "claude-agent": 107,
    "litellm": 10,
    "openai": 107,
    "openai-responses": 107,
}
"""Of each answer of the fake models; 100 elsewhere."""

FRAMEWORKS: dict[str, Invoke] = {
    "anthropic": anthropic_runner,
    "claude-agent": claude_agent,
    "langchain": langchain,
    "litellm": litellm_loop,
    "openai": openai_chat,
    "openai-responses": openai_responses,
    "openai-agents": openai_agents,
    "pydantic-ai": pydantic_ai,
}


def desk(name: str, orders: Sequence[str], **given: Any) -> flightlog.Agent:
    """The agent as one of flightlog's, whose loop is the framework's."""

    def loop(run: OwnLoop) -> str:
        return FRAMEWORKS[name](run, orders)

    model = ForeignModel("model-a", programs=("claude",) if name == "claude-agent" else ())
    return flightlog.Agent("desk", model, [get_order], loop=loop, **given)
