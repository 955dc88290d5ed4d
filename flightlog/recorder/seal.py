"""Sealing: journals without a living writer become Parquet segments.

Each step can be repeated after a crash at any point: write temporary files,
sync, rename (messages first: the events segment is what makes a journal count
as sealed), sync the folders, write the manifest, remove the journal.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.control.owner import give_to_owner, make_folder
from flightlog.errors import FlightlogError, NewerFormatError
from flightlog.recorder.frames import Buffer, Damage, FrameType
from flightlog.recorder.journal import NEW_SUFFIX
from flightlog.recorder.journal_reader import is_alive, mapped, read_records
from flightlog.recorder.layout import (
    DAMAGED_SUFFIX,
    MISFIT_SUFFIX,
    TEMPORARY_SUFFIX,
    TORN_SUFFIX,
    Layout,
    Problem,
    sync_folder,
)
from flightlog.recorder.manifest import (
    SegmentEntry,
    add_manifest,
    known_segments,
    sealing_lock,
    sha256_of,
)
from flightlog.recorder.recovery import OpenRuns, stopped_in_segments
from flightlog.recorder.store import Store
from flightlog.recorder.tables import Misfit, events_table, messages_table
from flightlog.trace.schema import FORMAT_KEY, events_schema, messages_schema
from flightlog.trace.versions import FORMAT_VERSION

BATCH_BYTES: Final = 16 << 20
"""Payload that becomes one row group; bounds the memory of a sealing."""

_STALE_AFTER_S: Final = 3600.0
# Statistics of the columns that readers filter by; those of the others only grow the footer.
_FILTERED_COLUMNS: Final = ["kind", "run_id", "seq", "at", "agent", "variant", "task_id"]


@dataclass(frozen=True, slots=True)
class SealReport:
    """What one sealing did.

    Attributes:
        sealed_journals: journals that are segments now.
        events: rows in the new events segments.
        messages: rows in the new messages segments.
        problems: damage that was found and put aside, and journals left alone.
    """

    sealed_journals: int
    events: int
    messages: int
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Pass:
    """One sealing in progress."""

    layout: Layout
    batch_bytes: int
    sealed: list[Path] = field(default_factory=list)
    segments: list[SegmentEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    elsewhere: dict[Path, set[str]] | None = None


def seal_store(store: Store, *, batch_bytes: int = BATCH_BYTES) -> SealReport:
    """Seals every journal whose writer is dead; those of living writers are left alone.

    Args:
        store: the store.
        batch_bytes: payload that becomes one row group; bounds the memory.

    Raises:
        StoreError: the store cannot be written to.
        OSError: the disk is full or fails; nothing is lost, seal again.
    """
    layout = store.layout
    with sealing_lock(layout):
        seal = _Pass(layout, batch_bytes)
        for path in layout.journal_files():
            if is_alive(path):
                continue
            try:
                _seal_journal(seal, path)
            except NewerFormatError as error:
                seal.problems.append(Problem(path, f"{error.what}; left alone"))
            else:
                seal.sealed.append(path)
        _finish(seal)
        _remove_leftovers(layout)
    by_table = {"events": 0, "messages": 0}
    for entry in seal.segments:
        by_table[entry.path.partition("/")[0]] += entry.rows
    return SealReport(
        len(seal.sealed), by_table["events"], by_table["messages"], tuple(seal.problems)
    )


def seal_after_recording(path: Path) -> str | None:
    """Seals at the end of a recording; why it could not, or None. Nothing is lost then."""
    try:
        seal_store(Store.open(path))
    except (FlightlogError, OSError, pa.ArrowException) as error:
        return f"not sealed: {error}"
    return None


def _finish(seal: _Pass) -> None:
    known, _ = known_segments(seal.layout)
    new = [entry for entry in seal.segments if known.get(entry.path) != entry]
    if new:
        add_manifest(seal.layout, new)
    for path in seal.sealed:
        path.unlink()
    if seal.sealed:
        sync_folder(seal.layout.journals)


def _seal_journal(seal: _Pass, path: Path) -> None:
    layout, journal_id = seal.layout, path.stem
    events = _Segment(layout.events_segment(journal_id), events_schema())
    messages = _Segment(layout.messages_segment(journal_id), messages_schema())
    runs, digests = OpenRuns(), set[str]()
    try:
        with mapped(path) as data:
            for batch in _batches(seal, path, data):
                event_rows, misfits = events_table(batch.events)
                runs.add(event_rows)
                events.write(event_rows)
                message_rows, more_misfits = messages_table(batch.messages)
                messages.write(_unseen(message_rows, digests))
                _put_misfits_aside(seal, path, misfits + more_misfits)
        events.write(runs.crashed_ends(_crashed(seal, path, runs)))
        if not events.rows and not messages.rows:
            return
        if messages.rows:
            seal.segments.append(messages.publish(layout.root))
        seal.segments.append(events.publish(layout.root))
    finally:
        events.discard()
        messages.discard()


def _crashed(seal: _Pass, path: Path, runs: OpenRuns) -> set[str]:
    """Runs that nothing goes on with: no other journal holds them, no segment ends them."""
    unfinished = runs.unfinished
    if not unfinished:
        return unfinished
    if seal.elsewhere is None:
        seal.elsewhere = {other: _run_ids(other) for other in seal.layout.journal_files()}
    for other, run_ids in seal.elsewhere.items():
        if other != path and other not in seal.sealed:
            unfinished -= run_ids
    return unfinished - stopped_in_segments(seal.layout, unfinished, except_journal=path.stem)


def _run_ids(path: Path) -> set[str]:
    """The runs that a journal holds events of."""
    runs = OpenRuns()
    try:
        records = read_records(path.read_bytes(), where=path)
        payloads = [r.payload for r in records if not isinstance(r, Damage) and r.type == 2]
    except (FileNotFoundError, NewerFormatError):
        return set()
    runs.add(events_table(payloads)[0])
    return runs.unfinished | runs.stopped


@dataclass(slots=True)
class _Batch:
    events: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    size: int = 0


def _batches(seal: _Pass, path: Path, data: Buffer) -> Iterator[_Batch]:
    batch = _Batch()
    for record in read_records(data, where=path):
        if isinstance(record, Damage):
            _put_aside(seal, path, data, record)
            continue
        rows = batch.messages if record.type == FrameType.MESSAGE else batch.events
        rows.append(record.payload)
        batch.size += len(record.payload)
        if batch.size >= seal.batch_bytes:
            yield batch
            batch = _Batch()
    yield batch


def _put_aside(seal: _Pass, path: Path, data: Buffer, damage: Damage) -> None:
    seal.problems.append(Problem(path, damage.what))
    make_folder(seal.layout.quarantine)
    suffix = TORN_SUFFIX if damage.is_torn else DAMAGED_SUFFIX
    target = seal.layout.quarantine / f"{path.stem}-{damage.start}{suffix}"
    target.write_bytes(data[damage.start : damage.end])


def _put_misfits_aside(seal: _Pass, path: Path, misfits: list[Misfit]) -> None:
    if not misfits:
        return
    seal.problems += [Problem(path, misfit.what) for misfit in misfits]
    make_folder(seal.layout.quarantine)
    target = seal.layout.quarantine / f"{path.stem}{MISFIT_SUFFIX}"
    before = set(target.read_bytes().splitlines()) if target.exists() else set()
    lines = {misfit.payload for misfit in misfits} | before
    target.write_bytes(b"".join(line + b"\n" for line in sorted(lines)))


def _unseen(messages: pa.Table, digests: set[str]) -> pa.Table:
    """The rows whose digest did not come before."""
    column = messages.column("digest").to_pylist()
    fresh = []
    for digest in column:
        fresh.append(digest not in digests)
        digests.add(digest)
    return messages if all(fresh) else messages.filter(pa.array(fresh, pa.bool_()))


def _has_values(table: pa.Table, name: str) -> bool:
    return bool(table.column(name).null_count < table.num_rows)


class _Segment:
    """A Parquet file in the making, under a temporary name until it is complete."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._path = path
        self._schema = schema
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        if not table.num_rows and self._writer is not None:
            return
        if self._writer is None:
            make_folder(self._path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(self._temporary, flags, 0o666)
            give_to_owner(descriptor, self._path.parent)
            os.close(descriptor)
            self._writer = pq.ParquetWriter(
                self._temporary,
                self._schema,
                compression="zstd",
                compression_level=3,
                write_page_checksum=True,
                write_statistics=[n for n in _FILTERED_COLUMNS if n in self._schema.names],
                # An unused column costs nothing but its name: no dictionary for it, and
                # the types stand in the Parquet schema, so not a second time beside it.
                use_dictionary=[n for n in table.schema.names if _has_values(table, n)],
                store_schema=False,
            )
        if table.num_rows:
            self._writer.write_table(table)
            self.rows += table.num_rows

    def publish(self, root: Path) -> SegmentEntry:
        """Gives the complete file its name; from here on readers see it."""
        self._writer.add_key_value_metadata({FORMAT_KEY: str(FORMAT_VERSION)})
        self._writer.close()
        self._writer = None
        descriptor = os.open(self._temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        entry = SegmentEntry(
            self._path.relative_to(root).as_posix(),
            sha256_of(self._temporary),
            self._temporary.stat().st_size,
            self.rows,
        )
        self._temporary.replace(self._path)
        sync_folder(self._path.parent)
        sync_folder(self._path.parent.parent)
        return entry

    def discard(self) -> None:
        """Removes what was not published."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._temporary.unlink(missing_ok=True)


def _remove_leftovers(layout: Layout) -> None:
    """Removes temporary files of processes that died, once they are an hour old."""
    oldest = time.time() - _STALE_AFTER_S
    leftovers = [
        *layout.journals.glob(f"*{NEW_SUFFIX}"),
        *layout.events.glob(f"date=*/.*{TEMPORARY_SUFFIX}"),
        *layout.messages.glob(f"date=*/.*{TEMPORARY_SUFFIX}"),
        *layout.blobs.glob(f"*/.*{TEMPORARY_SUFFIX}"),
        *layout.manifests.glob(f".*{TEMPORARY_SUFFIX}"),
    ]
    for path in leftovers:
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
