"""Retention: runs that are older than wanted, or more than there is room for, are removed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.errors import UsageError
from flightlog.recorder.chain import commitments_of
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.life.erasing import go_on
from flightlog.recorder.life.pending import end_pending, new_pending
from flightlog.recorder.life.pins import Pin, pins_of
from flightlog.recorder.life.removal import checkpoint_if_many, wait_and_remove_replaced
from flightlog.recorder.life.removing import (
    Removal,
    change_rows,
    remove_unneeded_blobs,
    require_sound,
    surveyed,
)
from flightlog.recorder.life.rewriting import Edited
from flightlog.recorder.life.skeleton import has_chain
from flightlog.recorder.manifest import StoreState, sealing_lock, store_state
from flightlog.recorder.seal import seal_journals
from flightlog.recorder.segment_rows import EVENTS, live_entries, part_rows, schema_of
from flightlog.recorder.store import Store
from flightlog.recorder.unsealed import journal_rows, open_runs

_READERS_WAIT_S: Final = 1.0
_MOST_ROUNDS: Final = 20
_COLUMNS: Final = ("run_id", "at")


@dataclass(frozen=True, slots=True)
class RetainReport:
    """What a retention removed, or would remove.

    Attributes:
        runs: whole runs.
        events: their events, and those of no run that are as old.
        bytes: by which the store shrank; estimated in a dry run.
        left_bytes: what the store holds now.
        waiting: old files that somebody still reads; the next compact or seal removes them.
        pinned: runs that would have been removed but for a golden.
        pins: pins that are recorded in the store, by their files.
        problems: other removals that could not be finished.
    """

    runs: int = 0
    events: int = 0
    bytes: int = 0
    left_bytes: int = 0
    waiting: int = 0
    pinned: int = 0
    pins: tuple[tuple[Path, Pin], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(slots=True)
class _Run:
    """One run of which all events are sealed.

    Attributes:
        last_us: time of its newest event, or of its newest journal where that is later.
        bytes: its share of the store, estimated.
    """

    last_us: int
    rows: int
    bytes: float


@dataclass(slots=True)
class _Runs:
    """The runs of a store."""

    by_id: dict[str, _Run] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)
    pinned: set[str] = field(default_factory=set)


def retain(
    store: Store,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    pinned: Collection[str] = (),
    is_dry_run: bool = False,
    now_us: int | None = None,
) -> RetainReport:
    """Removes whole runs, with the messages and blobs that only they needed.

    A run is as old as its newest event, or as the newest journal that holds some of it
    where that is younger: neither a clock that was wrong nor an import of old traces makes
    it old. Never removed are runs of living processes and runs that a golden pins.

    Args:
        store: the store; journals of dead writers are sealed first.
        older_than_s: remove what is older, in seconds.
        max_bytes: remove the oldest runs until the store is no larger.
        pinned: runs that goldens hold, beside those that are recorded in the store.
        is_dry_run: only tell what would be removed.
        now_us: the time, microseconds since the epoch; None takes the clock's.

    Raises:
        UsageError: no limit was given.
        DamagedError: a segment or manifest is damaged; nothing is removed then.
        StoreError: the store cannot be written to.
        OSError: the disk is full or fails; do it again.
    """
    if older_than_s is None and max_bytes is None:
        raise UsageError(
            "no limit was given", hint="Give --older-than 30d, --max-bytes 10GB or both."
        )
    layout = for_writing(store.layout)
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    cutoff_us = None if older_than_s is None else now_us - round(older_than_s * 1e6)
    pins = pins_of(layout)
    held = {pin.run_id for pin in pins.values()} | set(pinned)
    with sealing_lock(layout):
        problems: list[Problem] = []
        if not is_dry_run:
            seal_journals(layout)
            layout.disk.sync_folder(layout.journals)  # a sealed one must not come back
            problems = go_on(layout)
        require_sound(store_state(layout))
        done = _retained(layout, held, cutoff_us, max_bytes, is_dry_run=is_dry_run)
        if not is_dry_run:
            checkpoint_if_many(layout)
    waiting = 0 if is_dry_run else wait_and_remove_replaced(layout, wait_s=_READERS_WAIT_S)
    return RetainReport(
        done.runs,
        done.events,
        done.bytes,
        done.left_bytes,
        waiting,
        done.pinned,
        tuple(pins.items()),
        tuple(problems),
    )


def _retained(
    layout: Layout,
    held: set[str],
    cutoff_us: int | None,
    max_bytes: int | None,
    *,
    is_dry_run: bool,
) -> RetainReport:
    """Removes by age once, then by size until it is reached or nothing is left to remove."""
    runs_gone, events, size_before = 0, 0, live_bytes(layout)
    pinned: set[str] = set()
    size, goal, age_us = size_before, max_bytes, cutoff_us
    for _ in range(_MOST_ROUNDS):
        state = store_state(layout)
        runs = _runs_of(layout, state, held)
        chosen, newest_us = _chosen(runs, age_us, None if goal is None else size - goal)
        pinned |= runs.pinned
        if not chosen and newest_us is None:
            break
        if is_dry_run:
            freed = round(sum(runs.by_id[one].bytes for one in chosen))
            rows = sum(runs.by_id[one].rows for one in chosen)
            return RetainReport(
                len(chosen), rows, freed, max(0, size - freed), pinned=len(runs.pinned)
            )
        gone = _remove(layout, state, chosen, newest_us)
        runs_gone += len(chosen)
        events += gone
        size, age_us = live_bytes(layout), None
        if goal is None or size <= goal:
            break
    return RetainReport(runs_gone, events, max(0, size_before - size), size, pinned=len(pinned))


def _runs_of(layout: Layout, state: StoreState, held: set[str]) -> _Runs:
    """All runs with sealed events, and which of them must stay."""
    runs = _Runs(pinned=held)
    for path in layout.journal_files():
        runs.living.update(open_runs(path))
        for events, _ in journal_rows(path):
            runs.living.update(pc.unique(events.column("run_id")).to_pylist())
    total = 0
    for entry in live_entries(layout, EVENTS, state):
        total += entry.bytes
        share = entry.bytes / max(1, entry.rows)
        for part, pieces in part_rows(layout, entry, schema_of(EVENTS), columns=_COLUMNS):
            recorded_us = journal_us(part.journal_id)
            for piece in pieces:
                _add(runs, piece, recorded_us, share)
    # Messages and blobs are taken to be shared out as the events are.
    scale = live_bytes(layout) / total if total else 1.0
    for run in runs.by_id.values():
        run.bytes *= scale
    return runs


def _add(runs: _Runs, rows: pa.Table, recorded_us: int, share: float) -> None:
    facts = pa.table({"run_id": rows.column("run_id"), "at": rows.column("at").cast(pa.int64())})
    found = facts.group_by("run_id", use_threads=False).aggregate(
        [("at", "max"), ([], "count_all")]
    )
    for row in found.to_pylist():
        last_us = max(recorded_us, row["at_max"] or 0)
        run = runs.by_id.setdefault(row["run_id"], _Run(last_us, 0, 0.0))
        run.last_us = max(run.last_us, last_us)
        run.rows += row["count_all"]
        run.bytes += row["count_all"] * share


def journal_us(journal_id: str) -> int:
    """When a journal was begun, microseconds since the epoch; 0 where its id does not tell."""
    try:
        parsed = uuid.UUID(journal_id)
    except ValueError:
        return 0
    return (parsed.int >> 80) * 1000 if parsed.version == 7 else 0


def _chosen(runs: _Runs, cutoff_us: int | None, excess: int | None) -> tuple[list[str], int | None]:
    """The runs to remove, oldest first, and up to when events of no run go; None for none."""
    by_age = sorted((run.last_us, run_id) for run_id, run in runs.by_id.items() if run_id)
    chosen: list[str] = []
    until_us = cutoff_us
    kept_by_pin = set[str]()
    freed = 0.0
    for last_us, run_id in by_age:
        is_old = cutoff_us is not None and last_us < cutoff_us
        if not is_old and (excess is None or freed >= excess):
            break
        if run_id in runs.living:
            continue
        if run_id in runs.pinned:
            kept_by_pin.add(run_id)
            continue
        chosen.append(run_id)
        freed += runs.by_id[run_id].bytes
        until_us = max(until_us or 0, last_us)
    runs.pinned = kept_by_pin
    return chosen, until_us


class _Mask:
    """Which rows go: those of some runs, and those of no run up to some time.

    Attributes:
        whole_journals: journals of which all rows go, and of which nothing is kept therefore.
    """

    def __init__(self, run_ids: Iterable[str], until_us: int | None) -> None:
        self._run_ids = pa.array(sorted(run_ids), pa.string())
        self._until_us = until_us
        self.whole_journals: set[str] = set()

    def __call__(self, rows: pa.Table, journal_id: str) -> Any:
        run_ids = rows.column("run_id").combine_chunks()
        is_out = pc.is_in(run_ids, value_set=self._run_ids)
        if self._until_us is None:
            return is_out
        recorded_us = pa.scalar(journal_us(journal_id), pa.int64())
        at = pc.fill_null(rows.column("at").combine_chunks().cast(pa.int64()), 0)
        is_old = pc.less(pc.max_element_wise(at, recorded_us), self._until_us)
        return pc.or_(is_out, pc.and_(pc.equal(run_ids, ""), is_old))

    def edit(self, rows: pa.Table, journal_id: str) -> Edited:
        """The rows that stay, and the commitments of the others."""
        if journal_id in self.whole_journals:
            return Edited(rows.slice(0, 0))
        mask = self(rows, journal_id)
        chained = pc.and_(mask, has_chain(rows))
        places = pc.indices_nonzero(chained).to_pylist()
        gone = zip(places, commitments_of(rows.filter(chained)), strict=True)
        return Edited(rows.filter(pc.invert(mask)), list(gone))


def _remove(
    layout: Layout, state: StoreState, run_ids: Collection[str], until_us: int | None
) -> int:
    mask = _Mask(run_ids, until_us)
    survey = surveyed(layout, state, mask)
    if not survey.rows:
        return 0
    mask.whole_journals = survey.whole_journals
    detail = f"{len(run_ids)} runs with {survey.rows} events"
    removal = Removal(survey, mask.edit, run_ids, survey.whole_journals, detail)
    _, pending = change_rows(layout, state, removal, new_pending("retain"))
    remove_unneeded_blobs(layout, store_state(layout), pending)
    end_pending(layout, pending)
    return survey.rows


def live_bytes(layout: Layout) -> int:
    """What counts in a store: live segments, blobs, journals and what was put aside."""
    replaced = store_state(layout).replaced
    segments = [
        path
        for folder in (layout.events, layout.messages)
        for path in folder.glob("date=*/*")
        if path.relative_to(layout.root).with_suffix(".parquet").as_posix() not in replaced
    ]
    others = [
        path
        for folder in (layout.blobs, layout.journals, layout.quarantine)
        for path in folder.rglob("*")
    ]
    return sum(path.stat().st_size for path in (*segments, *others) if path.is_file())
