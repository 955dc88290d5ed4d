"""Reading JSON of foreign origin: files that are cut, packed, huge, or something else entirely.

What is read is bounded before it is read: bytes, lines and parts, packed and unpacked.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar, cast

import msgspec

from flightlog.config.regular_file import HEAD_BYTES, NotRegularError, known_kind, open_regular
from flightlog.errors import TraceFormatError

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
_HINT = "Nothing was imported."
T = TypeVar("T")


MAX_DOCUMENT_BYTES: Final = 512 << 20
"""Largest JSON document, unpacked; it is in memory as a whole."""
MAX_LINE_BYTES: Final = 64 << 20
"""Longest line of a file of lines, unpacked."""
MAX_PARTS: Final = 20_000_000
"""Most commas and brackets of one document or line: each part costs memory of its own."""
MAX_RATIO: Final = 200
"""How many times larger a gzip file of lines may get; real traces stay below 50."""


def read_document(path: Path, shape: type[T], *, looks_like: str) -> T:
    """A file that is one JSON document, plain or gzipped, checked against its shape.

    Args:
        path: the file.
        shape: a msgspec type.
        looks_like: what a file of this format is, in words, for the error.

    Raises:
        TraceFormatError: the file is not that, or is larger than `MAX_DOCUMENT_BYTES`.
    """
    with _opened(path) as source:
        raw = source.read(MAX_DOCUMENT_BYTES + 1)
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise _too_large("the document", MAX_DOCUMENT_BYTES, str(path))
        source.require_unchanged()
    if not raw.strip():
        raise _empty(path)
    return decode(raw, shape, where=str(path), looks_like=looks_like)


class LineFile:
    """The lines of a file, plain or gzipped; each iteration reads it anew, in flat memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Numbers from 1 and lines; blank ones are left out.

        Raises:
            TraceFormatError: no such file, an empty one, a gzip stream that ends early or
                grows out of all proportion, a line that is too long, or a file that is not
                the same as at the iteration before.
        """
        number = unpacked = 0
        has_content = False
        with _opened(self._path, self._stamp) as source:
            self._stamp = source.stamp
            most = max(MAX_LINE_BYTES, MAX_RATIO * source.stamp.size)
            while line := source.readline(MAX_LINE_BYTES + 1, number + 1):
                number += 1
                unpacked += len(line)
                where = f"{self._path}:{number}"
                if len(line) > MAX_LINE_BYTES:
                    raise _too_large("the line", MAX_LINE_BYTES, where)
                if unpacked > most:
                    raise _too_large("the unpacked file", most, where)
                if line.strip():
                    has_content = True
                    yield number, line
            source.require_unchanged()
        if not has_content:
            raise _empty(self._path)


def read_head(path: Path, *, size: int = 65_536) -> bytes:
    """The first bytes of a file, unpacked, without leading white space."""
    with _opened(path) as source:
        return source.read(size).lstrip()


def decode(raw: bytes, shape: type[T], *, where: str, looks_like: str) -> T:
    """JSON text as a value of the given shape.

    What Python writes and strict JSON forbids (NaN, lone surrogates) is read
    too: NaN and the infinities become null.

    Raises:
        TraceFormatError: not JSON, JSON of another shape, or of more than `MAX_PARTS`.
    """
    parts = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if parts > MAX_PARTS:
        raise TraceFormatError(
            f"holds {parts:,} commas and brackets, more than {MAX_PARTS:,}",
            where=where,
            hint=f"Split it, or check that it is what you take it for. {_HINT}",
        )
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise _shape_error(error, where, looks_like) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _lenient(raw, where=where, looks_like=looks_like)
    try:
        return msgspec.convert(value, type=shape)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # of a lone surrogate
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
    except (ValueError, RecursionError) as error:  # also of a number of 5,000 digits
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


class Stamp(NamedTuple):
    """Which file it was, and in which state."""

    device: int
    inode: int
    size: int
    changed_ns: int


class _Source:
    """An opened file: what was in it when it was opened, unpacked, and no more."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self.stamp = self._stamp_now()
        head = file.read(HEAD_BYTES)
        file.seek(0)
        whole = io.BufferedReader(_Beginning(file, self.stamp.size))
        kind = known_kind(head)
        if head.startswith(_GZIP_MAGIC):
            self._stream: BinaryIO = cast("BinaryIO", gzip.GzipFile(fileobj=whole))
        elif kind is not None:
            raise TraceFormatError(
                f"is {kind}, which no importer reads",
                where=str(path),
                hint=f"Give JSON text, plain or gzipped. {_HINT}",
            )
        else:
            self._stream = cast("BinaryIO", whole)

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except _GZIP_ERRORS as error:
            raise _damaged(str(self._path), error) from error

    def readline(self, size: int, number: int) -> bytes:
        try:
            return self._stream.readline(size)
        except _GZIP_ERRORS as error:
            raise _damaged(f"{self._path}:{number}", error) from error

    def require_unchanged(self) -> None:
        """Refuses a file that was written to since it was opened."""
        if self._stamp_now() != self.stamp:
            raise _changed(self._path)

    def _stamp_now(self) -> Stamp:
        found = os.fstat(self._file.fileno())
        return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class _Beginning(io.RawIOBase):
    """The first bytes of a file, however much is appended to it meanwhile."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        part = self._file.read(min(len(buffer), self._left))
        buffer[: len(part)] = part
        self._left -= len(part)
        return len(part)


@contextmanager
def _opened(path: Path, stamp: Stamp | None = None) -> Iterator[_Source]:
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise TraceFormatError(
            "no such file", where=str(path), hint=f"Check the path. {_HINT}"
        ) from error
    except NotRegularError as error:
        raise TraceFormatError(
            error.strerror or "is not a regular file",
            where=str(path),
            hint=f"An import reads its file more than once: name a file. {_HINT}",
        ) from error
    except OSError as error:
        raise TraceFormatError(
            f"cannot be read: {error.strerror or error}", where=str(path), hint=_HINT
        ) from error
    with file:
        source = _Source(path, file)
        if stamp is not None and source.stamp != stamp:
            raise _changed(path)
        yield source


def _changed(path: Path) -> TraceFormatError:
    return TraceFormatError(
        "the file was written to while it was read",
        where=str(path),
        hint="Import it when its writer is done, or import a copy.",
    )


def _too_large(what: str, limit: int, where: str) -> TraceFormatError:
    return TraceFormatError(
        f"{what} has more than {limit:,} bytes",
        where=where,
        hint=f"Split it, or check that it is what you take it for. {_HINT}",
    )


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
