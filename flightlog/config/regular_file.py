"""Opening files that somebody else wrote: regular ones, and no more of them than was asked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

SIGNS = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\xfd7zXZ": "an xz file",
    b"BZh": "a bzip2 file",
    b"PAR1": "a Parquet file",
    b"PARE": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x93NUMPY": "a NumPy file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}
"""How files begin that are not text, and what they are."""
HEAD_BYTES = 16


class NotRegularError(OSError):
    """A file that is a pipe, a device or a directory; `strerror` says which."""


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading; a pipe or a device is refused without waiting for it.

    Raises:
        NotRegularError: it is something else.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotRegularError(0, _kind(mode), str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file, at most one more than `max_bytes`.

    Raises:
        NotRegularError: it is a pipe, a device or a directory.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return file.read(max_bytes + 1)


def known_kind(head: bytes) -> str | None:
    """What a file is that begins so, where it is certainly no text; else None."""
    return next((kind for sign, kind in SIGNS.items() if head.startswith(sign)), None)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a directory"
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
    return f"is not a regular file but {kind}"
