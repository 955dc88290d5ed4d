"""What each native hook costs per call: `python benchmarks/hooks.py [--calls 20] [--repeat 15]`.

One agent on each framework, with the framework's own fake model and no network: it looks orders up,
one model call and one tool call at a time. `alone` is the framework with the plain function as its
tool; `recorded` the same agent as a run, its tool behind the gateway, redaction on, written to a
store on disk. Medians over interleaved rounds, milliseconds per model call with its tool call, the
share of making agent and run included. Needs the packages of the group `test`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agents
import anthropic
import httpx2
import openai
from anthropic.lib.tools import beta_tool
from langchain.agents import create_agent
from langchain_core.tools import tool as chain_tool
from pydantic_ai import Agent as PydanticAgent

from benchmarks._timing import rounds, table
from flightlog.integrations.openai_tools import chat_tools
from flightlog.integrations.own_loop import own_loop
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.budget import Budget
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.own_loop import OwnLoop
from flightlog.runtime.policy import Policy
from flightlog.runtime.tools import tool
from flightlog.trace.messages import ToolRequest
from tests.unit.integrations import frameworks as fakes

PROMPT = "Where is A1?"
POLICY = Policy(
    allow=("get_order",), budget=Budget(max_steps=None, max_tool_calls=None, max_seconds=600)
)


def get_order(order_id: str) -> str:
    """Looks an order up."""
    return f"{order_id} is shipped"


litellm = fakes.litellm  # which was imported so that it asks no network
TOOL = tool(get_order, effect="read")


def own_alone(orders: list[str]) -> None:
    for order in orders:
        json.dumps({"order_id": order})
        get_order(order)


def own_recorded(run: OwnLoop, orders: list[str]) -> None:
    for order in orders:
        with run.model_call("model-a", prompt=[run.task.message]) as call:
            asked = ToolRequest("c1", "get_order", json.dumps({"order_id": order}))
            call.answer(ModelResponse(None, (asked,), Usage(100, 20)))
        run.call("get_order", order_id=order)


def anthropic_alone(orders: list[str]) -> None:
    with fakes.scripted_client(anthropic.Anthropic, httpx2.Client, orders) as client:
        runner = client.beta.messages.tool_runner(
            model="model-a",
            max_tokens=500,
            tools=[beta_tool(get_order)],
            messages=[{"role": "user", "content": PROMPT}],
        )
        runner.until_done()


def openai_alone(orders: list[str]) -> None:
    with fakes.scripted_client(openai.OpenAI, httpx2.Client, orders) as client:
        messages: list[Any] = [{"role": "user", "content": PROMPT}]
        while True:
            answer = client.chat.completions.create(
                model="model-a", messages=messages, tools=DECLARED
            )
            message = answer.choices[0].message
            if not message.tool_calls:
                return
            messages.append(message.to_dict())
            messages += [_result(one) for one in message.tool_calls]


def litellm_alone(orders: list[str]) -> None:
    messages: list[Any] = [{"role": "user", "content": PROMPT}]
    for order in orders:
        function = {"name": "get_order", "arguments": json.dumps({"order_id": order})}
        call = {"id": "c1", "type": "function", "function": function}
        answer = litellm.completion(
            model="openai/model-a", messages=messages, tools=DECLARED, mock_tool_calls=[call]
        )
        message = answer.choices[0].message
        messages += [message.model_dump(), *(_result(one) for one in message.tool_calls)]


def langchain_alone(orders: list[str]) -> None:
    model = fakes.chain_model(orders)
    agent = create_agent(model, tools=[chain_tool(get_order)])
    asked: Any = {"messages": [{"role": "user", "content": PROMPT}]}
    agent.invoke(asked, {"recursion_limit": 10_000})


def openai_agents_alone(orders: list[str]) -> None:
    made = [agents.function_tool(get_order)]
    agent = agents.Agent("desk", model=fakes.FakeModel(orders), tools=made)
    config = agents.RunConfig(tracing_disabled=True)
    asyncio.run(agents.Runner.run(agent, PROMPT, run_config=config, max_turns=10_000))


def pydantic_ai_alone(orders: list[str]) -> None:
    agent = PydanticAgent(fakes.function_model(orders), tools=[get_order])
    asyncio.run(agent.run(PROMPT))


def _result(call: Any) -> dict[str, Any]:
    observed = get_order(**json.loads(call.function.arguments))
    return {"role": "tool", "tool_call_id": call.id, "content": observed}


DECLARED: Any = []
LIMITS: dict[str, dict[str, Any]] = {"langchain": {"recursion_limit": 10_000}}
ALONE: dict[str, Callable[[list[str]], None]] = {
    "own loop": own_alone,
    "openai": openai_alone,
    "anthropic": anthropic_alone,
    "litellm": litellm_alone,
    "langchain": langchain_alone,
    "openai-agents": openai_agents_alone,
    "pydantic-ai": pydantic_ai_alone,
}


def recorded(name: str, orders: list[str], recorder: Recorder) -> None:
    with own_loop("desk", [TOOL], store=recorder, policy=POLICY, task=PROMPT) as run:
        if name == "own loop":
            own_recorded(run, orders)
        else:
            fakes.FRAMEWORKS[name](run, orders, **LIMITS.get(name, {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20, help="tool calls of a run")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    orders = [f"A{place}" for place in range(1, options.calls + 1)]
    with own_loop("desk", [TOOL]) as run:
        DECLARED.extend(chat_tools(run))
    rows = []
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder)) as recorder:
        for name, alone in ALONE.items():
            cases = {
                "alone": lambda alone=alone: alone(list(orders)),
                "recorded": lambda name=name: recorded(name, list(orders), recorder),
            }
            took = rounds(cases, repeat=options.repeat)
            each = {case: 1000 * seconds / options.calls for case, seconds in took.items()}
            added = each["recorded"] - each["alone"]
            ratio = f"{each['recorded'] / each['alone']:.2f}" if each["alone"] > 0.01 else "-"
            cells = (f"{each['alone']:.2f}", f"{each['recorded']:.2f}", f"{added:.2f}", ratio)
            rows.append((name, *cells))
    header = ("framework", "alone ms", "recorded ms", "added ms", "ratio")
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
