"""Events and messages on their way into a journal: redacted, then encoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flightlog.recorder.blobs import is_long
from flightlog.recorder.layout import Layout
from flightlog.recorder.records import NewFile, event_payload, message_payload
from flightlog.redact.events import EventRedactor, Withheld
from flightlog.trace.events import Event, Label, RunStarted, ToolCall
from flightlog.trace.fitting import fitted
from flightlog.trace.messages import Message

_WHOLE_BYTES: Final = 1 << 16
"""Up to here an encoded event holds its texts whole: nothing was cut out of it."""


def redacted_payloads(
    event: Event,
    messages: Iterable[Message],
    redacting: EventRedactor,
    layout: Layout,
    on_new_file: NewFile,
) -> tuple[bytes, list[bytes], str]:
    """The event and its messages as records without what is not to be recorded, and its run.

    Args:
        event: any, also one with values that its columns cannot hold.
        messages: those that are new.
        redacting: of this recorder.
        layout: where long texts become blobs, which are redacted too.
        on_new_file: is called with a blob that is not synced yet.

    Raises:
        OSError: a blob cannot be written.
    """
    if type(event) is RunStarted:
        event = redacting.stamped(event)
    rows: list[bytes] = []
    values = 0
    why: Withheld | None = None
    for message in messages:
        if not _has_long_text(message):
            row = message_payload(message, layout, on_new_file)
            if len(row) <= _WHOLE_BYTES and redacting.is_clean_message(row):
                rows.append(row)
                continue
        redacted = redacting.message(message)
        values += redacted.values
        why = why or redacted.why
        if redacted.message is not None:
            rows.append(message_payload(redacted.message, layout, on_new_file))
    is_short = not (type(event) is ToolCall and _is_long(event.result))
    if is_short and not values and why is None:
        payload = event_payload(event, layout, on_new_file)
        if len(payload) <= _WHOLE_BYTES and redacting.is_clean(event, payload):
            return payload, rows, event.run_id
    if _has_foreign_values(event):
        event = fitted(event)  # what is no text becomes one, and is looked at too
    event = redacting.event(event, values=values, without_messages=why)
    return event_payload(event, layout, on_new_file), rows, event.run_id


def _has_foreign_values(event: Event) -> bool:
    values = [getattr(event, name) for name in event.__struct_fields__]
    inner = [one for value in values if type(value) is tuple for one in value]
    return not all(
        value is None or type(value) is tuple or isinstance(value, (str, int, float, Label))
        for value in (*values, *inner)
    )


def _has_long_text(message: Message) -> bool:
    return _is_long(message.text)


def _is_long(text: object) -> bool:
    return type(text) is str and is_long(text)
