"""OpenAI's chat completions, and all servers that speak them.

Source: OpenAI API reference, "Chat Completions" (create, streaming), 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flightlog.integrations.dialects.dialect import (
    MAX_ANSWER_CHARS,
    MAX_PIECES,
    Answered,
    Asked,
    count_at,
    error_of,
    joined,
    mappings,
    one_answer,
    text_at,
    tools_of,
)
from flightlog.integrations.dialects.sse import event
from flightlog.integrations.messages import messages_of
from flightlog.runtime.model import Usage
from flightlog.trace.canonical import clean_text
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import FinishReason, finish_reason_of

_FINISH = {FinishReason.TOOL_CALL: "tool_calls", FinishReason.LENGTH: "length"}


class Chat:
    """The chat completions API."""

    name = "chat"
    path = "/chat/completions"
    provider = "openai"

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request asks."""
        options = body.get("stream_options")
        declared = [one.get("function") for one in mappings(body.get("tools"))]
        return Asked(
            model=text_at(body, "model"),
            messages=joined(messages_of(body.get("messages"))),
            is_streamed=body.get("stream") is True,
            wants_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
            tools=tools_of(declared, "parameters"),
        )

    def answered(self, body: Mapping[str, Any]) -> Answered:
        """What a whole answer, or an error, says."""
        choices = mappings(body.get("choices"))
        if not choices:
            return error_of(body)
        message = choices[0].get("message")
        refusal = text_at(message, "refusal")
        output = one_answer(messages_of(message, role="assistant"))
        if refusal and (output is None or not output.text):
            output = Message("assistant", refusal)
        return Answered(
            output=output,
            model=text_at(body, "model"),
            response_id=text_at(body, "id"),
            usage=_usage(body.get("usage")),
            finish_reason="refusal" if refusal else text_at(choices[0], "finish_reason"),
        )

    def gatherer(self) -> _Pieces:
        """For an answer in pieces."""
        return _Pieces()

    def body_of(self, answer: Answered) -> dict[str, Any]:
        """An answer as the API gives it."""
        message = answer.output or Message("assistant", "")
        plain: dict[str, Any] = {"role": "assistant", "content": message.text, "refusal": None}
        if message.tool_requests:
            plain["tool_calls"] = [_call(one) for one in message.tool_requests]
        return _base(answer, "chat.completion") | {
            "choices": [
                {
                    "index": 0,
                    "message": plain,
                    "finish_reason": _finish(answer),
                    "logprobs": None,
                }
            ],
            "usage": _usage_body(answer.usage),
        }

    def events_of(self, answer: Answered, *, wants_usage: bool) -> Iterator[bytes]:
        """An answer in pieces as the API gives it."""
        message = answer.output or Message("assistant", "")
        base = _base(answer, "chat.completion.chunk")

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return event(base | {"choices": [choice]})

        yield chunk({"role": "assistant", "content": "" if message.text else None})
        if message.text:
            yield chunk({"content": message.text})
        for place, one in enumerate(message.tool_requests):
            yield chunk({"tool_calls": [{"index": place} | _call(one)]})
        yield chunk({}, _finish(answer))
        usage = _usage_body(answer.usage)
        if wants_usage and usage is not None:
            yield event(base | {"choices": [], "usage": usage})
        yield event("[DONE]")

    def error_body(self, text: str, *, kind: str) -> dict[str, Any]:
        """An error as the API gives it."""
        return {"error": {"message": text, "type": kind, "param": None, "code": kind}}

    def error_event(self, text: str, *, kind: str) -> bytes:
        """An error in the middle of an answer in pieces."""
        return event(self.error_body(text, kind=kind))


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class _Pieces:
    """Puts an answer together out of its chunks."""

    def __init__(self) -> None:
        self.is_begun = False
        self.is_done = False
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._chars = 0
        self._model: str | None = None
        self._id: str | None = None
        self._finish: str | None = None
        self._usage = Usage()
        self._error: Answered | None = None

    def feed(self, name: str, data: Mapping[str, Any] | None) -> None:
        """Takes one chunk."""
        del name
        if data is None:
            self.is_done = self.is_done or self._finish is not None
            return
        if "error" in data:
            self._error, self.is_done = error_of(data), True
            return
        self._model = text_at(data, "model") or self._model
        self._id = text_at(data, "id") or self._id
        if isinstance(data.get("usage"), Mapping):
            self._usage = _usage(data["usage"])
        for choice in mappings(data.get("choices")):
            if choice.get("index", 0) == 0:
                self._finish = text_at(choice, "finish_reason") or self._finish
                self._add(choice.get("delta"))

    def _add(self, delta: Any) -> None:
        text, refusal = text_at(delta, "content"), text_at(delta, "refusal")
        calls = mappings(delta.get("tool_calls")) if isinstance(delta, Mapping) else []
        self.is_begun = self.is_begun or bool(text or refusal or calls)
        self._keep(self._texts, text)
        self._keep(self._refusals, refusal)
        for piece in calls:
            place = count_at(piece, "index") or 0
            if place >= MAX_PIECES:
                continue
            call = self._calls.setdefault(place, _Call())
            call.id = text_at(piece, "id") or call.id
            call.name += text_at(piece, "function", "name") or ""
            self._keep(call.arguments, text_at(piece, "function", "arguments"))

    def _keep(self, pieces: list[str], text: str | None) -> None:
        if text and self._chars <= MAX_ANSWER_CHARS:
            self._chars += len(text)
            pieces.append(text)

    def answered(self) -> Answered:
        """What has come so far."""
        refusal = "".join(self._refusals)
        text = "".join(self._texts) or refusal or None
        requests = tuple(
            ToolRequest(call.id, call.name, "".join(call.arguments) or "{}")
            for _, call in sorted(self._calls.items())
        )
        has_answer = self.is_begun or self._finish is not None
        return Answered(
            output=Message("assistant", text, requests) if has_answer else None,
            model=self._model,
            response_id=self._id,
            usage=self._usage,
            finish_reason="refusal" if refusal else self._finish,
            error=self._error.error if self._error else None,
            error_code=self._error.error_code if self._error else None,
        )


def _usage(usage: Any) -> Usage:
    return Usage(
        input_tokens=count_at(usage, "prompt_tokens"),
        output_tokens=count_at(usage, "completion_tokens"),
        cache_read_tokens=count_at(usage, "prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=count_at(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _usage_body(usage: Usage) -> dict[str, Any] | None:
    if usage.tokens is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
    }


def _base(answer: Answered, kind: str) -> dict[str, Any]:
    return {
        "id": answer.response_id or "chatcmpl-recorded",
        "object": kind,
        "created": 0,
        "model": answer.model or "recorded",
    }


def _call(request: ToolRequest) -> dict[str, Any]:
    function = {"name": request.name, "arguments": clean_text(request.arguments)}
    return {"id": request.id, "type": "function", "function": function}


def _finish(answer: Answered) -> str:
    reason = finish_reason_of(answer.finish_reason)
    if reason is FinishReason.CONTENT_FILTER:
        return "content_filter"
    if answer.output is not None and answer.output.tool_requests and reason is None:
        return "tool_calls"
    return _FINISH.get(reason, "stop") if reason else "stop"
