"""Small agents on the official SDKs: they ask, call tools, and ask again until they have it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anthropic
import openai

from flightlog.analysis.db import Traces

PROMPT = "Where is order A1?"
SYSTEM = "You are a desk."
KEY = "sk-test-0123456789abcdefghijklmnop"
SCHEMA = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}},
    "required": ["order_id"],
}
Agent = Callable[[str, Mapping[str, str]], str]


def get_order(order_id: str) -> str:
    """The tool; an order without a number is an error."""
    if order_id == "A0":
        raise LookupError("no order A0")
    return json.dumps({"order_id": order_id, "status": "shipped"})


def _observed(arguments: str) -> tuple[str, bool]:
    try:
        return get_order(**json.loads(arguments)), False
    except LookupError as error:
        return str(error), True


def chat(url: str, headers: Mapping[str, str], *, stream: bool = False) -> str:
    """Chat completions."""
    tool = {"name": "get_order", "description": "Looks it up.", "parameters": SCHEMA}
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": PROMPT},
    ]
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, default_headers=headers) as client:
        while True:
            body: Any = {
                "model": "gpt-x",
                "messages": messages,
                "tools": [{"type": "function", "function": tool}],
            }
            if stream:
                wanted = {"include_usage": True}
                with client.chat.completions.stream(**body, stream_options=wanted) as events:
                    for _ in events:
                        pass
                    said = events.get_final_completion().choices[0].message
            else:
                said = client.chat.completions.create(**body).choices[0].message
            messages.append(said.model_dump(exclude_none=True, exclude={"parsed"}))
            if not said.tool_calls:
                return said.content or ""
            messages += [
                {
                    "role": "tool",
                    "tool_call_id": one.id,
                    "content": _observed(one.function.arguments)[0],
                }
                for one in said.tool_calls
            ]


def responses(
    url: str, headers: Mapping[str, str], *, stream: bool = False, thread: bool = False
) -> str:
    """The responses API; as a thread it sends only what is new."""
    tool = {"type": "function", "name": "get_order", "parameters": SCHEMA, "strict": False}
    items: list[Any] = [{"role": "user", "content": PROMPT}]
    previous: Any = openai.omit
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, default_headers=headers) as client:
        while True:
            body: Any = {
                "model": "gpt-x",
                "instructions": SYSTEM,
                "input": items,
                "tools": [tool],
                "previous_response_id": previous,
            }
            if stream:
                with client.responses.stream(**body) as events:
                    for _ in events:
                        pass
                    said = events.get_final_response()
            else:
                said = client.responses.create(**body)
            calls = [one for one in said.output if one.type == "function_call"]
            if not calls:
                return said.output_text
            if thread:
                items, previous = [], said.id
            else:
                items += [one.model_dump(exclude_none=True) for one in said.output]
            items += [
                {
                    "type": "function_call_output",
                    "call_id": one.call_id,
                    "output": _observed(one.arguments)[0],
                }
                for one in calls
            ]


def messages(
    url: str, headers: Mapping[str, str], *, stream: bool = False, thread: bool = False
) -> str:
    """Anthropic's messages; as a thread they are only what is new."""
    tool = {"name": "get_order", "description": "Looks it up.", "input_schema": SCHEMA}
    turns: list[Any] = [{"role": "user", "content": PROMPT}]
    threading: dict[str, Any] = {"thread": {"type": "create"}} if thread else {}
    with anthropic.Anthropic(base_url=url, api_key=KEY, default_headers=headers) as client:
        while True:
            body: Any = {
                "model": "claude-x",
                "max_tokens": 100,
                "system": SYSTEM,
                "messages": turns,
                "tools": [tool],
                "extra_body": threading,
            }
            if stream:
                with client.messages.stream(**body) as events:
                    said = events.get_final_message()
            else:
                said = client.messages.create(**body)
            calls = [one for one in said.content if one.type == "tool_use"]
            if not calls:
                return "".join(one.text for one in said.content if one.type == "text")
            results = []
            for one in calls:
                text, is_error = _observed(json.dumps(one.input))
                told = {"type": "tool_result", "tool_use_id": one.id, "content": text}
                results.append(told | {"is_error": is_error})
            if thread:
                turns = []
                threading = {"thread": {"type": "continue", "previous_message_id": said.id}}
            else:
                blocks = [one.model_dump(exclude_none=True) for one in said.content]
                turns.append({"role": "assistant", "content": blocks})
            turns.append({"role": "user", "content": results})


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    """Rows of a store."""
    with Traces(store) as traces:
        return traces.sql(query).to_arrow_table().to_pylist()
