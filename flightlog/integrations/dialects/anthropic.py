"""Anthropic's messages API.

Source: Anthropic API reference, "Messages" (create, streaming, threads), version 2026-10-21.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

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
from flightlog.integrations.messages import messages_of, parsed
from flightlog.integrations.models.wire import object_of
from flightlog.runtime.model import Usage
from flightlog.trace.messages import Message
from flightlog.trace.vocab import FinishReason, finish_reason_of

_FINISH: Final = {
    FinishReason.TOOL_CALL: "tool_use",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.REFUSAL: "refusal",
}
_DELTAS: Final = {"text_delta": "text", "input_json_delta": "partial_json"}


class Messages:
    """The messages API."""

    name = "messages"
    path = "/messages"
    provider = "anthropic"

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request asks."""
        system = body.get("system")
        found = messages_of(system, role="system") if system is not None else []
        texts = [one.text for one in found if one.text is not None]
        head = [Message("system", "\n".join(texts))] if texts else []
        thread = body.get("thread")
        return Asked(
            model=text_at(body, "model"),
            messages=(*head, *joined(messages_of(body.get("messages")))),
            is_streamed=body.get("stream") is True,
            previous_id=text_at(thread, "previous_message_id"),
            tools=tools_of(body.get("tools"), "input_schema"),
            failed_calls=frozenset(
                ident
                for message in mappings(body.get("messages"))
                for part in mappings(message.get("content"))
                if part.get("is_error") is True and (ident := text_at(part, "tool_use_id"))
            ),
        )

    def answered(self, body: Mapping[str, Any]) -> Answered:
        """What a whole answer, or an error, says."""
        if body.get("type") == "error" or not isinstance(body.get("content"), list):
            return error_of(body)
        message = {"role": "assistant", "content": body["content"]}
        return Answered(
            output=one_answer(messages_of(message, role="assistant")),
            model=text_at(body, "model"),
            response_id=text_at(body, "id"),
            usage=_usage(body.get("usage")),
            finish_reason=text_at(body, "stop_reason"),
        )

    def gatherer(self) -> _Pieces:
        """For an answer in pieces."""
        return _Pieces(self)

    def body_of(self, answer: Answered) -> dict[str, Any]:
        """An answer as the API gives it."""
        message = answer.output or Message("assistant", "")
        content: list[dict[str, Any]] = []
        if message.text:
            content.append({"type": "text", "text": message.text})
        content += [
            {
                "type": "tool_use",
                "id": one.id,
                "name": one.name,
                "input": object_of(one.arguments),
            }
            for one in message.tool_requests
        ]
        return {
            "id": answer.response_id or "msg_recorded",
            "type": "message",
            "role": "assistant",
            "model": answer.model or "recorded",
            "content": content,
            "stop_reason": _finish(answer),
            "stop_sequence": None,
            "usage": _usage_body(answer.usage),
        }

    def events_of(self, answer: Answered, *, wants_usage: bool) -> Iterator[bytes]:
        """An answer in pieces as the API gives it."""
        del wants_usage
        whole = self.body_of(answer)

        def told(kind: str, **fields: Any) -> bytes:
            return event({"type": kind, **fields}, kind)

        usage = whole["usage"]
        begun = {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 0}}
        yield told("message_start", message=whole | begun)
        for place, block in enumerate(whole["content"]):
            if block["type"] == "text":
                empty: dict[str, Any] = {"text": ""}
                delta = {"type": "text_delta", "text": block["text"]}
            else:
                requests = answer.output.tool_requests if answer.output else ()
                text = next(one.arguments for one in requests if one.id == block["id"])
                delta = {"type": "input_json_delta", "partial_json": text}
                empty = {"input": {}}
            yield told("content_block_start", index=place, content_block=block | empty)
            yield told("content_block_delta", index=place, delta=delta)
            yield told("content_block_stop", index=place)
        ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield told("message_delta", delta=ended, usage={"output_tokens": usage["output_tokens"]})
        yield told("message_stop")

    def error_body(self, text: str, *, kind: str) -> dict[str, Any]:
        """An error as the API gives it."""
        return {"type": "error", "error": {"type": kind, "message": text}}

    def error_event(self, text: str, *, kind: str) -> bytes:
        """An error in the middle of an answer in pieces."""
        return event(self.error_body(text, kind=kind), "error")


class _Pieces:
    """Puts an answer together out of its events."""

    def __init__(self, dialect: Messages) -> None:
        self.is_begun = False
        self.is_done = False
        self._dialect = dialect
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[int, list[str]] = {}
        self._usage: dict[str, Any] = {}
        self._chars = 0
        self._error: Answered | None = None

    def feed(self, name: str, data: Mapping[str, Any] | None) -> None:
        """Takes one event."""
        kind = text_at(data, "type") or name
        if data is None:
            return
        if kind == "error":
            self._error, self.is_done = error_of(data), True
        elif kind == "message_start" and isinstance(data.get("message"), Mapping):
            self._message = dict(data["message"])
            self._count(self._message.get("usage"))
        elif kind == "content_block_start" and isinstance(data.get("content_block"), Mapping):
            place = count_at(data, "index") or 0
            if place < MAX_PIECES:
                self._blocks[place] = dict(data["content_block"])
        elif kind == "content_block_delta":
            self._add(count_at(data, "index") or 0, data.get("delta"))
        elif kind == "message_delta":
            if isinstance(data.get("delta"), Mapping):
                self._message |= data["delta"]
            self._count(data.get("usage"))
        elif kind == "message_stop":
            self.is_done = True

    def _add(self, place: int, delta: Any) -> None:
        text = text_at(delta, _DELTAS.get(text_at(delta, "type") or "", ""))
        self.is_begun = True
        if text and self._chars <= MAX_ANSWER_CHARS and place in self._blocks:
            self._chars += len(text)
            self._pieces.setdefault(place, []).append(text)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def answered(self) -> Answered:
        """What has come so far."""
        if not self._message:
            return self._error or Answered()
        content = [self._block(place) for place in sorted(self._blocks)]
        whole = self._message | {"type": "message", "content": content, "usage": self._usage}
        found = self._dialect.answered(whole)
        if self._error is None:
            return found
        return Answered(
            found.output,
            found.model,
            found.response_id,
            found.usage,
            found.finish_reason,
            self._error.error,
            self._error.error_code,
        )

    def _block(self, place: int) -> dict[str, Any]:
        block, pieces = self._blocks[place], self._pieces.get(place)
        if pieces is None:
            return block
        text = "".join(pieces)
        return block | ({"text": text} if block.get("type") == "text" else {"input": parsed(text)})


def _usage(usage: Any) -> Usage:
    """The provider counts cached tokens apart; here input has them in it."""
    fresh = count_at(usage, "input_tokens")
    read = count_at(usage, "cache_read_input_tokens")
    written = count_at(usage, "cache_creation_input_tokens")
    if written is None:
        written = count_at(usage, "cache_write_input_tokens")
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        output_tokens=count_at(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
    )


def _usage_body(usage: Usage) -> dict[str, Any]:
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    return {
        "input_tokens": max(0, (usage.input_tokens or 0) - read - written),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.output_tokens or 0,
    }


def _finish(answer: Answered) -> str:
    reason = finish_reason_of(answer.finish_reason)
    if reason is None and answer.output is not None and answer.output.tool_requests:
        return "tool_use"
    return _FINISH.get(reason, "end_turn") if reason else "end_turn"
