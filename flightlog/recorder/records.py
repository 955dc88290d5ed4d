"""Events and messages as the payloads of a journal; what is too long for one, in a blob."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from flightlog.recorder.blobs import INLINE_BYTES, is_long, write_blob
from flightlog.recorder.layout import Layout, is_digest
from flightlog.trace.events import (
    Evaluation,
    Event,
    ModelCall,
    RunStarted,
    RunStopped,
    StateChanged,
    ToolCall,
    ToolIntent,
    encode_event,
)
from flightlog.trace.fitting import (
    FLAG_SURROGATES,
    MAX_TEXT_BYTES,
    fitted,
    fitted_text,
)
from flightlog.trace.foreign_writer import LOSSY
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.slices import is_valid_utf8, utf8_size

NewFile = Callable[[Path], None]

_LONG_FIELDS: Final[dict[type[Event], Callable[[Any], tuple[Any, ...]]]] = {
    ToolCall: attrgetter("args", "error", "tool_name", "tool_call_id"),
    ToolIntent: attrgetter("args", "tool_name", "tool_call_id"),
    ModelCall: attrgetter("error", "response_id", "response_model"),
    RunStopped: attrgetter("answer", "stop_detail", "source_stop_reason"),
    RunStarted: attrgetter("agent", "model", "task_id", "source", "source_run_id", "tenant"),
    Evaluation: attrgetter("name", "detail"),
    StateChanged: attrgetter("detail", "subject", "tool_name"),
}
"""The texts that agents and tools write; any other is cut when it has been encoded."""


def event_payload(event: Event, layout: Layout, on_new_file: NewFile) -> bytes:
    """The event as a record.

    Args:
        event: any, also one with values that its columns cannot hold.
        layout: where a long observation becomes a blob.
        on_new_file: is called with a blob that is not synced yet.

    Raises:
        OSError: a blob cannot be written.
    """
    try:
        if type(event) is ToolCall:
            if event.result_blob is not None:
                event = _without_odd_blob(event)
            if event.result is not None and is_long(event.result):
                event = _with_blob(event, layout, on_new_file)
        long_fields = _LONG_FIELDS.get(type(event))
        if long_fields is not None:
            for text in long_fields(event):
                if text is not None and len(text) > MAX_TEXT_BYTES:
                    event = fitted(event)
                    break
        payload = encode_event(event)
        return payload if len(payload) <= MAX_TEXT_BYTES else encode_event(fitted(event))
    except OSError:
        raise
    except Exception:  # a value that JSON does not have, or that no column has
        event = fitted(event)
        if isinstance(event, ToolCall):
            event = _without_odd_blob(event)
            if event.result is not None and is_long(event.result):
                event = _with_blob(event, layout, on_new_file)
        return encode_event(event)


def _without_odd_blob(event: ToolCall) -> ToolCall:
    """The event without a name of a blob that can be none: it would only mislead readers."""
    if event.result_blob is None or is_digest(event.result_blob):
        return event
    flag = event.result_flag or f"{LOSSY}it named a blob that cannot be"
    return msgspec.structs.replace(event, result_blob=None, result_flag=flag)


def _with_blob(event: ToolCall, layout: Layout, on_new_file: NewFile) -> ToolCall:
    text = event.result or ""
    digest, new_file = write_blob(layout, text)
    on_new_file(new_file)
    flag = event.result_flag or (None if is_valid_utf8(text) else FLAG_SURROGATES)
    return msgspec.structs.replace(event, result=None, result_blob=digest, result_flag=flag)


class MessageRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of the messages table, as it stands in the journal."""

    digest: str
    role: str
    text: str | None = None
    tool_requests: str | None = None
    tool_call_id: str | None = None
    name: str | None = None
    text_blob: str | None = None
    text_bytes: int | None = None


_encode_row = msgspec.json.Encoder().encode


def message_payload(message: Message, layout: Layout, on_new_file: NewFile) -> bytes:
    """The message as a record; its text is a blob above `INLINE_BYTES`.

    Raises:
        OSError: a blob cannot be written.
    """
    digest = message.digest
    if not message.is_long:
        message = message.cleaned
    text, blob, size = message.text, None, None
    if text is not None and is_long(text):
        blob, new_file = write_blob(layout, text)
        on_new_file(new_file)
        size, text = utf8_size(text), None
    requests = _requests_text(message.tool_requests) if message.tool_requests else None
    row = MessageRow(
        digest,
        fitted_text(message.role),
        text,
        requests,
        None if message.tool_call_id is None else fitted_text(message.tool_call_id),
        None if message.name is None else fitted_text(message.name),
        blob,
        size,
    )
    return _encode_row(row)


def _requests_text(requests: tuple[ToolRequest, ...]) -> str:
    if any(len(request.arguments) > INLINE_BYTES for request in requests):
        requests = tuple(
            ToolRequest(fitted_text(one.id), fitted_text(one.name), fitted_text(one.arguments))
            for one in requests
        )
    return _encode_row(requests).decode()
