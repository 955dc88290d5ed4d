"""The runs of spans that our own export wrote: the same events again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.native_run import NativeRun
from flightlog.integrations.otlp.spans import Span
from flightlog.trace.events import AnyEvent, decode_event
from flightlog.trace.messages import Message

EVENT: Final = "flightlog.event"
"""Attribute: the event that a span is, as JSON; at the span of a run, all its other events."""
MESSAGES: Final = "flightlog.messages"
"""Attribute: messages that are new with a span, as JSON."""
SCOPE: Final = "flightlog"


def is_native(span: Span) -> bool:
    """True for a span that our own export wrote."""
    return EVENT in span.attributes and span.scope.partition("@")[0] == SCOPE


def native_runs(spans: Iterable[Span]) -> list[NativeRun]:
    """The runs of spans that our own export wrote.

    Raises:
        TraceFormatError: an event in them is none of this format.
    """
    events: dict[str, dict[int, AnyEvent]] = {}
    messages: dict[str, dict[str, Message]] = {}
    where: dict[str, str] = {}
    for span in spans:
        place = f"trace {span.trace_id}"
        for text in _texts(span.attributes.get(EVENT)):
            event = _event(text, place)
            events.setdefault(event.run_id, {}).setdefault(event.seq, event)
            where[event.run_id] = place
        run_id = _run_of(span, place)
        for text in _texts(span.attributes.get(MESSAGES)):
            message = _message(text, place)
            messages.setdefault(run_id, {})[message.digest] = message
    return [
        NativeRun(
            run_id,
            where[run_id],
            tuple(its[seq] for seq in sorted(its)),
            messages.get(run_id, {}),
        )
        for run_id, its in sorted(events.items())
    ]


def _run_of(span: Span, place: str) -> str:
    for text in _texts(span.attributes.get(EVENT)):
        return _event(text, place).run_id
    return str(span.attributes.get("flightlog.run.id") or "")


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, str)]


def _event(text: str, place: str) -> AnyEvent:
    try:
        return decode_event(text.encode())
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise TraceFormatError(
            f"an event in {EVENT} is none of this format: {error}",
            where=place,
            hint="A newer flightlog may have written it. Nothing was imported.",
        ) from error


def _message(text: str, place: str) -> Message:
    try:
        return msgspec.json.decode(text.encode(), type=Message)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise TraceFormatError(
            f"a message in {MESSAGES} is none: {error}", where=place, hint="Nothing was imported."
        ) from error
