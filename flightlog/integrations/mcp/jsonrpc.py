"""JSON-RPC messages, one a line, as MCP's stdio transport has them.

Source: JSON-RPC 2.0; Model Context Protocol, "Transports: stdio", 2024-11-05 to 2026-07-28.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_LINE_BYTES: Final = 64 << 20
"""Longest message that is read."""
INVALID_REQUEST: Final = -32600
INTERNAL_ERROR: Final = -32603
_PIECE_BYTES: Final = 1 << 16


class TooLongError(Exception):
    """A message that is longer than what is read."""


def lines_of(fd: int, most: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines that come over a file descriptor, each with its end, until it is closed.

    Reads the descriptor itself: a thread that waits in a buffered reader would hold its lock at
    the end of the process.

    Raises:
        TooLongError: a line of more than so many bytes.
    """
    pieces: list[bytes] = []
    size = 0
    while piece := _read(fd):
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield b"".join([*pieces, line, b"\n"])
            pieces.clear()
            size = 0
        pieces.append(rest)
        size += len(rest)
        if size > most:
            raise TooLongError(f"a message of more than {most:,} bytes")
    if size:
        yield b"".join(pieces)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _PIECE_BYTES)
    except OSError:  # closed by the other side, or by us
        return b""


def messages_in(line: bytes) -> list[dict[str, Any]] | None:
    """The messages of a line; a batch has several; None for what is no JSON-RPC."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = value if isinstance(value, list) else [value]
    return found if all(isinstance(one, dict) for one in found) else None


def is_request(message: Mapping[str, Any]) -> bool:
    """True for a message that wants an answer."""
    return isinstance(message.get("method"), str) and message.get("id") is not None


def is_response(message: Mapping[str, Any]) -> bool:
    """True for an answer."""
    return "method" not in message and "id" in message


def key_of(ident: Any) -> str:
    """An id as a key: 1 and "1" are two."""
    return json.dumps(ident)[:1000]


def params_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a message; empty where it has none that are an object."""
    params = message.get("params")
    return params if isinstance(params, Mapping) else {}


def line_of(message: Mapping[str, Any]) -> bytes:
    """A message as it goes over the wire."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def result_of(ident: Any, result: Mapping[str, Any]) -> dict[str, Any]:
    """An answer."""
    return {"jsonrpc": "2.0", "id": ident, "result": result}


def error_of(ident: Any, code: int, text: str) -> dict[str, Any]:
    """An answer that is an error."""
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": text}}
