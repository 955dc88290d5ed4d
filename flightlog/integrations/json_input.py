"""Reading JSON of foreign origin: files that are cut, packed, or something else entirely."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgspec

from flightlog.errors import TraceFormatError

_GZIP_MAGIC = b"\x1f\x8b"
_HINT = "Nothing was imported."
T = TypeVar("T")


def read_document(path: Path, shape: type[T], *, looks_like: str) -> T:
    """A file that is one JSON document, plain or gzipped, checked against its shape.

    Args:
        path: the file.
        shape: a msgspec type.
        looks_like: what a file of this format is, in words, for the error.

    Raises:
        TraceFormatError: the file is not that.
    """
    try:
        with _open(path) as file:
            raw = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(str(path), error) from error
    if not raw.strip():
        raise _empty(path)
    return decode(raw, shape, where=str(path), looks_like=looks_like)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, plain or gzipped, with their numbers from 1; blank lines are left out.

    Raises:
        TraceFormatError: no such file, an empty one, or a gzip stream that ends early.
    """
    number = 0
    has_content = False
    try:
        with _open(path) as file:
            for line in file:
                number += 1
                if line.strip():
                    has_content = True
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(f"{path}:{number + 1}", error) from error
    if not has_content:
        raise _empty(path)


def read_head(path: Path, *, size: int = 65_536) -> bytes:
    """The first bytes of a file, unpacked, without leading white space."""
    try:
        with _open(path) as file:
            return file.read(size).lstrip()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(str(path), error) from error


def decode(raw: bytes, shape: type[T], *, where: str, looks_like: str) -> T:
    """JSON text as a value of the given shape.

    What Python writes and strict JSON forbids (NaN, lone surrogates) is read
    too: NaN and the infinities become null.

    Raises:
        TraceFormatError: not JSON, or JSON of another shape.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise _shape_error(error, where, looks_like) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _lenient(raw, where=where, looks_like=looks_like)
    try:
        return msgspec.convert(value, type=shape)
    except msgspec.ValidationError as error:
        raise _shape_error(error, where, looks_like) from error


def _lenient(raw: bytes, *, where: str, looks_like: str) -> Any:
    try:
        return json.loads(raw, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        what = "the JSON ends too early" if _is_cut(error) else f"not JSON: {error.msg.lower()}"
        at = f"line {error.lineno}, column {error.colno}"
        raise TraceFormatError(
            f"{what} ({at})", where=where, hint=f"Expected {looks_like}. {_HINT}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise TraceFormatError(
            f"not JSON text: {error}", where=where, hint=f"Expected {looks_like}. {_HINT}"
        ) from error


def _is_cut(error: json.JSONDecodeError) -> bool:
    """True when JSON breaks off: in a string, a word, an escape, or between two tokens."""
    longest_token_part = len("\\u0000")
    end = len(error.doc.rstrip())
    return error.msg.startswith("Unterminated string") or (
        error.pos > 0 and error.pos >= end - longest_token_part and error.msg != "Extra data"
    )


def _open(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise TraceFormatError(
                "is a directory", where=str(path), hint=f"Name one file of it. {_HINT}"
            )
        if path.exists() and not path.is_file():
            raise TraceFormatError(
                "is not a regular file, and an import reads its file more than once",
                where=str(path),
                hint=f"Save it to a file first. {_HINT}",
            )
        with path.open("rb") as file:
            magic = file.read(2)
        return cast("BinaryIO", gzip.open(path, "rb") if magic == _GZIP_MAGIC else path.open("rb"))
    except FileNotFoundError as error:
        raise TraceFormatError(
            "no such file", where=str(path), hint=f"Check the path. {_HINT}"
        ) from error
    except OSError as error:
        raise TraceFormatError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint=_HINT
        ) from error


def _empty(path: Path) -> TraceFormatError:
    return TraceFormatError(
        "the file is empty", where=str(path), hint=f"Check how it was written. {_HINT}"
    )


def _damaged(where: str, error: Exception) -> TraceFormatError:
    return TraceFormatError(
        f"the gzip data is damaged or ends too early: {error}",
        where=where,
        hint=f"Copy or download the file again. {_HINT}",
    )


def _shape_error(error: Exception, where: str, looks_like: str) -> TraceFormatError:
    return TraceFormatError(
        f"not the shape of this format: {error}",
        where=where,
        hint=f"Expected {looks_like}. {_HINT}",
    )
