"""A store of traces as readers see it: sealed segments and unsealed journals alike."""

from __future__ import annotations

from collections.abc import Callable
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
from flightlog.recorder.intact import changed_segments, missing_text, require_sound
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
from flightlog.recorder.manifest import SegmentEntry, StoreState, live_files, store_state
from flightlog.recorder.recovery import OpenRuns, stopped_in_segments
from flightlog.recorder.tables import events_table, messages_table
from flightlog.trace.schema import FORMAT_KEY, messages_schema
from flightlog.trace.versions import check_format

__all__ = ["Problem", "Snapshot", "Store"]
UNLISTED: Final = "no manifest lists the segment: it was not sealed here"
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


@dataclass(slots=True)
class _Segments:
    """The segments of a store.

    Attributes:
        state: what the manifests say.
        all_events: those of the events table, also those that are damaged.
        events: those of the events table that rows are read from.
        messages: those of the messages table that rows are read from.
        problems: of the others.
        is_odd: True when a file is missing, or there that no manifest and no journal explains.
    """

    state: StoreState
    all_events: list[Path] = field(default_factory=list)
    events: list[Path] = field(default_factory=list)
    messages: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_odd: bool = False


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

    def snapshot(
        self, *, strict: bool = False, without_keys: bool = False, compares_bytes: bool = True
    ) -> Snapshot:
        """All that is recorded, at this moment, and as far as it is as it was written.

        A segment whose sha256 is not that of its manifest is left out, and is a problem.

        Journals are read before the manifests and these before segments are listed: what
        is sealed in between is then in both, and its journal is left out; what is merged
        in between counts as it was before.

        Args:
            strict: any problem is an error.
            without_keys: be content with what can be told of an encrypted store without its
                keys: no crashed ends, and all segments are taken for its own.
            compares_bytes: False leaves the sha256 of the segments to the caller.

        Raises:
            DamagedError: with `strict`, something is not as it was written.
            StoreError: a journal cannot be read by this user.
            StoreKeyError: the store is encrypted and its key is not given.
            NewerFormatError: a newer flightlog wrote a part of the store.
        """
        layout, lease = self.layout, Lease(self.layout)
        journals = self._journals()
        files = self._segments(without_keys=without_keys, compares_bytes=compares_bytes)
        sealed = {path.stem for path in files.all_events} | files.state.sealed_journals
        journals = [journal for journal in journals if journal.path.stem not in sealed]
        unsealed = {journal.path.stem for journal in journals}
        problems = [problem for journal in journals for problem in journal.problems]
        events = self._events(journals, problems, has_keys=not without_keys)
        messages, misfits = messages_table([row for j in journals for row in j.messages])
        problems += [Problem(layout.journals, misfit.what) for misfit in misfits]
        problems += files.problems + files.state.problems + self._quarantined() + links_in(layout)
        if strict:
            require_sound(problems, where=self.path)
        return Snapshot(
            tuple(files.events),
            # A sealing that was interrupted leaves messages whose journal is read above.
            tuple(path for path in files.messages if path.stem not in unsealed),
            events,
            messages,
            tuple(problems),
            lease,
            self.blob if layout.has_blobs else None,
            layout.keys,
        )

    def _segments(self, *, without_keys: bool, compares_bytes: bool) -> _Segments:
        """The segments that count, as the manifests say at one moment."""
        while True:
            state = store_state(self.layout)
            if not without_keys:
                require_keys(self.layout, state)
            files = _segments_of(self.layout, state, compares_bytes=compares_bytes)
            # What is not where it should be may just have been merged, or sealed.
            if not files.is_odd or store_state(self.layout).number == state.number:
                return files

    def _journals(self) -> list[_Unsealed]:
        """What is in the journals.

        Looked for again until there is no new one: a writer that goes on in another journal
        meanwhile would seem to have died.
        """
        layout, found = self.layout, dict[Path, _Unsealed | None]()
        while new := [path for path in layout.journal_files() if path not in found]:
            for path in new:
                is_sealed = layout.events_segment(path.stem).exists()
                found[path] = None if is_sealed else _read_journal(path)
        return [journal for journal in found.values() if journal is not None]

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


def _segments_of(layout: Layout, state: StoreState, *, compares_bytes: bool) -> _Segments:
    files = _Segments(state)
    files.all_events = live_files(layout, layout.events, state)
    all_messages = live_files(layout, layout.messages, state)
    changed: dict[Path, str] = {}
    if compares_bytes:
        there = {*files.all_events, *all_messages}
        entries = [one for name, one in state.live.items() if layout.root / name in there]
        changed = changed_segments(layout, entries)
        missing = [one for name, one in state.live.items() if layout.root / name not in there]
        files.problems += [Problem(layout.root / one.path, missing_text(one)) for one in missing]
        files.is_odd = bool(missing) or any(not path.exists() for path in changed)
    for paths, own, schema in (
        (files.all_events, files.events, segment_schema()),
        (all_messages, files.messages, messages_schema()),
    ):
        for path in paths:
            entry = state.live.get(path.relative_to(layout.root).as_posix())
            what = changed.get(path)
            if what is None:
                what = _why_not(layout, path, schema, entry)
            if what is not None:
                what = f"{what}; its rows are left out. Restore it from a copy, or move it away."
                files.problems.append(Problem(path, what))
                continue
            own.append(path)
            if entry is None and compares_bytes and not layout.journal_file(path.stem).exists():
                files.problems.append(Problem(path, UNLISTED))
                files.is_odd = True
    return files


def _why_not(
    layout: Layout, path: Path, schema: pa.Schema, entry: SegmentEntry | None
) -> str | None:
    """Why a file is no segment of the store; the footer is read only where no manifest lists it
    at its size."""
    try:
        size = path.stat().st_size
        if entry is not None and entry.bytes == size:
            return _why_too_many(entry.rows, size)
        return _why_foreign(layout, path, schema)
    except FileNotFoundError:
        return "the segment was removed while it was looked at"


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
