"""The framing of a journal: how one record is laid out, and how records are found again.

A journal is FILE_MAGIC and then frames. A frame is

    magic (4)  type (1)  payload length (4)  sequence (8)  payload  CRC-32 (4)

little-endian; the CRC covers everything before it, and from format 2 on it begins with the
journal's id: a disk that lost power may give old blocks of another journal in the place of
those that were not written. The first frame is the header; its layout is the same in every
format version, so that any version can read which version wrote the rest. Payloads are JSON
in UTF-8, in which the magic's bytes 0xF7 and 0xFF cannot occur: a search for the magic never
finds the inside of a payload.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

FILE_MAGIC: Final = b"\xffFLJRNL\n"
FRAME_MAGIC: Final = b"\xf7\xffFL"
_HEAD: Final = struct.Struct("<4sBIQ")
_CRC: Final = struct.Struct("<I")
_HEAD_SIZE: Final = _HEAD.size
_EXTRA: Final = _HEAD.size + _CRC.size
_pack_head = _HEAD.pack
_pack_crc = _CRC.pack
_crc32 = zlib.crc32

Buffer: TypeAlias = bytes | mmap.mmap


class FrameType(IntEnum):
    """What a frame's payload is."""

    HEADER = 1
    EVENT = 2
    MESSAGE = 3


class Frame(NamedTuple):
    """One whole frame whose checksum is right."""

    type: int
    payload: bytes


class Damage(NamedTuple):
    """A place in a journal that is not as it was written.

    Attributes:
        start: first byte concerned.
        end: byte after the last one concerned; equal to `start` when bytes are just missing.
        lost: frames that are known to be gone, from the sequence numbers; None at the end
            of a journal, where nothing tells.
        is_torn: the journal ends within a frame, as when its writer is killed in a write.
    """

    start: int
    end: int
    lost: int | None
    is_torn: bool = False

    @property
    def what(self) -> str:
        """The damage in one sentence."""
        if self.is_torn:
            return (
                f"ends within a record (bytes {self.start} to {self.end}); "
                "the complete records before it are kept"
            )
        lost = "the last records are lost" if self.lost is None else f"{self.lost} records are lost"
        return f"damaged at bytes {self.start} to {self.end}; {lost}, all others are kept"


def seed_of(journal_id: str) -> int:
    """What the CRC of all frames of a journal but its header begins with."""
    return _crc32(journal_id.encode())


def pack(frame_type: int, sequence: int, payload: bytes, seed: int = 0) -> bytes:
    """The bytes of one frame."""
    body = _pack_head(FRAME_MAGIC, frame_type, len(payload), sequence) + payload
    return body + _pack_crc(_crc32(body, seed))


def scan(
    data: Buffer, *, start: int, first_sequence: int, seed: int = 0
) -> Iterator[Frame | Damage]:
    """All whole frames in order, and between them what is damaged or missing.

    Args:
        data: the journal, or a part of it that ends where the journal ends.
        start: byte to start at.
        first_sequence: sequence number that the first frame must have.
        seed: of the journal, see `seed_of`; 0 for journals of format 1.
    """
    position, expected, end = start, first_sequence, len(data)
    while position < end:
        found = _frame_at(data, position, end, seed)
        if found is not None and found[1] == expected:
            frame, _, position = found
            expected += 1
            yield frame
            continue
        bad_start = position
        if found is None:
            position = _next_frame(data, position + 1, end, seed)
            if position == end:
                yield Damage(bad_start, end, None, is_torn=_is_torn(data, bad_start, end))
                return
            found = _frame_at(data, position, end, seed)
        frame, sequence, stop = found  # type: ignore[misc]  # a frame is at `position`
        if sequence < expected:  # seen before: copied bytes must not become rows twice
            yield Damage(bad_start, stop, 0)
        else:
            yield Damage(bad_start, position, sequence - expected)
            expected = sequence + 1
            yield frame
        position = stop


def _frame_at(data: Buffer, position: int, end: int, seed: int) -> tuple[Frame, int, int] | None:
    """The frame that starts at `position`, its sequence, and where it stops; None if none does."""
    if end - position < _EXTRA:
        return None
    magic, frame_type, length, sequence = _HEAD.unpack_from(data, position)
    stop = position + _EXTRA + length
    if magic != FRAME_MAGIC or stop > end:
        return None
    body = data[position : stop - 4]
    if _CRC.unpack_from(data, stop - 4)[0] != _crc32(body, seed if sequence else 0):
        return None
    return Frame(frame_type, body[_HEAD_SIZE:]), sequence, stop


def _next_frame(data: Buffer, position: int, end: int, seed: int) -> int:
    """Where the next whole frame starts; `end` when there is none."""
    while True:
        position = data.find(FRAME_MAGIC, position)
        if position < 0:
            return end
        if _frame_at(data, position, end, seed) is not None:
            return position
        position += 1


def _is_torn(data: Buffer, position: int, end: int) -> bool:
    """True when the rest looks like the beginning of a frame that was not written to its end.

    A loss of power may also leave zeros in the place of what was not written.
    """
    written = data[position:end].rstrip(b"\0")
    if end - position - len(written) > _CRC.size:  # more than a whole frame can end in
        return FRAME_MAGIC.startswith(written[: len(FRAME_MAGIC)])
    rest = data[position : position + _HEAD_SIZE]
    if not FRAME_MAGIC.startswith(rest[: len(FRAME_MAGIC)]):
        return False
    if len(rest) < _HEAD_SIZE:
        return True
    length = _HEAD.unpack_from(rest)[2]
    return bool(position + _EXTRA + length > end)
