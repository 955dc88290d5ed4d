"""Models behind Anthropic's messages API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flightlog.errors import MissingExtraError
from flightlog.integrations.models.wire import ToolNames, endpoints_at, object_of, schema_of
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message, ToolRequest

DEFAULT_MAX_TOKENS: Final = 4096
"""Most tokens of one answer, which the API wants to be told."""


class AnthropicModel:
    """A model that the official `anthropic` SDK talks to.

    Each request holds the whole conversation; nothing is kept on the server. Blocking; in
    `run_async` it has a worker thread.

    Args:
        name: the model, such as `claude-sonnet-5`.
        base_url: None takes `ANTHROPIC_BASE_URL`, else Anthropic's own.
        api_key: None takes `ANTHROPIC_API_KEY`.
        stream: have the answer in pieces, which tells the time to the first token.
        max_output_tokens: most tokens of one answer; USD and token budgets are exact by it.
        options: further parameters of the API, such as `{"temperature": 0}`.
        client: an `anthropic.Anthropic` of your own.

    Attributes:
        name: the model.
        provider: in the words of OpenTelemetry.
        max_output_tokens: as given.
        endpoints: host and port that it connects to; a replay lets nothing else through.

    Raises:
        MissingExtraError: the package `anthropic` is not installed.
    """

    provider = "anthropic"

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        stream: bool = False,
        max_output_tokens: int = DEFAULT_MAX_TOKENS,
        options: Mapping[str, Any] | None = None,
        client: Any = None,
    ) -> None:
        self.name = name
        self.max_output_tokens = max_output_tokens
        self._stream = stream
        self._options = dict(options or {})
        self._client = client if client is not None else _client(base_url, api_key)
        self.endpoints = endpoints_at(str(self._client.base_url))

    def complete(self, request: ModelRequest) -> ModelResponse:
        """One answer; errors of the SDK come as they are, after its own retries."""
        named = [tool.name for tool in request.tools]
        named += [one.name for message in request.messages for one in message.tool_requests]
        names = ToolNames(named)
        system = [one.text for one in request.messages if one.role == "system" and one.text]
        body: dict[str, Any] = {
            "model": self.name,
            "max_tokens": self.max_output_tokens,
            "messages": _turns(request.messages, names),
            "extra_body": self._options or None,
        }
        if system:
            body["system"] = [{"type": "text", "text": text} for text in system]
        if request.tools:
            body["tools"] = [
                {
                    "name": names.out(tool.name),
                    "description": tool.description,
                    "input_schema": schema_of(tool),
                }
                for tool in request.tools
            ]
        if not self._stream:
            return _response(self._client.messages.create(**body), names)
        started, first_ms = time.perf_counter(), None
        with self._client.messages.stream(**body) as events:
            for event in events:
                if first_ms is None and event.type == "content_block_delta":
                    first_ms = (time.perf_counter() - started) * 1000
            return _response(events.get_final_message(), names, first_ms=first_ms)

    def close(self) -> None:
        """Closes the connections of the client."""
        self._client.close()


def _client(base_url: str | None, api_key: str | None) -> Any:
    try:
        import anthropic  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(
            "models of the anthropic SDK need the package anthropic",
            hint="pip install 'flightlog[anthropic]'",
        ) from error
    return anthropic.Anthropic(base_url=base_url, api_key=api_key)


def _turns(messages: Sequence[Message], names: ToolNames) -> list[dict[str, Any]]:
    """The conversation as turns of user and assistant; answers of tools are the user's."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, names)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message, names: ToolNames) -> list[dict[str, Any]]:
    if message.role == "tool":
        answers = message.tool_call_id or ""
        return [{"type": "tool_result", "tool_use_id": answers, "content": message.text or ""}]
    blocks: list[dict[str, Any]] = []
    if message.text:
        blocks.append({"type": "text", "text": message.text})
    blocks += [
        {
            "type": "tool_use",
            "id": one.id,
            "name": names.out(one.name),
            "input": object_of(one.arguments),
        }
        for one in message.tool_requests
    ]
    return blocks


def _response(answer: Any, names: ToolNames, *, first_ms: float | None = None) -> ModelResponse:
    texts = [block.text for block in answer.content if block.type == "text"]
    return ModelResponse(
        text="".join(texts) or None,
        tool_requests=tuple(
            ToolRequest(block.id, names.back(block.name), canonical_json(block.input))
            for block in answer.content
            if block.type == "tool_use"
        ),
        usage=_usage(answer.usage),
        model=answer.model,
        response_id=answer.id,
        finish_reason=answer.stop_reason,
        time_to_first_token_ms=first_ms,
    )


def _usage(usage: Any) -> Usage:
    """The provider counts cached tokens apart; here input has them in it."""
    read = getattr(usage, "cache_read_input_tokens", None)
    written = getattr(usage, "cache_creation_input_tokens", None)
    return Usage(
        input_tokens=usage.input_tokens + (read or 0) + (written or 0),
        output_tokens=usage.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
