"""Spans as OTLP brings them, from protobuf or JSON: bounded, and in one form.

Source: opentelemetry-proto 1.x (`trace/v1/trace.proto`, `common/v1/common.proto`) and the
OTLP specification (JSON: ids in hex, 64-bit numbers as text).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from flightlog.integrations.importers.json_input import decode

LOOKS_LIKE: Final = "an OTLP export request: an object with resourceSpans"
MAX_DEPTH: Final = 32
"""Deepest nesting of an attribute's value; what lies below is left out by name."""
TOO_DEEP: Final = "(nested too deeply)"
_LAST_NS: Final = 253_402_300_799_999_999_999  # the end of the year 9999
_ERROR_STATUS: Final = 2

Value: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any] | None
Attributes: TypeAlias = dict[str, Value]


class SpanEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened within a span."""

    name: str
    at_ns: int | None = None
    attributes: Attributes = {}


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """One span.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_id: of the span above it; None for the top of a trace.
        start_ns: Unix time; None where it is not told or cannot be.
        end_ns: the same.
        is_error: its status is an error; `status` says which.
        resource: attributes of what sent it, such as service.name.
        scope: instrumentation library, `name` or `name@version`.
    """

    trace_id: str
    span_id: str
    name: str = ""
    parent_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    attributes: Attributes = {}
    events: tuple[SpanEvent, ...] = ()
    is_error: bool = False
    status: str = ""
    resource: Attributes = {}
    scope: str = ""

    @property
    def latency_ms(self) -> float | None:
        """From start to end; None where one is unknown or the clock went back."""
        if self.start_ns is None or self.end_ns is None or self.end_ns < self.start_ns:
            return None
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(slots=True)
class Batch:
    """What one export request brought.

    Attributes:
        spans: in the order of the request.
        refused: reason -> spans that cannot be taken.
    """

    spans: list[Span] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


# JSON


class _Camel(msgspec.Struct, rename="camel"):
    pass


class _AnyValue(_Camel):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: dict[str, Any] | None = None
    kvlist_value: dict[str, Any] | None = None


class _KeyValue(_Camel):
    key: str = ""
    value: _AnyValue | None = None


class _SpanEventJson(_Camel):
    name: str = ""
    time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] | None = None


class _Status(_Camel):
    code: int | str | None = None
    message: str = ""


class _SpanJson(_Camel):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] | None = None
    events: list[_SpanEventJson] | None = None
    status: _Status | None = None


class _Scope(_Camel):
    name: str = ""
    version: str = ""


class _ScopeSpans(_Camel):
    scope: _Scope | None = None
    spans: list[_SpanJson] | None = None


class _Resource(_Camel):
    attributes: list[_KeyValue] | None = None


class _ResourceSpans(_Camel):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None
    instrumentation_library_spans: list[_ScopeSpans] | None = None


class ExportRequest(_Camel):
    """An export request in JSON."""

    resource_spans: list[_ResourceSpans]


def spans_of_json(raw: bytes, *, where: str = "request") -> Batch:
    """The spans of an export request in OTLP's JSON.

    Raises:
        TraceFormatError: it is not one.
    """
    return spans_of_request(decode(raw, ExportRequest, where=where, looks_like=LOOKS_LIKE))


def spans_of_request(request: ExportRequest) -> Batch:
    """The spans of a decoded request."""
    batch = Batch()
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes if group.resource else None)
        for scoped in (*(group.scope_spans or ()), *(group.instrumentation_library_spans or ())):
            scope = _scope(scoped.scope.name, scoped.scope.version) if scoped.scope else ""
            for span in scoped.spans or ():
                _take(batch, _span_of_json(span, resource, scope))
    return batch


def _span_of_json(span: _SpanJson, resource: Attributes, scope: str) -> Span | str:
    trace_id, span_id = _id(span.trace_id, 16), _id(span.span_id, 8)
    if trace_id is None or span_id is None:
        return "no valid trace id" if trace_id is None else "no valid span id"
    return Span(
        trace_id,
        span_id,
        name=span.name,
        parent_id=_id(span.parent_span_id or "", 8),
        start_ns=_time(span.start_time_unix_nano),
        end_ns=_time(span.end_time_unix_nano),
        attributes=_attributes(span.attributes),
        events=tuple(
            SpanEvent(event.name, _time(event.time_unix_nano), _attributes(event.attributes))
            for event in span.events or ()
        ),
        is_error=span.status is not None
        and span.status.code in (_ERROR_STATUS, "STATUS_CODE_ERROR"),
        status=span.status.message if span.status else "",
        resource=resource,
        scope=scope,
    )


def _attributes(pairs: Iterable[_KeyValue] | None) -> Attributes:
    return {pair.key: _of_json(pair.value) for pair in pairs or ()}


def _of_json(value: _AnyValue | None) -> Value:
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        return _whole(value.int_value)
    if value.double_value is not None:
        return _real(value.double_value)
    if value.bytes_value is not None:
        return value.bytes_value
    return _nested(msgspec.to_builtins(value), 0)


def _nested(value: Any, depth: int) -> Value:
    """A value within an array or a list of pairs; these are not decoded by their types."""
    if not isinstance(value, Mapping):
        return None
    if depth > MAX_DEPTH:
        return TOO_DEEP
    array, pairs = value.get("arrayValue"), value.get("kvlistValue")
    if isinstance(array, Mapping):
        return [_nested(one, depth + 1) for one in _list(array.get("values"))]
    if isinstance(pairs, Mapping):
        return {
            str(one.get("key", "")): _nested(one.get("value"), depth + 1)
            for one in _list(pairs.get("values"))
            if isinstance(one, Mapping)
        }
    if "intValue" in value and value["intValue"] is not None:
        return _whole(value["intValue"])
    if "doubleValue" in value and value["doubleValue"] is not None:
        return _real(value["doubleValue"])
    plain = (value.get(name) for name in ("stringValue", "boolValue", "bytesValue"))
    return next((one for one in plain if isinstance(one, (str, bool))), None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: Any) -> Value:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _real(value: Any) -> Value:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
    return number if math.isfinite(number) else None


def _id(text: str, size: int) -> str | None:
    """An id in hex; base64, which the general JSON of protobuf writes, is read too."""
    if not text:
        return None
    try:
        is_hex = len(text) == size * 2
        raw = bytes.fromhex(text) if is_hex else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw.hex() if len(raw) == size and any(raw) else None


# Protobuf


def spans_of_protobuf(raw: bytes, *, where: str = "request") -> Batch:
    """The spans of an export request in protobuf.

    Raises:
        TraceFormatError: it is not one.
        MissingExtraError: the package opentelemetry-proto is not installed.
    """
    from flightlog.integrations.otlp.protobuf import request_of  # noqa: PLC0415  - an extra

    batch = Batch()
    for group in request_of(raw, where).resource_spans:
        resource = _attributes_of_protobuf(group.resource.attributes)
        for scoped in group.scope_spans:
            scope = _scope(scoped.scope.name, scoped.scope.version)
            for span in scoped.spans:
                _take(batch, _span_of_protobuf(span, resource, scope))
    return batch


def _span_of_protobuf(span: Any, resource: Attributes, scope: str) -> Span | str:
    trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or not any(trace_id):
        return "no valid trace id"
    if len(span_id) != 8 or not any(span_id):
        return "no valid span id"
    return Span(
        trace_id.hex(),
        span_id.hex(),
        name=span.name,
        parent_id=parent_id.hex() if len(parent_id) == 8 and any(parent_id) else None,
        start_ns=_time(span.start_time_unix_nano),
        end_ns=_time(span.end_time_unix_nano),
        attributes=_attributes_of_protobuf(span.attributes),
        events=tuple(
            SpanEvent(
                event.name,
                _time(event.time_unix_nano),
                _attributes_of_protobuf(event.attributes),
            )
            for event in span.events
        ),
        is_error=span.status.code == _ERROR_STATUS,
        status=span.status.message,
        resource=resource,
        scope=scope,
    )


def _attributes_of_protobuf(pairs: Iterable[Any]) -> Attributes:
    return {pair.key: _of_protobuf(pair.value, 0) for pair in pairs}


def _of_protobuf(value: Any, depth: int) -> Value:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind is None:
        return None
    if depth > MAX_DEPTH:
        return TOO_DEEP
    if kind == "array_value":
        return [_of_protobuf(one, depth + 1) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: _of_protobuf(one.value, depth + 1) for one in value.kvlist_value.values}
    plain = getattr(value, kind)
    if kind == "bytes_value":
        return base64.b64encode(plain).decode()
    return _real(plain) if kind == "double_value" else plain


# Both


def _take(batch: Batch, span: Span | str) -> None:
    if isinstance(span, str):
        batch.refused[span] += 1
    else:
        batch.spans.append(span)


def _scope(name: str, version: str) -> str:
    return f"{name}@{version}" if version else name


def _time(value: int | str | None) -> int | None:
    try:
        nanoseconds = int(value or 0)
    except ValueError:
        return None
    return nanoseconds if 0 < nanoseconds <= _LAST_NS else None
