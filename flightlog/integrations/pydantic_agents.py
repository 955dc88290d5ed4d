"""pydantic-ai: tools behind the gateway, and a model that tells of its calls.

Importing it needs the package pydantic-ai-slim. Source: pydantic-ai 2.x, `WrapperModel`,
`Tool.from_schema`, the parts of its messages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_ai import Tool
from pydantic_ai.models import Model
from pydantic_ai.models.wrapper import WrapperModel

from flightlog.integrations.messages import text_of
from flightlog.runtime.calls import named_error
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.own_loop import OwnLoop
from flightlog.trace.messages import Message, ToolRequest


def pydantic_tools(run: OwnLoop) -> list[Tool[Any]]:
    """The tools of a run as pydantic-ai takes them; each call passes the gateway.

    What is refused or failed is told to the model as text.
    """
    return [_tool(run, one.name) for one in run.agent.tools]


def pydantic_model(run: OwnLoop, model: Model) -> Model:
    """A model around another one, that records its calls and holds the run's budgets."""
    return _Recorded(run, model)


def _tool(run: OwnLoop, name: str) -> Tool[Any]:
    declared = run.agent.tools_by_name[name]

    async def called(**arguments: Any) -> str:
        return str(await run.call_async(name, **arguments))

    schema = dict(declared.input_schema or {"type": "object", "properties": {}})
    made: Tool[Any] = Tool.from_schema(called, name, declared.description or None, schema)
    return made


class _Recorded(WrapperModel):
    """Records the calls of the model that it is around."""

    def __init__(self, run: OwnLoop, model: Model) -> None:
        super().__init__(model)
        self._run = run

    async def request(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """The other model's answer."""
        call = self._run.begin_model_call(self.wrapped.model_name, prompt=list(_messages(messages)))
        try:
            answer = await self.wrapped.request(messages, *args, **kwargs)
        except Exception as error:
            self._run.end_model_call(call, error=named_error(error))
            raise
        call.provider = answer.provider_name
        call.answer(_response(answer))
        self._run.end_model_call(call)
        return answer

    @asynccontextmanager
    async def request_stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The other model's answer, in pieces."""
        call = self._run.begin_model_call(self.wrapped.model_name, prompt=list(_messages(messages)))
        try:
            async with self.wrapped.request_stream(messages, *args, **kwargs) as stream:
                yield stream
                whole = stream.get()
                call.provider = whole.provider_name
                call.answer(_response(whole))
        except Exception as error:
            self._run.end_model_call(call, error=named_error(error))
            raise
        self._run.end_model_call(call)


def _messages(messages: Iterable[Any]) -> Iterator[Message]:
    for message in messages:
        if instructions := getattr(message, "instructions", None):
            yield Message("system", text_of(instructions))
        if message.kind == "response":
            yield _said(message)
            continue
        for part in message.parts:
            yield _asked(part)


def _asked(part: Any) -> Message:
    content = getattr(part, "content", None)
    if part.part_kind == "system-prompt":
        return Message("system", text_of(content))
    if part.part_kind in ("tool-return", "retry-prompt") and getattr(part, "tool_name", None):
        text = content if isinstance(content, str) else text_of(content)
        return Message("tool", text, tool_call_id=part.tool_call_id, name=part.tool_name)
    return Message("user", text_of(content if isinstance(content, (str, list)) else str(content)))


def _said(response: Any) -> Message:
    texts = [part.content for part in response.parts if part.part_kind == "text"]
    requests = tuple(
        ToolRequest(part.tool_call_id, part.tool_name, part.args_as_json_str())
        for part in response.parts
        if part.part_kind == "tool-call"
    )
    return Message("assistant", "\n".join(texts) if texts else None, requests)


def _response(response: Any) -> ModelResponse:
    said, usage = _said(response), response.usage
    is_counted = bool(usage.input_tokens or usage.output_tokens)
    counted = Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        (usage.details or {}).get("reasoning_tokens"),
    )
    return ModelResponse(
        text=said.text,
        tool_requests=said.tool_requests,
        usage=counted if is_counted else Usage(),
        model=response.model_name,
        response_id=response.provider_response_id,
        finish_reason=response.finish_reason,
    )
