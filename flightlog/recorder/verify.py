"""Verifying a store: are all bytes still those that were written?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.blobs import is_intact_file
from flightlog.recorder.encryption.parquet import open_segment, read_segment
from flightlog.recorder.encryption.store_key import encryption_notes, lacking_keys
from flightlog.recorder.intact import changed_segments, missing_text
from flightlog.recorder.layout import Layout, Problem, is_digest
from flightlog.recorder.manifest import SegmentEntry, live_files, store_state
from flightlog.recorder.store import UNLISTED, Snapshot, Store


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The state of a store's bytes.

    Attributes:
        segments: segments that were compared with the manifests.
        events: events in the segments that are as written, and in journals.
        ok: True when there is no problem.
        problems: every file that is changed, missing, damaged or foreign.
        damaged: those of them that readers would take rows from: segments whose bytes
            have changed, or that are missing. Rows of such a store are not to be trusted.
        unsealed_events: those of the events that are in journals.
        notes: what is no problem and yet to be known, one sentence each: what could not be
            checked without the key of an encrypted store, and what in one is not encrypted.
    """

    segments: int
    events: int
    ok: bool
    problems: tuple[Problem, ...]
    damaged: tuple[Problem, ...]
    unsealed_events: int = 0
    notes: tuple[str, ...] = ()


def require_intact(store: Store) -> VerifyReport:
    """Verifies a store before its rows are used for a decision.

    Damage that was found and put aside earlier does not matter here: its rows are not read.

    Raises:
        DamagedError: a segment has changed or is missing.
        NewerFormatError: a newer flightlog wrote a part of the store.
    """
    report = verify_store(store)
    if report.damaged:
        found = "\n  ".join(f"{problem.path}: {problem.what}" for problem in report.damaged)
        raise DamagedError(
            f"{len(report.damaged)} damaged or missing segments\n  {found}",
            where=str(store.path),
            hint="Restore them from a copy; flightlog verify lists everything.",
        )
    return report


def verify_store(store: Store) -> VerifyReport:
    """Compares every segment's sha256 with the manifests, every blob with its
    name, and every journal record with its checksum.

    Without the key of an encrypted store this holds for its segments and journals, not
    for its blobs.

    Raises:
        NewerFormatError: a newer flightlog wrote a part of the store.
    """
    layout = store.layout
    state = store_state(layout)
    lacking = lacking_keys(layout, state)
    snapshot = store.snapshot(without_keys=bool(lacking), compares_bytes=False)
    known = dict(state.live)
    listed = [
        path
        for folder in (layout.events, layout.messages)
        for path in live_files(layout, folder, state)
    ]
    damaged: list[Problem] = []
    unsealed = snapshot.unsealed_events.num_rows
    checked, events = 0, unsealed
    changed = changed_segments(layout, known.values())
    problems = [problem for problem in snapshot.problems if problem.path not in changed]
    for path in listed:
        entry = known.pop(path.relative_to(layout.root).as_posix(), None)
        if entry is None:
            # Its journal is still there: it is being sealed, or will be sealed again.
            if not layout.journal_file(path.stem).exists():
                problems.append(Problem(path, UNLISTED))
            continue
        checked += 1
        if path in changed:
            damaged.append(Problem(path, f"{changed[path]}: its rows may be wrong"))
            continue
        if (declared := _other_rows(layout, path, entry)) is not None:
            damaged.append(declared)
        elif path.is_relative_to(layout.events):
            events += entry.rows
    damaged += [Problem(layout.root / one.path, missing_text(one)) for one in known.values()]
    blobs, unread = _damaged_blobs(layout)
    problems += [*damaged, *blobs]
    if not lacking:
        problems += _missing_blobs(layout, snapshot)
    notes = encryption_notes(layout, state, unread=unread)
    return VerifyReport(
        checked, events, not problems, tuple(problems), tuple(damaged), unsealed, notes
    )


def _other_rows(layout: Layout, path: Path, entry: SegmentEntry) -> Problem | None:
    """What a segment says of itself where it is not what the manifest says of it."""
    try:
        rows = open_segment(layout, path).metadata.num_rows
    except StoreKeyError:
        return None
    except (DamagedError, pa.ArrowException, OSError) as error:
        return Problem(path, f"cannot be read: {str(error).splitlines()[0][:120]}")
    if rows == entry.rows:
        return None
    return Problem(path, f"holds {rows:,} rows, the manifest lists {entry.rows:,}")


def _damaged_blobs(layout: Layout) -> tuple[list[Problem], int]:
    """Blobs that are damaged, and how many could not be read without their key."""
    found, unread = [], 0
    for path in layout.blob_files():
        try:
            is_intact = is_intact_file(layout, path)
        except StoreKeyError:
            unread += 1
        else:
            if not is_intact:
                found.append(Problem(path, "the blob's bytes are not those that were written"))
    return found, unread


def _missing_blobs(layout: Layout, snapshot: Snapshot) -> list[Problem]:
    """Blobs that a row names and that are not there: observations and texts of messages."""
    events, messages = snapshot.unsealed_events, snapshot.unsealed_messages
    named = _named_blobs(layout, snapshot.event_files, events, "result_blob")
    named |= _named_blobs(layout, snapshot.message_files, messages, "text_blob")
    there = {path.name for path in layout.blob_files()}
    odd = [
        Problem(layout.blobs, f"a row names the blob {digest[:80]!r}, which is no digest")
        for digest in sorted(named)
        if not is_digest(digest)
    ]
    return odd + [
        Problem(layout.blob_file(digest), f"the blob {digest} is missing; a row names it")
        for digest in sorted(filter(is_digest, named))
        if there.isdisjoint(path.name for path in layout.blob_places(digest))
    ]


def _named_blobs(
    layout: Layout, files: Iterable[Path], unsealed: pa.Table, column: str
) -> set[str]:
    found = set(pc.unique(unsealed.column(column)).to_pylist())
    for path in files:
        try:
            rows = read_segment(layout, path, columns=[column])
        except DamagedError:
            continue  # damaged, which was found before
        if rows.num_columns:  # no such column before format 2
            found.update(pc.unique(rows.column(column)).to_pylist())
    return {digest for digest in found if digest is not None}
