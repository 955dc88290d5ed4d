"""The HTTP side of a collector: what it lets in, how much of it, and what it answers.

Source: OTLP specification 1.x, "OTLP/HTTP": paths, content types, partial success, and which
status codes make a sender try again (429, 502, 503, 504).
"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from flightlog.errors import FlightlogError, MissingExtraError, StoreError
from flightlog.integrations.door import Door
from flightlog.integrations.otlp.collector import Collector
from flightlog.integrations.otlp.intake import DECODERS, Hold, OverloadedError, Receipt

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
BODY_S: Final = 30.0
"""Longest time that a sender may take for one request, in seconds."""
_PIECE_BYTES: Final = 1 << 16
_DRAINED_BYTES: Final = 256 << 20
_DRAINED_S: Final = 10.0


class RefusedError(Exception):
    """A request that is not taken, with the status that says why."""

    def __init__(self, status: int, why: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.retry_after_s = retry_after_s


def app_of(collector: Collector, door: Door) -> Starlette:
    """The ASGI application of a collector.

    Raises:
        MissingExtraError: the package starlette is not installed.
    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415  - an extra
        from starlette.requests import ClientDisconnect  # noqa: PLC0415
        from starlette.responses import JSONResponse  # noqa: PLC0415
        from starlette.routing import Route  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "collecting needs the packages starlette and uvicorn",
            hint="pip install 'flightlog[otlp]'",
        ) from error

    async def traces(request: Request) -> Response:
        form = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        hold = Hold(collector.intake)
        try:
            return await _taken(request, form, collector, door, hold)
        except ClientDisconnect:
            return _refusal(RefusedError(400, "the sender went away"), form)
        except (RefusedError, OverloadedError, TimeoutError, FlightlogError) as error:
            hold.release()
            await _drained(request)
            return _refusal(_refused(error), form)
        finally:
            hold.release()

    async def not_taken(request: Request) -> Response:
        why = "only traces are taken here: POST /v1/traces"
        return _refusal(RefusedError(404, why), JSON)

    async def health(request: Request) -> Response:
        recorded, counts = collector.recorded, collector.intake.counts
        waiting = await asyncio.to_thread(collector.waiting)
        return JSONResponse(
            {
                "spans_kept": counts.spans,
                "spans_waiting": waiting,
                "spans_known_before": counts.known,
                "spans_refused": sum(counts.refused.values()),
                "requests_told_to_wait": counts.overloaded,
                "runs": recorded.tally.runs,
                "events": recorded.tally.events,
                "cannot_record_because": collector.last_error,
            },
            status_code=200 if collector.last_error is None else 503,
        )

    return Starlette(
        routes=[
            Route("/v1/traces", traces, methods=["POST"]),
            Route("/v1/metrics", not_taken, methods=["POST"]),
            Route("/v1/logs", not_taken, methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ]
    )


async def _taken(
    request: Request, form: str, collector: Collector, door: Door, hold: Hold
) -> Response:
    if (refused := door.refuses(request.headers)) is not None:
        raise RefusedError(*refused)
    if form not in DECODERS:
        raise RefusedError(415, f"a content type {form[:80]!r}; send {' or '.join(DECODERS)}")
    collector.intake.require_within_rate()
    async with asyncio.timeout(BODY_S):
        raw = await _body(request, hold, collector.intake.limits.request_bytes)
    receipt = await asyncio.wrap_future(collector.intake.offer(raw, form))
    return _receipt(receipt, form)


def _refused(error: Exception) -> RefusedError:
    """What a sender is told; 429 and 503 make it send again later."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, OverloadedError):
        why = "the collector has as much as it can keep; send it again later"
        return RefusedError(429, why, retry_after_s=error.retry_after_s)
    if isinstance(error, TimeoutError):
        return RefusedError(408, f"the request took longer than {BODY_S:g} s")
    if isinstance(error, StoreError):
        return RefusedError(503, error.what, retry_after_s=5.0)
    if isinstance(error, MissingExtraError):
        return RefusedError(415, str(error))
    return RefusedError(400, getattr(error, "what", str(error)))


async def _body(request: Request, hold: Hold, most: int) -> bytes:
    """The unpacked body of a request, of at most so many bytes.

    Raises:
        RefusedError: it has more, or is packed in a way that is not known or not right.
        OverloadedError: all requests together hold too much.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise RefusedError(413, f"a request of {int(length):,} bytes; {most:,} is the most")
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    pieces: list[bytes] = []
    async for piece in _unpacked(request.stream(), packing):
        hold.grow(len(piece))
        pieces.append(piece)
        if hold.bytes > most:
            raise RefusedError(413, f"more than {most:,} bytes, unpacked")
    return b"".join(pieces)


async def _drained(request: Request) -> None:
    """Reads what is left of a refused request: a sender that is cut off sees no answer."""
    left = _DRAINED_BYTES
    with suppress(Exception):
        async with asyncio.timeout(_DRAINED_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return


async def _unpacked(stream: AsyncIterator[bytes], packing: str) -> AsyncIterator[bytes]:
    if packing in ("", "identity"):
        async for piece in stream:
            yield piece
        return
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError(415, f"packed as {packing[:40]!r}; send gzip or nothing")
    unpacker = zlib.decompressobj(47)  # gzip or zlib, by the head
    try:
        async for piece in stream:
            rest = piece
            while rest:
                yield unpacker.decompress(rest, _PIECE_BYTES)
                rest = unpacker.unconsumed_tail
        while more := unpacker.decompress(unpacker.unconsumed_tail, _PIECE_BYTES):
            yield more
    except zlib.error as error:
        raise RefusedError(400, f"not {packing}: {error}") from error
    if not unpacker.eof:
        raise RefusedError(400, f"the {packing} data ends too early")


def _receipt(receipt: Receipt, form: str) -> Response:
    refused = sum(receipt.refused.values())
    why = "; ".join(f"{count} spans: {reason}" for reason, count in receipt.refused.items())
    return _answer(200, form, refused=refused, why=why)


def _refusal(error: RefusedError, form: str) -> Response:
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return _answer(error.status, form, why=error.why, headers=headers)


def _answer(
    status: int,
    form: str,
    *,
    refused: int = 0,
    why: str = "",
    headers: Mapping[str, str] | None = None,
) -> Response:
    from starlette.responses import Response  # noqa: PLC0415

    if status == 200 and form == PROTOBUF:
        from flightlog.integrations.otlp.protobuf import response  # noqa: PLC0415

        return Response(response(refused=refused, why=why), media_type=PROTOBUF)
    body: dict[str, Any] = {}
    if status != 200:
        body = {"message": why}
    elif refused:
        body = {"partialSuccess": {"rejectedSpans": str(refused), "errorMessage": why}}
    text = json.dumps(body)
    return Response(text, status_code=status, media_type=JSON, headers=dict(headers or {}))
