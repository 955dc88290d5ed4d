"""What comes in: bodies within bounds, and what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from flightlog.integrations.dialects.dialect import Asked, Dialect
from flightlog.trace.vocab import StopReason

if TYPE_CHECKING:
    from starlette.requests import Request

_BODY_S: Final = 120.0
_DRAINED_BYTES: Final = 256 << 20
_DRAINED_S: Final = 10.0
_TYPES: Final[Mapping[str, Any]] = {
    "stop_detail": str,
    "passed": bool,
    "score": (int, float),
    "detail": str,
}


class RefusedError(Exception):
    """A request that is not taken, with the status that says why."""

    def __init__(self, status: int, why: str, kind: str = "invalid_request_error") -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.kind = kind


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request, of at most so many bytes.

    Raises:
        RefusedError: it has more, or takes too long.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise RefusedError(413, f"a request of {int(length):,} bytes; {most:,} is the most")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise RefusedError(413, f"a request of more than {most:,} bytes")
                pieces.append(piece)
    except TimeoutError as error:
        raise RefusedError(408, f"the request took longer than {_BODY_S:g} s") from error
    return b"".join(pieces)


async def drained(request: Request) -> None:
    """Reads what is left of a refused request: a client that is cut off sees no answer."""
    left = _DRAINED_BYTES
    with suppress(Exception):
        async with asyncio.timeout(_DRAINED_S):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return


def asked_of(raw: bytes, headers: Mapping[str, str], dialect: Dialect) -> Asked | None:
    """What a request asks; None for one that cannot be read."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        return None
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return dialect.asked(body) if isinstance(body, dict) else None


def end_of(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a caller says of the end of its run: columns of it, and of a judgement.

    Raises:
        RefusedError: not of its form.
    """
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is no JSON: {error}") from error
    known = {"stop_reason", "stop_detail", "passed", "score", "detail"}
    if not isinstance(body, dict) or not set(body) <= known:
        raise RefusedError(400, f"a body with {', '.join(sorted(known))} is taken")
    given = {name: body[name] for name in ("stop_reason", "stop_detail") if name in body}
    reason = given.get("stop_reason")
    if reason is not None and reason not in list(StopReason):
        raise RefusedError(400, f"stop_reason: one of {', '.join(StopReason)}")
    judged = {name: body[name] for name in ("passed", "score", "detail") if name in body}
    for name, value in (given | judged).items():
        if name in _TYPES and not isinstance(value, _TYPES[name]):
            raise RefusedError(400, f"{name}: {value!r} is not of its kind")
    if reason is not None:
        given["stop_reason"] = StopReason(reason)
    return given, judged
