"""OpenAI's responses API.

Source: OpenAI API reference, "Responses" (create, streaming events), 2026.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flightlog.integrations.dialects.dialect import (
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
from flightlog.trace.messages import Message
from flightlog.trace.vocab import FinishReason, finish_reason_of

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_INCOMPLETE: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


class Responses:
    """The responses API."""

    name = "responses"
    path = "/responses"
    provider = "openai"

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request asks."""
        instructions = text_at(body, "instructions")
        system = [] if instructions is None else [Message("system", instructions)]
        thread = text_at(body, "conversation") or text_at(body, "conversation", "id")
        return Asked(
            model=text_at(body, "model"),
            messages=(*system, *joined(messages_of(body.get("input")))),
            is_streamed=body.get("stream") is True,
            previous_id=text_at(body, "previous_response_id"),
            thread_id=thread,
            tools=tools_of(body.get("tools"), "parameters"),
        )

    def answered(self, body: Mapping[str, Any]) -> Answered:
        """What a whole answer, or an error, says."""
        if not isinstance(body.get("output"), list):
            return error_of(body)
        messages = messages_of(body["output"], role="assistant")
        output = one_answer([one for one in messages if one.role == "assistant"])
        refusal = _refusal(body["output"])
        if refusal and (output is None or not output.text):
            output = Message("assistant", refusal)
        is_failed = body.get("status") == "failed" or isinstance(body.get("error"), Mapping)
        error = error_of(body) if is_failed else Answered()
        return Answered(
            output=output,
            model=text_at(body, "model"),
            response_id=text_at(body, "id"),
            usage=_usage(body.get("usage")),
            finish_reason="refusal" if refusal else _finish_of(body),
            error=error.error,
            error_code=error.error_code,
        )

    def gatherer(self) -> _Pieces:
        """For an answer in pieces."""
        return _Pieces(self)

    def body_of(self, answer: Answered) -> dict[str, Any]:
        """An answer as the API gives it."""
        message = answer.output or Message("assistant", "")
        ident = answer.response_id or "resp_recorded"
        output: list[dict[str, Any]] = []
        if message.text is not None:
            part = {"type": "output_text", "text": message.text, "annotations": []}
            output.append(
                {
                    "type": "message",
                    "id": f"msg_{ident}",
                    "role": "assistant",
                    "status": "completed",
                    "content": [part],
                }
            )
        output += [
            {
                "type": "function_call",
                "id": f"fc_{ident}_{place}",
                "call_id": one.id,
                "name": one.name,
                "arguments": one.arguments,
                "status": "completed",
            }
            for place, one in enumerate(message.tool_requests)
        ]
        is_cut = finish_reason_of(answer.finish_reason) is FinishReason.LENGTH
        return {
            "id": ident,
            "object": "response",
            "created_at": 0,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "error": None,
            "model": answer.model or "recorded",
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": _usage_body(answer.usage),
        }

    def events_of(self, answer: Answered, *, wants_usage: bool) -> Iterator[bytes]:
        """An answer in pieces as the API gives it."""
        del wants_usage
        whole = self.body_of(answer)
        numbers = iter(range(1 << 30))

        def told(kind: str, **fields: Any) -> bytes:
            return event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

        begun = whole | {"status": "in_progress", "output": [], "usage": None}
        yield told("response.created", response=begun)
        for place, item in enumerate(whole["output"]):
            where = {"output_index": place, "item_id": item["id"]}
            is_message = item["type"] == "message"
            empty: dict[str, Any] = {"content": []} if is_message else {"arguments": ""}
            yield told(
                "response.output_item.added",
                output_index=place,
                item=item | empty | {"status": "in_progress"},
            )
            if is_message:
                part = item["content"][0]
                at = where | {"content_index": 0}
                yield told("response.content_part.added", **at, part=part | {"text": ""})
                yield told("response.output_text.delta", **at, delta=part["text"], logprobs=[])
                yield told("response.output_text.done", **at, text=part["text"], logprobs=[])
                yield told("response.content_part.done", **at, part=part)
            else:
                text = item["arguments"]
                yield told("response.function_call_arguments.delta", **where, delta=text)
                yield told(
                    "response.function_call_arguments.done",
                    **where,
                    name=item["name"],
                    arguments=text,
                )
            yield told("response.output_item.done", output_index=place, item=item)
        yield told(f"response.{whole['status']}", response=whole)

    def error_body(self, text: str, *, kind: str) -> dict[str, Any]:
        """An error as the API gives it."""
        return {"error": {"message": text, "type": kind, "param": None, "code": kind}}

    def error_event(self, text: str, *, kind: str) -> bytes:
        """An error in the middle of an answer in pieces."""
        return event({"type": "error", "message": text, "code": kind, "param": None}, "error")


class _Pieces:
    """Waits for the end, which holds the whole answer."""

    def __init__(self, dialect: Responses) -> None:
        self.is_begun = False
        self.is_done = False
        self._dialect = dialect
        self._answered = Answered()
        self._texts: list[str] = []

    def feed(self, name: str, data: Mapping[str, Any] | None) -> None:
        """Takes one event."""
        del name
        kind = text_at(data, "type") or ""
        response = data.get("response") if data is not None else None
        if kind in _ENDS and isinstance(response, Mapping):
            self._answered, self.is_done = self._dialect.answered(response), True
        elif kind == "error" or (data is not None and "error" in data and not kind):
            self._answered, self.is_done = error_of(data), True
        elif kind == "response.created" and isinstance(response, Mapping):
            model, ident = text_at(response, "model"), text_at(response, "id")
            self._answered = Answered(model=model, response_id=ident)
        elif kind.endswith(".delta"):
            self.is_begun = True

    def answered(self) -> Answered:
        """The answer, where its end has come; else who was answering."""
        return self._answered


def _refusal(output: list[Any]) -> str | None:
    parts = [part for item in mappings(output) for part in mappings(item.get("content"))]
    texts = [text_at(part, "refusal") for part in parts if part.get("type") == "refusal"]
    return "\n".join(text for text in texts if text) or None


def _finish_of(body: Mapping[str, Any]) -> str | None:
    if body.get("status") == "incomplete":
        reason = text_at(body, "incomplete_details", "reason") or ""
        return _INCOMPLETE.get(reason, reason)
    if body.get("status") == "failed":
        return "error"
    if body.get("status") != "completed":
        return None
    # Calls of tools that the provider runs itself wait for nobody.
    asks = any(item.get("type") in _CALLS for item in mappings(body["output"]))
    return "tool_calls" if asks else "stop"


def _usage(usage: Any) -> Usage:
    return Usage(
        input_tokens=count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "output_tokens"),
        cache_read_tokens=count_at(usage, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=count_at(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "output_tokens_details", "reasoning_tokens"),
    )


def _usage_body(usage: Usage) -> dict[str, Any] | None:
    if usage.tokens is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.tokens,
    }
