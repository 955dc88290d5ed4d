"""A store of traces as readers see it: sealed segments and unsealed journals alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pyarrow as pa

from flightlog.errors import DamagedError, StoreError, StoreKeyError
from flightlog.recorder.blobs import read_blob
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.encryption.keys import StoreKeys
from flightlog.recorder.encryption.parquet import open_segment
from flightlog.recorder.encryption.store_key import for_writing, require_keys, with_keys
from flightlog.recorder.frames import Damage, FrameType
from flightlog.recorder.journal_reader import is_alive, read_header, read_records
from flightlog.recorder.layout import (
    DAMAGED_SUFFIX,
    MISFIT_SUFFIX,
    Layout,
    Problem,
    create_layout,
    links_in,
    open_layout,
)
from flightlog.recorder.lease import Lease
from flightlog.recorder.manifest import SegmentEntry, live_files, store_state
from flightlog.recorder.recovery import OpenRuns, stopped_in_segments
from flightlog.recorder.tables import events_table, messages_table
from flightlog.trace.schema import FORMAT_KEY, messages_schema
from flightlog.trace.versions import check_format

__all__ = ["Problem", "Snapshot", "Store"]
MAX_ROWS_PER_BYTE: Final = 4
"""A segment of more rows than this per byte was not made by sealing: a row has a salt of its
own, or a digest, which no compression makes smaller than that."""
_QUARANTINED = {
    DAMAGED_SUFFIX: "a damaged part of a journal, put aside when it was sealed",
    MISFIT_SUFFIX: "records with values that fit no column, put aside when they were sealed",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a store holds at one moment; no event is in it twice and none is left out.

    Attributes:
        event_files: sealed segments of the events table.
        message_files: sealed segments of the messages table.
        unsealed_events: events that are still in journals (schema `events_schema()`),
            with a `crashed` end for each run whose process is dead.
        unsealed_messages: messages that are still in journals. A digest may be in several
            files; equal digests are equal messages.
        problems: damage, and files that do not belong to the store.
        lease: keeps the files from being removed as long as the snapshot is there.
        blob: reads the text of a blob by its digest; None where the store has no blobs.
        keys: of the files that are encrypted.
    """

    event_files: tuple[Path, ...]
    message_files: tuple[Path, ...]
    unsealed_events: pa.Table
    unsealed_messages: pa.Table
    problems: tuple[Problem, ...]
    lease: Lease | None = None
    blob: Callable[[str], str] | None = None
    keys: StoreKeys | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Unsealed:
    """The contents of one journal."""

    path: Path
    is_alive: bool
    events: list[bytes]
    messages: list[bytes]
    problems: list[Problem]
    open_runs: tuple[str, ...] = ()


class Store:
    """A folder of traces. Build it with `Store.open` or `Store.create`."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.path = layout.root

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """An existing store.

        Raises:
            StoreError: nothing is there, or it is not a store.
            NewerFormatError: a newer flightlog made it.
            StoreKeyError: what is given as the key of an encrypted store is none.
        """
        return cls(with_keys(open_layout(path)))

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """The store at `path`, made when absent.

        Raises:
            StoreError: the path cannot become a store.
            StoreKeyError: the store is encrypted and its key is not given.
        """
        return cls(for_writing(create_layout(path)))

    def blob(self, digest: str) -> str:
        """The observation of this digest, checked against it.

        Raises:
            StoreError: there is no such blob.
            DamagedError: its bytes are not those that were written.
        """
        return read_blob(self.layout, digest)

    def snapshot(self, *, without_keys: bool = False) -> Snapshot:
        """All that is recorded, at this moment.

        Journals are read before the manifests and these before segments are listed: what
        is sealed in between is then in both, and its journal is left out; what is merged
        in between counts as it was before.

        Args:
            without_keys: be content with what can be told of an encrypted store without its
                keys: no crashed ends, and all segments are taken for its own.

        Raises:
            StoreError: a journal cannot be read by this user.
            StoreKeyError: the store is encrypted and its key is not given.
            NewerFormatError: a newer flightlog wrote a part of the store.
        """
        layout, lease = self.layout, Lease(self.layout)
        journals = [
            journal
            for path in layout.journal_files()
            if not layout.events_segment(path.stem).exists()
            and (journal := _read_journal(path)) is not None
        ]
        state = store_state(layout)
        if not without_keys:
            require_keys(layout, state)
        listed_events = live_files(layout, layout.events, state)
        listed_messages = live_files(layout, layout.messages, state)
        sealed = {path.stem for path in listed_events} | state.sealed_journals
        journals = [journal for journal in journals if journal.path.stem not in sealed]
        unsealed = {journal.path.stem for journal in journals}
        problems = [problem for journal in journals for problem in journal.problems]
        events = self._events(journals, problems, has_keys=not without_keys)
        messages, misfits = messages_table([row for j in journals for row in j.messages])
        problems += [Problem(layout.journals, misfit.what) for misfit in misfits]
        event_files = _own(layout, listed_events, segment_schema(), state.live, problems)
        message_files = _own(layout, listed_messages, messages_schema(), state.live, problems)
        problems += state.problems + self._quarantined() + links_in(layout)
        return Snapshot(
            tuple(event_files),
            # A sealing that was interrupted leaves messages whose journal is read above.
            tuple(path for path in message_files if path.stem not in unsealed),
            events,
            messages,
            tuple(problems),
            lease,
            self.blob if layout.has_blobs else None,
            layout.keys,
        )

    def _events(
        self, journals: list[_Unsealed], problems: list[Problem], *, has_keys: bool
    ) -> pa.Table:
        parts, running, ended = [], OpenRuns(), OpenRuns()
        for is_living in (True, False):
            payloads = [row for j in journals if j.is_alive is is_living for row in j.events]
            table, misfits = events_table(payloads)
            problems += [Problem(self.layout.journals, misfit.what) for misfit in misfits]
            runs = running if is_living else ended
            runs.add(table)
            for journal in journals:
                if journal.is_alive is is_living:
                    runs.carry(journal.open_runs)
            parts.append(table)
        crashed = ended.unfinished - running.unfinished - running.stopped
        if crashed and has_keys:
            crashed -= stopped_in_segments(self.layout, crashed)
            ended.recall(self.layout, crashed)
            parts.append(ended.crashed_ends(crashed))
        return pa.concat_tables(parts)

    def _quarantined(self) -> list[Problem]:
        return [
            Problem(path, _QUARANTINED[path.suffix])
            for path in sorted(self.layout.quarantine.glob("*"))
            if path.suffix in _QUARANTINED
        ]


def _read_journal(path: Path) -> _Unsealed | None:
    """The contents of a journal; None when it was sealed in the meantime."""
    try:
        alive = is_alive(path)
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"cannot read the journal: {error.strerror or error}",
            where=str(path),
            hint="Read the store as the user that recorded it, or seal it first: flightlog seal",
        ) from error
    journal = _Unsealed(path, alive, [], [], [], read_header(data, path.stem).open_runs)
    for item in read_records(data, where=path):
        if isinstance(item, Damage):
            # A living writer may be in the middle of its write.
            if not (alive and item.is_torn):
                journal.problems.append(Problem(path, item.what))
        elif item.type == FrameType.MESSAGE:
            journal.messages.append(item.payload)
        else:
            journal.events.append(item.payload)
    return journal


def _own(
    layout: Layout,
    paths: list[Path],
    schema: pa.Schema,
    listed: Mapping[str, SegmentEntry],
    problems: list[Problem],
) -> list[Path]:
    """Those files that are segments; the others become problems.

    The footer is read only of files that no manifest lists at their size.
    """
    own = []
    for path in paths:
        entry = listed.get(path.relative_to(layout.root).as_posix())
        size = path.stat().st_size
        if entry is not None and entry.bytes == size:
            what = _why_too_many(entry.rows, size)
        else:
            what = _why_foreign(layout, path, schema)
        if what is None:
            own.append(path)
        else:
            problems.append(Problem(path, f"{what}; its rows are left out. Move it elsewhere."))
    return own


def _why_too_many(rows: int, size: int) -> str | None:
    if rows <= MAX_ROWS_PER_BYTE * size:
        return None
    return f"declares {rows:,} rows in {size:,} bytes, more than a segment can hold"


def _why_foreign(layout: Layout, path: Path, schema: pa.Schema) -> str | None:
    try:
        opened = open_segment(layout, path)
        found, rows = opened.schema_arrow, opened.metadata.num_rows
    except (StoreKeyError, DamagedError) as error:
        return error.what
    version = (found.metadata or {}).get(FORMAT_KEY)
    if version is None or not version.isdigit():
        return "not written by flightlog (no flightlog format in its metadata)"
    check_format(int(version), where=str(path))
    if (too_many := _why_too_many(rows, path.stat().st_size)) is not None:
        return too_many
    for column in found:
        index = schema.get_field_index(column.name)
        if index < 0 or schema.field(index).type != column.type:
            return f"has a column {column.name} of type {column.type}, which is not of its format"
    return None
