"""Erasing the payloads of some runs, step by step, so that it can be gone on with after a crash.

What `flightlog.recorder.life.erase` begins, every sealing goes on with until it is done.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.control.control import Control
from flightlog.errors import FlightlogError
from flightlog.recorder.layout import MISFIT_SUFFIX, Layout, Problem
from flightlog.recorder.life.pending import Pending, end_pending, pending_removals, save_pending
from flightlog.recorder.life.removal import remove_replaced, remove_unfinished_blobs
from flightlog.recorder.life.removing import (
    Changed,
    Removal,
    Survey,
    change_rows,
    remove_unneeded_blobs,
    require_sound,
    surveyed,
)
from flightlog.recorder.life.rewriting import Edited
from flightlog.recorder.life.skeleton import ERASED, erased_rows
from flightlog.recorder.manifest import StoreState, store_state
from flightlog.recorder.quarantine import read_aside
from flightlog.recorder.segment_rows import EVENTS, live_entries, row_pieces, schema_of
from flightlog.recorder.unsealed import journal_rows, open_runs

READERS_WAIT_S: Final = 10.0
"""How long an erasure waits for readers; then it removes the old files under them."""

_NAMES: Final = ("data_subject", "conversation_id", "tenant")
_LINKS: Final = ("parent_run_id", "served_from")
_FOUND_BY: Final = ("kind", "run_id", *_NAMES, *_LINKS)
_SIGNS: Final = ".,;:()'\""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased so far.

    Attributes:
        pending: the record as it is now; `journals` are those of living writers that hold such
            runs: they are done when these are sealed.
        runs: those of the runs that lost a payload now, also ones that they started or that
            replay them.
        events: rows that lost their payload now.
        changed: what was done to the segments.
        quarantined: damaged pieces of journals that were removed.
    """

    pending: Pending
    runs: frozenset[str]
    events: int
    changed: Changed
    quarantined: int


def erase_now(layout: Layout, pending: Pending) -> Erased:
    """Erases all that is sealed. The caller holds the sealing lock.

    Living writers are waited for where they held such runs when it was asked for; what they
    record later of other runs of the same name is not.

    Args:
        layout: the store.
        pending: the record; `finish_erasure` removes it when the old files are gone.

    Raises:
        DamagedError: a segment or a manifest is damaged; the erasure stays pending.
        StoreError: the shared state cannot be used; the same.
        OSError: the disk is full or fails; the same.
    """
    state = store_state(layout)
    require_sound(state)
    runs = runs_to_erase(layout, state, pending, with_journals=not pending.is_begun)
    waiting = journals_with(layout, runs)
    mask = ErasureMask(runs)
    survey = surveyed(layout, state, mask)
    held = {*pending.held, *survey.journals, *waiting}
    pending = msgspec.structs.replace(
        pending,
        run_ids=tuple(sorted(runs)),
        journals=tuple(waiting),
        held=tuple(sorted(held)),
        is_begun=True,
    )
    removal = Removal(survey, mask.edit, runs, held, _detail(survey, pending))
    changed, pending = change_rows(layout, state, removal, pending)
    remove_unfinished_blobs(layout)
    remove_unneeded_blobs(layout, store_state(layout), pending)
    quarantined = remove_quarantined(layout, held, runs)
    _forget_approvals(layout, runs)
    save_pending(layout, pending)
    return Erased(pending, frozenset(survey.runs), survey.rows, changed, quarantined)


def finish_erasure(layout: Layout, pending: Pending) -> None:
    """Ends an erasure, or lets it wait for living writers. The caller holds the sealing lock.

    Its old files are gone by now.
    """
    if pending.journals:
        save_pending(layout, msgspec.structs.replace(pending, is_applied=True))
    else:
        end_pending(layout, pending)


def go_on(layout: Layout) -> list[Problem]:
    """Finishes what can be finished of all removals that were begun; what could not be, and why.

    The caller holds the sealing lock.
    """
    problems = []
    try:
        removals = pending_removals(layout)
    except FlightlogError as error:
        return [Problem(layout.pending, error.what)]
    for pending in removals:
        journals = map(layout.journal_file, pending.journals)
        if pending.is_applied and all(path.exists() for path in journals):
            continue  # nothing of it was sealed since
        try:
            if pending.why == "erase":
                done = erase_now(layout, pending)
                age_s = time.time() - pending.at_us / 1e6
                if not remove_replaced(layout, anyway=age_s > READERS_WAIT_S):
                    finish_erasure(layout, done.pending)
            else:
                remove_unneeded_blobs(layout, store_state(layout), pending)
                end_pending(layout, pending)
        except (FlightlogError, OSError, pa.ArrowException) as error:
            what = error.what if isinstance(error, FlightlogError) else str(error)
            path = layout.pending / f"{pending.id}.json"
            problems.append(Problem(path, f"the removal is not finished: {what}"))
    return problems


def _detail(survey: Survey, pending: Pending) -> str:
    reason = f": {pending.reason}" if pending.reason else ""
    return f"payloads of {survey.rows} events of {len(survey.runs)} runs{reason}"


def runs_to_erase(
    layout: Layout, state: StoreState, pending: Pending, *, with_journals: bool
) -> set[str]:
    """The runs that an erasure is about, with those they started and those that replay them.

    Args:
        layout: the store.
        state: of its manifests.
        pending: names or lists the runs.
        with_journals: look for names in journals that are not sealed too.
    """
    found, links = set(pending.run_ids), _Links()
    for entry in live_entries(layout, EVENTS, state):
        path = layout.root / entry.path
        for piece in row_pieces(layout, path, schema_of(EVENTS), columns=_FOUND_BY):
            found |= links.add(piece, pending)
    for path in layout.journal_files():
        for events, _ in journal_rows(path):
            named = links.add(events, pending)
            found |= named if with_journals else set()
    return links.closed_over(found)


@dataclass(slots=True)
class _Links:
    """Which runs follow from which."""

    _followers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def add(self, rows: pa.Table, pending: Pending) -> set[str]:
        """Takes note of some events; gives those of their runs that the erasure names."""
        for name in _LINKS:
            linked = rows.filter(pc.is_valid(rows.column(name)))
            if linked.num_rows:
                pairs = linked.group_by([name, "run_id"], use_threads=False).aggregate([])
                for pair in pairs.to_pylist():
                    self._followers[pair[name]].add(pair["run_id"])
        named: set[str] = set()
        for column in {column for column, _ in pending.names}:
            there = rows.filter(pc.is_valid(rows.column(column)))
            values = pc.unique(there.column(column)).to_pylist()
            wanted = [value for value in values if self._is_named(pending, column, value)]
            if wanted:
                is_named = pc.is_in(there.column(column), value_set=pa.array(wanted, pa.string()))
                named.update(there.filter(is_named).column("run_id").to_pylist())
        return named - {""}

    def _is_named(self, pending: Pending, column: str, value: str) -> bool:
        key = (column, value)
        if key not in self._known:
            self._known[key] = pending.names_value(column, value)
        return self._known[key]

    def closed_over(self, runs: set[str]) -> set[str]:
        found, todo = set(runs), list(runs)
        while todo:
            new = self._followers[todo.pop()] - found - {""}
            found |= new
            todo += new
        return found


def journals_with(layout: Layout, runs: set[str]) -> list[str]:
    """The unsealed journals that hold events of these runs, or go on with one."""
    wanted = pa.array(sorted(runs), pa.string())
    return [
        path.stem
        for path in layout.journal_files()
        if runs.intersection(open_runs(path))
        or any(
            pc.any(pc.is_in(events.column("run_id"), value_set=wanted)).as_py()
            for events, _ in journal_rows(path)
        )
    ]


class ErasureMask:
    """Which rows an erasure is about: those of its runs, and what commands recorded of them.

    Args:
        runs: ids of the runs.
    """

    def __init__(self, runs: set[str]) -> None:
        self._runs = runs
        self._array = pa.array(sorted(runs), pa.string())
        self._spaced = [run_id for run_id in runs if len(run_id.split()) != 1]

    def __call__(self, rows: pa.Table, _journal_id: str) -> Any:
        run_ids = rows.column("run_id").combine_chunks()
        is_of_a_run = pc.is_in(run_ids, value_set=self._array)
        concerned = pc.or_(is_of_a_run, self._is_about(rows, run_ids))
        withheld = pc.fill_null(rows.column("withheld").combine_chunks(), "")
        return pc.and_(concerned, pc.not_equal(withheld, ERASED))

    def edit(self, rows: pa.Table, journal_id: str) -> Edited:
        """The rows without the payloads."""
        return Edited(erased_rows(rows, self(rows, journal_id)))

    def _is_about(self, rows: pa.Table, run_ids: pa.Array) -> Any:
        """Rows of no run whose text names one of the runs."""
        places = pc.indices_nonzero(pc.equal(run_ids, "")).to_pylist()
        details = rows.column("detail").filter(pc.equal(run_ids, "")).to_pylist()
        about = [False] * rows.num_rows
        for place, detail in zip(places, details, strict=True):
            about[place] = detail is not None and self._names_one(detail)
        return pa.array(about, pa.bool_())

    def _names_one(self, text: str) -> bool:
        words = {word.strip(_SIGNS) for word in text.split()}
        return bool(words & self._runs) or any(run_id in text for run_id in self._spaced)


def remove_quarantined(layout: Layout, journals: set[str], texts: set[str]) -> int:
    """Removes the damaged pieces of some journals, and those that hold one of the texts."""
    needles = [text.encode("utf-8", "surrogatepass") for text in texts if text]
    doomed = [
        path
        for path in sorted(layout.quarantine.glob("*"))
        if path.is_file() and (_journal_of(path.name) in journals or _holds(layout, path, needles))
    ]
    for path in doomed:
        layout.disk.unlink(path)
    if doomed:
        layout.disk.sync_folder(layout.quarantine)
    return len(doomed)


def _journal_of(name: str) -> str:
    """The journal that a piece is of: <journal>.misfits or <journal>-<place>.<suffix>."""
    stem, _, suffix = name.rpartition(".")
    return stem if f".{suffix}" == MISFIT_SUFFIX else stem.rpartition("-")[0]


def _holds(layout: Layout, path: Path, needles: Iterable[bytes]) -> bool:
    content = read_aside(layout, path)
    return any(needle in content for needle in needles)


def _forget_approvals(layout: Layout, runs: set[str]) -> None:
    control = Control.at(layout.root)
    try:
        if runs and control.state.exists:
            control.approvals.forget(runs)
    finally:
        control.close()
