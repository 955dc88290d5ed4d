"""Spans on their way into an inbox and out of it: redacted, and encrypted where the store is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from flightlog.errors import DamagedError
from flightlog.integrations.otlp.spans import Attributes, Span
from flightlog.recorder.encryption.boxes import boxed, opened_box
from flightlog.recorder.layout import Layout
from flightlog.redact.finds import SlowError
from flightlog.redact.policy import Capture
from flightlog.redact.redactor import Redactor
from flightlog.trace.canonical import clean_text
from flightlog.trace.otel import NAMES_OF

_SHORT_CHARS: Final = 128
"""A text of an attribute up to here is a name or an id; a longer one is content."""
_MOST_TOKENS: Final = 10**9
_COUNTS: Final = frozenset(
    name for column in NAMES_OF if column.endswith("_tokens") for name in NAMES_OF[column]
)
_NAME: Final = "span"
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Span)


class Sealing:
    """Redacts and encrypts as the recorder of the same store does.

    Args:
        layout: of the store, with its keys.
        redactor: of its recorder; None records everything.
    """

    def __init__(self, layout: Layout, redactor: Redactor | None) -> None:
        self._key = layout.keys.first if layout.keys else None
        self._keys = layout.keys
        self._redactor = redactor

    def sealed(self, span: Span) -> bytes:
        """The span as it may lie on the disk."""
        raw = self._redacted(span)
        return raw if self._key is None else b"".join(boxed(self._key, _NAME, [raw]))

    def opened(self, body: bytes, where: Path) -> Span:
        """The span again.

        Raises:
            DamagedError: it is not as it was written.
            StoreKeyError: its key was not given.
        """
        raw = body if self._key is None else opened_box(self._keys, _NAME, body, where)
        try:
            return _decoder.decode(raw)
        except msgspec.MsgspecError as error:
            raise DamagedError(
                f"a span in the inbox is not as it was written: {error}",
                where=str(where),
                hint="Move the file away: the collector begins a new one.",
            ) from error

    def _redacted(self, span: Span) -> bytes:
        redactor = self._redactor
        if redactor is not None and redactor.redaction.capture is Capture.METADATA:
            span = without_contents(span)
        raw = _encoded(span)
        if redactor is None or redactor.is_clean(_encoded(_without_counts(span))):
            return raw
        try:
            return redactor.text(raw.decode(), redactor.work(len(raw))).text.encode()
        except SlowError:
            return _encoded(without_contents(span))


def _encoded(span: Span) -> bytes:
    try:
        return _encode(span)
    except UnicodeEncodeError:  # of a lone surrogate
        return _encode(msgspec.convert(_cleaned(msgspec.to_builtins(span)), Span))


def _without_counts(span: Span) -> Span:
    """The span without its token counts: their names look like those of secrets, they are none."""
    attributes = {
        name: value
        for name, value in span.attributes.items()
        if not (name in _COUNTS and type(value) is int and 0 <= value < _MOST_TOKENS)
    }
    return msgspec.structs.replace(span, attributes=attributes)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): _cleaned(one) for key, one in value.items()}
    return [_cleaned(one) for one in value] if isinstance(value, (list, tuple)) else value


def without_contents(span: Span) -> Span:
    """The span with numbers, names and ids, and without longer texts."""
    return msgspec.structs.replace(
        span,
        attributes=_short(span.attributes),
        events=tuple(
            msgspec.structs.replace(event, attributes=_short(event.attributes))
            for event in span.events
        ),
        status=span.status if len(span.status) <= _SHORT_CHARS else "",
    )


def _short(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if _is_short(value)}


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHORT_CHARS and not value.startswith(("{", "["))
    values: Iterable[object] = value if isinstance(value, list) else ()
    return not isinstance(value, dict) and all(_is_short(one) for one in values)
