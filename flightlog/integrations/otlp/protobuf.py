"""OTLP in protobuf, with the messages of the package opentelemetry-proto."""

from __future__ import annotations

from typing import Any

from flightlog.errors import MissingExtraError, TraceFormatError


def request_of(raw: bytes, where: str) -> Any:
    """A decoded ExportTraceServiceRequest.

    Raises:
        TraceFormatError: it is not one.
        MissingExtraError: the package is not installed.
    """
    message = _module().ExportTraceServiceRequest()
    try:
        message.ParseFromString(raw)
    except Exception as error:  # protobuf's DecodeError; its base differs by version
        raise TraceFormatError(
            f"not an export request in protobuf: {error}",
            where=where,
            hint="Expected an ExportTraceServiceRequest. Nothing of this request was taken.",
        ) from error
    return message


def response(*, refused: int, why: str) -> bytes:
    """An ExportTraceServiceResponse, which tells how many spans were refused and why."""
    answer = _module().ExportTraceServiceResponse()
    if refused:
        answer.partial_success.rejected_spans = refused
    if why:
        answer.partial_success.error_message = why
    raw: bytes = answer.SerializeToString()
    return raw


def _module() -> Any:
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "OTLP in protobuf needs the package opentelemetry-proto",
            hint="pip install 'flightlog[otlp]', or let the sender use http/json",
        ) from error
    return trace_service_pb2
