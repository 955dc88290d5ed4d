"""Models behind the chat completions API: OpenAI's, and all servers that speak it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flightlog.errors import MissingExtraError
from flightlog.integrations.models.wire import ToolNames, endpoints_at, schema_of
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.trace.messages import Message, ToolRequest


class OpenAIModel:
    """A model that the official `openai` SDK talks to.

    Also for vLLM, Ollama, LiteLLM, Azure and others: give `base_url`, or a client of
    your own. Blocking; in `run_async` it has a worker thread.

    Args:
        name: the model, such as `gpt-6`.
        base_url: None takes `OPENAI_BASE_URL`, else OpenAI's own.
        api_key: None takes `OPENAI_API_KEY`.
        stream: have the answer in pieces, which tells the time to the first token.
        max_output_tokens: most tokens of one answer; USD and token budgets are exact then.
        options: further parameters of the API, such as `{"temperature": 0}`.
        client: an `openai.OpenAI` of your own.

    Attributes:
        name: the model.
        provider: in the words of OpenTelemetry.
        max_output_tokens: as given.
        endpoints: host and port that it connects to; a replay lets nothing else through.

    Raises:
        MissingExtraError: the package `openai` is not installed.
        openai.OpenAIError: no key is given.
    """

    provider = "openai"

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        stream: bool = False,
        max_output_tokens: int | None = None,
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
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [_message(one, names) for one in request.messages],
            "extra_body": self._options or None,
        }
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": names.out(tool.name),
                        "description": tool.description,
                        "parameters": schema_of(tool),
                    },
                }
                for tool in request.tools
            ]
        if self.max_output_tokens is not None and "max_tokens" not in self._options:
            body["max_completion_tokens"] = self.max_output_tokens
        if not self._stream:
            return _response(self._client.chat.completions.create(**body), names)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        with self._client.chat.completions.create(**body) as chunks:
            return _gathered(chunks, names, started)

    def close(self) -> None:
        """Closes the connections of the client."""
        self._client.close()


def _client(base_url: str | None, api_key: str | None) -> Any:
    try:
        import openai  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(
            "models of the openai SDK need the package openai",
            hint="pip install 'flightlog[openai]'",
        ) from error
    return openai.OpenAI(base_url=base_url, api_key=api_key)


def _message(message: Message, names: ToolNames) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.text or ""}
    if message.role == "tool":
        plain["tool_call_id"] = message.tool_call_id or ""
    if message.tool_requests:
        plain["content"] = message.text or None
        plain["tool_calls"] = [
            {
                "id": one.id,
                "type": "function",
                "function": {"name": names.out(one.name), "arguments": one.arguments},
            }
            for one in message.tool_requests
        ]
    return plain


def _response(answer: Any, names: ToolNames) -> ModelResponse:
    choice = answer.choices[0]
    message = choice.message
    requests = tuple(
        ToolRequest(one.id, names.back(one.function.name), one.function.arguments or "{}")
        for one in message.tool_calls or ()
        if one.type == "function"
    )
    refusal = getattr(message, "refusal", None)
    return ModelResponse(
        text=message.content or refusal or None,
        tool_requests=requests,
        usage=_usage(answer.usage),
        model=answer.model,
        response_id=answer.id,
        finish_reason="refusal" if refusal else choice.finish_reason,
    )


@dataclass(slots=True)
class _Call:
    """One tool call as its pieces come in."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


def _gathered(chunks: Iterable[Any], names: ToolNames, started: float) -> ModelResponse:
    """The answer out of its pieces; what the provider does not state stays unknown."""
    texts: list[str] = []
    refusals: list[str] = []
    calls: dict[int, _Call] = {}
    first_ms = model = response_id = finish = usage = None
    for chunk in chunks:
        model, response_id = chunk.model or model, chunk.id or response_id
        usage = chunk.usage or usage
        for choice in chunk.choices[:1]:
            delta, finish = choice.delta, choice.finish_reason or finish
            pieces = delta.tool_calls or ()
            if first_ms is None and (delta.content or pieces):
                first_ms = (time.perf_counter() - started) * 1000
            texts.append(delta.content or "")
            refusals.append(getattr(delta, "refusal", None) or "")
            for piece in pieces:
                call = calls.setdefault(piece.index, _Call())
                call.id = piece.id or call.id
                if piece.function is not None:
                    call.name += piece.function.name or ""
                    call.arguments.append(piece.function.arguments or "")
    refusal = "".join(refusals)
    return ModelResponse(
        text="".join(texts) or refusal or None,
        tool_requests=tuple(
            ToolRequest(call.id, names.back(call.name), "".join(call.arguments) or "{}")
            for _, call in sorted(calls.items())
        ),
        usage=_usage(usage),
        model=model,
        response_id=response_id,
        finish_reason="refusal" if refusal else finish,
        time_to_first_token_ms=first_ms,
    )


def _usage(usage: Any) -> Usage:
    if usage is None:
        return Usage()
    prompt = getattr(usage, "prompt_tokens_details", None)
    answer = getattr(usage, "completion_tokens_details", None)
    return Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=getattr(prompt, "cached_tokens", None),
        reasoning_tokens=getattr(answer, "reasoning_tokens", None),
    )
