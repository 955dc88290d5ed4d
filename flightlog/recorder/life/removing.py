"""What erasing and retention share: rows go or say less, and what they alone needed goes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.errors import DamagedError
from flightlog.recorder.layout import Layout, is_digest
from flightlog.recorder.life.dropped import dropped_file
from flightlog.recorder.life.needs import (
    EVENT_BLOB,
    MESSAGE_BLOB,
    MESSAGE_COLUMNS,
    needed_blobs,
    needed_messages,
    texts_in,
    unsealed_blobs,
)
from flightlog.recorder.life.pending import Pending, save_pending
from flightlog.recorder.life.removal import remove_blobs
from flightlog.recorder.life.rewriting import Edit, Edited, rewritten
from flightlog.recorder.manifest import SegmentEntry, StoreState, add_manifest
from flightlog.recorder.segment_rows import (
    EVENTS,
    MESSAGES,
    live_entries,
    part_rows,
    row_pieces,
    schema_of,
)

Mask = Callable[[pa.Table, str], Any]
"""Tells of some rows of a journal which are concerned, as an array of booleans without nulls."""

SURVEYED: Final = ("run_id", "kind", "at", "detail", "withheld", EVENT_BLOB, *MESSAGE_COLUMNS)
"""Columns that a `Mask` may look at."""


@dataclass(slots=True)
class Survey:
    """Which rows are concerned.

    Attributes:
        rows: how many.
        runs: whose they are; a row of no run does not count.
        segments: those that hold them.
        emptied: those of the segments that hold no other rows.
        journals: those whose rows they are.
        whole_journals: those of them that have no other rows.
        messages: digests of messages that they refer to.
        blobs: digests of blobs that they name.
    """

    rows: int = 0
    runs: set[str] = field(default_factory=set)
    segments: list[SegmentEntry] = field(default_factory=list)
    emptied: set[str] = field(default_factory=set)
    journals: set[str] = field(default_factory=set)
    whole_journals: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)


def surveyed(layout: Layout, state: StoreState, mask: Mask) -> Survey:
    """Finds the rows that a mask is true for.

    Raises:
        DamagedError: a segment cannot be read.
    """
    found, others_in = Survey(), set[str]()
    for entry in live_entries(layout, EVENTS, state):
        rows = others = 0
        for part, pieces in part_rows(layout, entry, schema_of(EVENTS), columns=SURVEYED):
            of_part = others_of_part = 0
            for piece in pieces:
                concerned = piece.filter(mask(piece, part.journal_id))
                of_part += concerned.num_rows
                others_of_part += piece.num_rows - concerned.num_rows
                if concerned.num_rows:
                    found.messages |= texts_in(concerned, MESSAGE_COLUMNS)
                    found.blobs |= texts_in(concerned, [EVENT_BLOB])
                    found.runs |= texts_in(concerned, ["run_id"]) - {""}
            if of_part:
                found.journals.add(part.journal_id)
            if others_of_part:
                others_in.add(part.journal_id)
            rows += of_part
            others += others_of_part
        if rows:
            found.rows += rows
            found.segments.append(entry)
            if not others:
                found.emptied.add(entry.path)
    found.whole_journals = found.journals - others_in
    return found


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be done with the rows of a survey.

    Attributes:
        survey: the rows.
        edit: what becomes of the events; None drops the emptied segments and is for no others.
        run_ids: runs whose references to messages no longer count.
        journals: whose messages are not needed for the journal's own sake.
        detail: for the manifest.
    """

    survey: Survey
    edit: Edit
    run_ids: Collection[str]
    journals: Collection[str]
    detail: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done.

    Attributes:
        segments: segments that were replaced.
        messages: messages that were removed.
        bytes: by which the segments shrank.
    """

    segments: int = 0
    messages: int = 0
    bytes: int = 0


def change_rows(
    layout: Layout, state: StoreState, removal: Removal, pending: Pending
) -> tuple[Changed, Pending]:
    """Replaces segments, in one change of the store.

    Args:
        layout: the store; the caller holds its sealing lock.
        state: of its manifests.
        removal: what to do.
        pending: its record, which is saved with the blobs that may go.

    Raises:
        DamagedError: a segment is not as it was written; nothing is changed then.
        OSError: the disk is full or fails; the same.
    """
    survey = removal.survey
    doomed, messages = _doomed_messages(layout, state, removal)
    blobs = {*pending.blobs, *survey.blobs, *doomed.blobs}
    pending = msgspec.structs.replace(pending, blobs=tuple(sorted(blobs)))
    save_pending(layout, pending)
    old = [*survey.segments, *messages]
    if not old:
        return Changed(), pending
    number = state.number + 1
    new = [
        rewritten(layout, [entry], removal.edit, number=number)
        for entry in survey.segments
        if not (pending.why == "retain" and entry.path in survey.emptied)
    ]
    new += [rewritten(layout, [entry], doomed.edit, number=number) for entry in messages]
    made = [entry for entry in new if entry is not None]
    add_manifest(
        layout,
        made,
        replaced=[entry.path for entry in old],
        why=pending.why,
        detail=removal.detail,
    )
    shrunk = sum(_size(layout, entry) for entry in old) - sum(_size(layout, one) for one in made)
    return Changed(len(old), doomed.rows, shrunk), pending


def _size(layout: Layout, entry: SegmentEntry) -> int:
    beside = dropped_file(layout, entry).stat().st_size if entry.dropped_sha256 else 0
    return entry.bytes + beside


@dataclass(slots=True)
class _Doomed:
    """Messages that nobody needs any more."""

    digests: pa.Array
    rows: int = 0
    blobs: set[str] = field(default_factory=set)

    def mask(self, rows: pa.Table) -> Any:
        return pc.is_in(rows.column("digest"), value_set=self.digests)

    def edit(self, rows: pa.Table, _journal_id: str) -> Edited:
        return Edited(rows.filter(pc.invert(self.mask(rows))))


def _doomed_messages(
    layout: Layout, state: StoreState, removal: Removal
) -> tuple[_Doomed, list[SegmentEntry]]:
    """The messages that may go, and the segments that hold them."""
    entries = live_entries(layout, MESSAGES, state)
    digests = set(removal.survey.messages)
    for entry in entries:
        if not removal.journals:
            break
        for part, pieces in part_rows(layout, entry, schema_of(MESSAGES), columns=["digest"]):
            if part.journal_id in removal.journals:
                for piece in pieces:
                    digests |= texts_in(piece, ["digest"])
    run_ids = pa.array(sorted(removal.run_ids), pa.string())
    digests -= needed_messages(layout, state, digests, without=run_ids)
    doomed = _Doomed(pa.array(sorted(digests), pa.string()))
    concerned = []
    for entry in entries if digests else ():
        rows = 0
        for piece in row_pieces(
            layout,
            layout.root / entry.path,
            schema_of(MESSAGES),
            columns=["digest", MESSAGE_BLOB],
        ):
            found = piece.filter(doomed.mask(piece))
            rows += found.num_rows
            doomed.blobs |= texts_in(found, [MESSAGE_BLOB])
        if rows:
            doomed.rows += rows
            concerned.append(entry)
    return doomed, concerned


def remove_unneeded_blobs(layout: Layout, state: StoreState, pending: Pending) -> int:
    """Removes those of the record's blobs that nobody names; gives their bytes."""
    blobs = {digest for digest in pending.blobs if is_digest(digest)}
    if not blobs:
        return 0
    unneeded = blobs - needed_blobs(layout, state, blobs)
    return remove_blobs(layout, unneeded, lambda: unsealed_blobs(layout))


def require_sound(state: StoreState) -> None:
    """Refuses to remove anything from a store whose manifests are damaged.

    Raises:
        DamagedError: they are.
    """
    if state.problems:
        raise DamagedError(
            f"the manifests are damaged: {state.problems[0].what}",
            where=str(state.problems[0].path),
            hint="Restore them from a copy of the store; flightlog verify lists everything.",
        )
