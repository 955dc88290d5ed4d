"""Reading segments in pieces, as the rows of this version's schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from flightlog.errors import DamagedError
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.encryption.parquet import open_segment
from flightlog.recorder.layout import Layout
from flightlog.recorder.manifest import Part, SegmentEntry, StoreState, live_files, sha256_of
from flightlog.trace.schema import FORMAT_KEY, messages_schema
from flightlog.trace.versions import check_format

EVENTS = "events"
MESSAGES = "messages"


def schema_of(table: str) -> pa.Schema:
    """Schema of the segments of a table (`events` or `messages`)."""
    return segment_schema() if table == EVENTS else messages_schema()


def table_of(entry: SegmentEntry) -> str:
    """The table (`events` or `messages`) that a segment belongs to."""
    return entry.path.partition("/")[0]


def row_pieces(
    layout: Layout, path: Path, schema: pa.Schema, *, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a segment in their order, one row group at a time.

    Args:
        layout: the store, with the keys that are given.
        path: the segment.
        schema: of its table; columns that an older segment lacks are null.
        columns: those wanted; None is all.

    Raises:
        DamagedError: it cannot be read, or is not a segment of this table.
        NewerFormatError: a newer flightlog wrote it.
        StoreKeyError: it is encrypted and its key is not given.
    """
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    try:
        with open_segment(layout, path) as file:
            _check_columns(file.schema_arrow, schema, path)
            for number in range(file.num_row_groups):
                yield _conformed(
                    file.read_row_group(number, columns=wanted.names, use_threads=False), wanted
                )
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(
            f"the segment cannot be read ({str(error).splitlines()[0][:120]})",
            where=str(path),
            hint="Restore it from a copy; flightlog verify lists everything.",
        ) from error


def _check_columns(found: pa.Schema, schema: pa.Schema, path: Path) -> None:
    version = (found.metadata or {}).get(FORMAT_KEY, b"")
    if version.isdigit():
        check_format(int(version), where=str(path))
    foreign = [name for name in found.names if name not in schema.names]
    if foreign or not version.isdigit():
        raise DamagedError(
            f"has a column {foreign[0]!r} that its table does not have"
            if foreign
            else "was not written by flightlog",
            where=str(path),
            hint="Move it out of the store.",
        )


def _conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    there = set(rows.schema.names)
    return pa.Table.from_arrays(
        [
            rows.column(field.name).cast(field.type)
            if field.name in there
            else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def part_rows(
    layout: Layout,
    entry: SegmentEntry,
    schema: pa.Schema,
    *,
    columns: Sequence[str] | None = None,
) -> Iterator[tuple[Part, Iterator[pa.Table]]]:
    """The parts of a segment in order, each with its rows in pieces, to be read in turn.

    A segment without parts is of format 1: all its rows are of the journal that it is
    named after, and there is no chain.

    Raises:
        DamagedError: it cannot be read, or has other rows than its entry says.
    """
    path = layout.root / entry.path
    rows = _Rows(row_pieces(layout, path, schema, columns=columns))
    if not entry.parts:
        yield Part(path.stem, 0), rows.rest()
        return
    for part in entry.parts:
        pieces = rows.take(part.rows)
        yield part, pieces
        for _ in pieces:
            pass
    if rows.missing or next(rows.rest(), None) is not None:
        raise DamagedError(
            "has other rows than its manifest says",
            where=str(path),
            hint="Restore it from a copy; flightlog verify lists everything.",
        )


class _Rows:
    """The rows of a segment, some at a time."""

    def __init__(self, pieces: Iterator[pa.Table]) -> None:
        self.missing = 0
        self._pieces = pieces
        self._rest: pa.Table | None = None

    def take(self, rows: int) -> Iterator[pa.Table]:
        while rows > 0:
            piece = self._rest if self._rest is not None else next(self._pieces, None)
            if piece is None:
                self.missing += rows
                return
            taken = piece.slice(0, rows)
            self._rest = piece.slice(rows) if piece.num_rows > rows else None
            rows -= taken.num_rows
            yield taken

    def rest(self) -> Iterator[pa.Table]:
        if self._rest is not None:
            yield self._rest
            self._rest = None
        yield from self._pieces


def live_entries(layout: Layout, table: str, state: StoreState) -> list[SegmentEntry]:
    """The segments of a table that count, by day and name; also those that no manifest lists."""
    folder = layout.events if table == EVENTS else layout.messages
    found = []
    for path in live_files(layout, folder, state):
        name = path.relative_to(layout.root).as_posix()
        found.append(state.live.get(name) or SegmentEntry(name, "", path.stat().st_size, 0))
    return found


def require_unchanged(layout: Layout, entry: SegmentEntry) -> None:
    """Refuses a segment whose bytes are not those that were sealed: nothing is made of it.

    Raises:
        DamagedError: they are others, or the segment is missing.
    """
    path = layout.root / entry.path
    try:
        is_same = not entry.sha256 or sha256_of(path) == entry.sha256
    except OSError as error:
        raise DamagedError(
            f"cannot read: {error.strerror or error}",
            where=str(path),
            hint="Restore it from a copy; flightlog verify lists everything.",
        ) from error
    if not is_same:
        raise DamagedError(
            "the bytes are not those that were sealed",
            where=str(path),
            hint="Restore it from a copy; flightlog verify lists everything.",
        )
