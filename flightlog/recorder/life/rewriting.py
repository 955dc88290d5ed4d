"""New segments out of old ones: merged, without some rows, or with rows that say less.

The rows of a journal stay together and in their order, so that its chain can be computed
from the new segment as from the old one. A new segment counts only when a manifest lists
it; one that is left behind by a crash is removed later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from flightlog.recorder.layout import SEGMENT_SUFFIX, Layout
from flightlog.recorder.life.dropped import DROPPED_SUFFIX, Dropped, DroppedByPart, dropped_schema
from flightlog.recorder.life.skeleton import erased_among
from flightlog.recorder.manifest import MERGED_PREFIX, Part, SegmentEntry
from flightlog.recorder.segment import SegmentWriter
from flightlog.recorder.segment_rows import part_rows, require_unchanged, schema_of, table_of

GROUP_BYTES: Final = 16 << 20
"""Rows that become one row group of a new segment; bounds the memory of a rewriting."""

_NAME_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Edited:
    """What becomes of some rows.

    Attributes:
        rows: those that stay.
        gone: place among the given rows, from 0, and commitment of each event that goes.
    """

    rows: pa.Table
    gone: Sequence[tuple[int, bytes]] = ()


Edit = Callable[[pa.Table, str], Edited]
"""Gives what becomes of some rows of a journal."""


def unchanged(rows: pa.Table, _journal_id: str) -> Edited:
    """Keeps all rows as they are."""
    return Edited(rows)


def rewritten(
    layout: Layout, entries: Sequence[SegmentEntry], edit: Edit, *, number: int
) -> SegmentEntry | None:
    """One new segment with the rows of some segments of one table, in their order.

    Args:
        layout: the store; the caller holds its sealing lock.
        entries: the segments; the new one lies in the folder of the first.
        edit: what becomes of each piece of rows; they come in order.
        number: of the manifest that is going to list it.

    Returns:
        Its entry; None where no row stays.

    Raises:
        DamagedError: a segment is not as it was written.
        OSError: the disk is full or fails.
    """
    for entry in entries:
        require_unchanged(layout, entry)
    making = _Making(layout, _new_path(layout, entries, number), schema_of(table_of(entries[0])))
    try:
        for entry in entries:
            _add(making, layout, entry, edit)
        return making.publish()
    finally:
        making.discard()


def _new_path(layout: Layout, entries: Sequence[SegmentEntry], number: int) -> Path:
    """A name that follows from what is replaced and when: the same when it is done again."""
    told = hashlib.sha256(str(number).encode())
    for entry in entries:
        told.update(f"\n{entry.path} {entry.sha256}".encode())
    name = MERGED_PREFIX + told.hexdigest()[:_NAME_DIGITS] + SEGMENT_SUFFIX
    return (layout.root / entries[0].path).with_name(name)


@dataclass(slots=True)
class _Making:
    """A segment in the making, and the file of its dropped rows."""

    layout: Layout
    path: Path
    schema: pa.Schema
    parts: list[Part] = field(default_factory=list)
    _rows: SegmentWriter = field(init=False)
    _gone: SegmentWriter = field(init=False)
    _buffer: list[pa.Table] = field(default_factory=list)
    _buffered: int = 0

    def __post_init__(self) -> None:
        self._rows = SegmentWriter(self.layout, self.path, self.schema)
        path = self.path.with_suffix(DROPPED_SUFFIX)
        self._gone = SegmentWriter(self.layout, path, dropped_schema())

    def add(self, rows: pa.Table) -> None:
        """Adds rows; small pieces are written together."""
        if not rows.num_rows:
            return
        if self._buffered + rows.nbytes > GROUP_BYTES:
            self._flush()
        self._buffer.append(rows)
        self._buffered += rows.nbytes

    def end_part(self, part: Part, gone: Iterable[tuple[int, bytes]]) -> None:
        """Ends the rows of one journal; nothing is kept of one of which no row is."""
        if not part.rows:
            return
        columns = zip(*((len(self.parts), *one) for one in gone), strict=True)
        arrays = list(map(_array, columns, dropped_schema()))
        if arrays:
            self._gone.write(pa.Table.from_arrays(arrays, schema=dropped_schema()))
        self.parts.append(part)

    def publish(self) -> SegmentEntry | None:
        """Gives the complete files their names."""
        self._flush()
        if not self._rows.rows:
            return None
        gone = self._gone.publish().sha256 if self._gone.rows else None
        return self._rows.publish(self.parts, dropped_sha256=gone)

    def discard(self) -> None:
        """Removes what was not published."""
        self._rows.discard()
        self._gone.discard()

    def _flush(self) -> None:
        if self._buffer:
            self._rows.write(pa.concat_tables(self._buffer))
        self._buffer, self._buffered = [], 0


def _array(values: Sequence[Any], column: pa.Field) -> pa.Array:
    return pa.array(values, column.type)


def _add(making: _Making, layout: Layout, entry: SegmentEntry, edit: Edit) -> None:
    gone = DroppedByPart(layout, entry)
    for number, (part, pieces) in enumerate(part_rows(layout, entry, making.schema)):
        _add_part(making, part, pieces, gone.of(number), edit)


def _add_part(
    making: _Making,
    part: Part,
    pieces: Iterator[pa.Table],
    dropped: Sequence[Dropped],
    edit: Edit,
) -> None:
    places = _Places(dropped)
    kept = erased = 0
    for piece in pieces:
        edited = edit(piece, part.journal_id)
        places.pass_by(piece.num_rows, edited.gone)
        making.add(edited.rows)
        kept += edited.rows.num_rows
        erased += erased_among(edited.rows) if part.head else 0
    gone = places.gone if part.head else []
    making.end_part(Part(part.journal_id, kept, part.head, len(gone), erased), gone)


class _Places:
    """Where in their journal the rows of a part stand of which some are gone.

    Attributes:
        gone: place and commitment of all rows that are gone, in order.
    """

    def __init__(self, dropped: Sequence[Dropped]) -> None:
        self.gone = [(one.place, one.commitment) for one in dropped]
        self._before = [one.place for one in dropped]
        self._next = 0
        self._place = 0

    def pass_by(self, rows: int, gone: Sequence[tuple[int, bytes]]) -> None:
        """Goes on over some rows, of which these are gone now."""
        if not gone and self._next == len(self._before):
            self._place += rows
            return
        now = dict(gone)
        for row in range(rows):
            while self._next < len(self._before) and self._before[self._next] == self._place:
                self._next += 1
                self._place += 1
            if row in now:
                self.gone.append((self._place, now[row]))
            self._place += 1
        if gone:
            self.gone.sort()
