"""Reading a journal: is its writer alive, which records does it hold, what is damaged."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from flightlog.recorder.frames import (
    FILE_MAGIC,
    Buffer,
    Damage,
    Frame,
    FrameType,
    scan,
    seed_of,
)
from flightlog.recorder.journal import Header
from flightlog.trace.versions import FORMAT_VERSION, check_format

_FIRST_SEEDED: Final = 2
_decode_header = msgspec.json.Decoder(Header).decode


def is_alive(path: Path) -> bool:
    """True while the journal's writer holds it open.

    The test takes a shared lock for a moment, so that readers and sealers
    never take each other for a writer.

    Raises:
        FileNotFoundError: the journal is gone, because it was sealed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """The bytes of a journal whose writer is dead, without loading them all."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def read_header(data: Buffer, journal_id: str) -> Header:
    """Who wrote a journal; one that nobody knows where its header is damaged or another's."""
    return _header(data, journal_id) or Header(format=FORMAT_VERSION)


def _header(data: Buffer, journal_id: str) -> Header | None:
    start = len(FILE_MAGIC)
    for item in scan(data, start=start, first_sequence=0) if data[:start] == FILE_MAGIC else ():
        if isinstance(item, Frame) and item.type == FrameType.HEADER:
            header = _decode_header(item.payload)
            return header if header.journal_id in ("", journal_id) else None
        break
    return None


def _seed(data: Buffer, journal_id: str) -> int:
    """What the CRC of the frames begins with, also where the header does not tell."""
    seed, header = seed_of(journal_id), _header(data, journal_id)
    if header is not None:
        return seed if header.format >= _FIRST_SEEDED else 0
    frames = scan(data, start=0, first_sequence=1, seed=seed)
    return seed if any(isinstance(item, Frame) for item in frames) else 0


def read_records(data: Buffer, *, where: Path) -> Iterator[Frame | Damage]:
    """The events and messages of a journal in order, and what is damaged between them.

    Raises:
        NewerFormatError: a newer flightlog wrote the journal.
    """
    size = len(FILE_MAGIC)
    if len(data) < size:
        yield Damage(0, len(data), None, is_torn=FILE_MAGIC.startswith(data[:]))
        return
    if data[:size] != FILE_MAGIC:
        yield Damage(0, size, 0)
    for item in scan(data, start=size, first_sequence=0, seed=_seed(data, where.stem)):
        if isinstance(item, Frame) and item.type == FrameType.HEADER:
            check_format(_decode_header(item.payload).format, where=str(where))
        else:
            yield item
