"""Sealing: journals without a living writer become Parquet segments.

Each step can be repeated after a crash at any point: write temporary files,
sync, rename (messages first: the events segment is what makes a journal count
as sealed), sync the folders, write the manifest, remove the journal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.errors import FlightlogError, NewerFormatError
from flightlog.recorder.chain import Chain, sealed_rows, segment_schema
from flightlog.recorder.disk import sync_files
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.frames import Buffer, Damage, FrameType
from flightlog.recorder.journal import NEW_SUFFIX
from flightlog.recorder.journal_reader import is_alive, mapped, read_header, read_records
from flightlog.recorder.layout import (
    DAMAGED_SUFFIX,
    MISFIT_SUFFIX,
    TEMPORARY_SUFFIX,
    TORN_SUFFIX,
    Layout,
    Problem,
)
from flightlog.recorder.life.erasing import go_on
from flightlog.recorder.life.removal import checkpoint_if_many, remove_replaced
from flightlog.recorder.manifest import (
    Part,
    SegmentEntry,
    StoreState,
    add_manifest,
    sealing_lock,
    sha256_of,
    store_state,
)
from flightlog.recorder.quarantine import put_aside, read_aside
from flightlog.recorder.recovery import OpenRuns, stopped_in_segments
from flightlog.recorder.segment import SegmentWriter
from flightlog.recorder.store import Store
from flightlog.recorder.tables import Misfit, events_table, messages_table, read_events
from flightlog.trace.schema import messages_schema

BATCH_BYTES: Final = 16 << 20
"""Payload that becomes one row group; bounds the memory of a sealing."""

_PIECE_BYTES: Final = 2 << 20
"""Payload that is made columns at once: as much as the caches hold."""
_COMPRESSION_LEVEL: Final = 1
"""Half the time of level 3 for a tenth more bytes, which `flightlog compact` takes off again."""

_STALE_AFTER_S: Final = 3600.0


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
    synced: set[Path] = field(default_factory=set)


def seal_store(store: Store, *, batch_bytes: int = BATCH_BYTES) -> SealReport:
    """Seals every journal whose writer is dead; those of living writers are left alone.

    Args:
        store: the store.
        batch_bytes: payload that becomes one row group; bounds the memory.

    Raises:
        StoreError: the store cannot be written to.
        StoreKeyError: it is encrypted and its key is not given; the journals stay as they are.
        OSError: the disk is full or fails; nothing is lost, seal again.
    """
    layout = for_writing(store.layout)
    with sealing_lock(layout):
        report = seal_journals(layout, batch_bytes=batch_bytes)
        unfinished = go_on(layout)
        remove_replaced(layout)
        if not report.problems:
            checkpoint_if_many(layout)
    return replace(report, problems=(*report.problems, *unfinished))


def seal_journals(layout: Layout, *, batch_bytes: int = BATCH_BYTES) -> SealReport:
    """As `seal_store`, for who holds the sealing lock already and removes things after it."""
    seal = _Pass(layout, batch_bytes)
    state = store_state(layout)
    # Before anything is read: a writer that lets another journal take over has begun it by
    # the time that the old one counts as dead, so its runs are seen to go on.
    journals = [path for path in layout.journal_files() if not is_alive(path)]
    if journals:  # their writers may have died before they synced the names
        layout.disk.sync_folder(layout.journals)
    for path in journals:
        try:
            if not _is_sealed(layout, path.stem, state):
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
    if seal.segments:
        seal.layout.disk.sync_folder(seal.layout.root)
        add_manifest(seal.layout, seal.segments)
    disk = seal.layout.disk
    for path in seal.sealed:
        disk.unlink(path)
    if seal.sealed:
        disk.sync_folder(seal.layout.journals)


def _is_sealed(layout: Layout, journal_id: str, state: StoreState) -> bool:
    """True when a manifest lists the journal's rows: only its removal was left to do.

    Sealing it again would give its events other salts than those that are in the chain.
    """
    if journal_id in state.sealed_journals:
        return True
    path = layout.events_segment(journal_id)
    entry = state.live.get(path.relative_to(layout.root).as_posix())
    if entry is None:
        return False
    return path.is_file() and sha256_of(path) == entry.sha256


def _seal_journal(seal: _Pass, path: Path) -> None:
    layout, journal_id = seal.layout, path.stem
    events, messages = (
        SegmentWriter(layout, path, schema, compression_level=_COMPRESSION_LEVEL)
        for path, schema in (
            (layout.events_segment(journal_id), segment_schema()),
            (layout.messages_segment(journal_id), messages_schema()),
        )
    )
    runs, digests, chain = OpenRuns(), set[str](), Chain(journal_id)
    # A loss of power must not leave less of the journal than the segment has by then.
    layout.disk.sync_file(path)
    try:
        with mapped(path) as data:
            runs.carry(read_header(data, path.stem).open_runs)
            for rows in _row_groups(seal, path, data, chain):
                runs.add(rows.events)
                events.write(rows.events)
                messages.write(_unseen(rows.messages, digests))
                _put_misfits_aside(seal, path, rows.misfits)
                _sync_blobs(seal, rows.events.column("result_blob"))
                _sync_blobs(seal, rows.messages.column("text_blob"))
        crashed = _crashed(seal, path, runs)
        runs.recall(layout, crashed, except_journal=path.stem)
        events.write(sealed_rows(runs.crashed_ends(crashed), None, chain))
        if not events.rows and not messages.rows:
            return
        if messages.rows:
            seal.segments.append(messages.publish([Part(journal_id, messages.rows)]))
        seal.segments.append(events.publish([Part(journal_id, events.rows, chain.head)]))
    finally:
        events.discard()
        messages.discard()


def _sync_blobs(seal: _Pass, digests: pa.ChunkedArray) -> None:
    """Brings the blobs of these digests to the disk, which their writer may not have done."""
    layout = seal.layout
    named = {layout.blob_file(digest) for digest in pc.unique(digests).to_pylist() if digest}
    sync_files(layout.disk, sorted(path for path in named - seal.synced if path.is_file()))
    seal.synced |= named


def _crashed(seal: _Pass, path: Path, runs: OpenRuns) -> set[str]:
    """Runs that nothing goes on with: no other journal holds them, no segment ends them."""
    unfinished = runs.unfinished
    if not unfinished:
        return unfinished
    if seal.elsewhere is None:
        seal.elsewhere = {other: _run_ids(other) for other in seal.layout.journal_files()}
    for other, run_ids in seal.elsewhere.items():
        if other != path and other not in seal.sealed and not unfinished.isdisjoint(run_ids):
            # It must not be lost after this one is sealed without an end of these runs.
            if other.exists():
                seal.layout.disk.sync_file(other)
            unfinished -= run_ids
    return unfinished - stopped_in_segments(seal.layout, unfinished, except_journal=path.stem)


def _run_ids(path: Path) -> set[str]:
    """The runs that a journal holds events of, or goes on with."""
    runs = OpenRuns()
    try:
        data = path.read_bytes()
        runs.carry(read_header(data, path.stem).open_runs)
        records = read_records(data, where=path)
        payloads = [r.payload for r in records if not isinstance(r, Damage) and r.type == 2]
    except (FileNotFoundError, NewerFormatError):
        return set()
    runs.add(events_table(payloads)[0])
    return runs.unfinished | runs.stopped


class _Rows(NamedTuple):
    events: pa.Table
    messages: pa.Table
    misfits: list[Misfit]


def _row_groups(seal: _Pass, path: Path, data: Buffer, chain: Chain) -> Iterator[_Rows]:
    """The rows of a journal, in pieces of about `seal.batch_bytes`."""
    pieces: list[_Rows] = []
    size = 0
    for batch in _batches(seal, path, data):
        events = read_events(batch.events)
        messages, misfits = messages_table(batch.messages)
        sealed = sealed_rows(events.table, events.encoded, chain)
        pieces.append(_Rows(sealed, messages, events.misfits + misfits))
        size += batch.size
        if size >= seal.batch_bytes:
            yield _joined(pieces)
            pieces, size = [], 0
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[_Rows]) -> _Rows:
    return _Rows(
        pa.concat_tables([one.events for one in pieces]),
        pa.concat_tables([one.messages for one in pieces]),
        [misfit for one in pieces for misfit in one.misfits],
    )


@dataclass(slots=True)
class _Batch:
    events: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    size: int = 0


def _batches(seal: _Pass, path: Path, data: Buffer) -> Iterator[_Batch]:
    batch, most = _Batch(), min(_PIECE_BYTES, seal.batch_bytes)
    for record in read_records(data, where=path):
        if isinstance(record, Damage):
            _put_aside(seal, path, data, record)
            continue
        rows = batch.messages if record.type == FrameType.MESSAGE else batch.events
        rows.append(record.payload)
        batch.size += len(record.payload)
        if batch.size >= most:
            yield batch
            batch = _Batch()
    yield batch


def _put_aside(seal: _Pass, path: Path, data: Buffer, damage: Damage) -> None:
    seal.problems.append(Problem(path, damage.what))
    suffix = TORN_SUFFIX if damage.is_torn else DAMAGED_SUFFIX
    target = seal.layout.quarantine / f"{path.stem}-{damage.start}{suffix}"
    put_aside(seal.layout, target, data[damage.start : damage.end])


def _put_misfits_aside(seal: _Pass, path: Path, misfits: list[Misfit]) -> None:
    if not misfits:
        return
    seal.problems += [Problem(path, misfit.what) for misfit in misfits]
    target = seal.layout.quarantine / f"{path.stem}{MISFIT_SUFFIX}"
    before = set(read_aside(seal.layout, target).splitlines()) if target.exists() else set()
    lines = {misfit.payload for misfit in misfits} | before
    put_aside(seal.layout, target, b"".join(line + b"\n" for line in sorted(lines)))


def _unseen(messages: pa.Table, digests: set[str]) -> pa.Table:
    """The rows whose digest did not come before."""
    column = messages.column("digest").to_pylist()
    fresh = []
    for digest in column:
        fresh.append(digest not in digests)
        digests.add(digest)
    return messages if all(fresh) else messages.filter(pa.array(fresh, pa.bool_()))


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
        with contextlib.suppress(FileNotFoundError):  # finished meanwhile
            if path.stat().st_mtime < oldest:
                layout.disk.unlink(path)
