"""Removes recordings that no trial was served from, after a full green replay and only then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from flightlog.analysis.db import Traces
from flightlog.analysis.wording import counted
from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.entries import GoldenEntry, load_suite
from flightlog.golden.life.contracts import CONTRACT, contract_text
from flightlog.golden.life.quarantine import in_force, load_quarantine
from flightlog.golden.life.rejudge import rejudge
from flightlog.golden.recording_files import blob_names, recording_files
from flightlog.golden.task import BLOBS_FOLDER
from flightlog.golden.writing import change_files
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.recordings import read_recordings
from flightlog.trace.events import Evaluation

_NEWEST: Final = """
    SELECT session_id FROM runs
    WHERE origin = 'replay' AND golden IS NOT NULL AND session_id IS NOT NULL
    ORDER BY run_id DESC LIMIT 1
"""
_RUNS: Final = """
    SELECT run_id FROM runs
    WHERE origin = 'replay' AND golden IS NOT NULL AND session_id = ?
    ORDER BY run_id
"""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        goldens: the folder.
        session_id: the replay that it was judged by.
        trials: how many replayed trials there were.
        removed: files relative to the folder.
        kept: recordings that stay.
    """

    goldens: Path
    session_id: str
    trials: int
    removed: tuple[Path, ...]
    kept: int

    def lines(self, *, dry_run: bool = False) -> list[str]:
        """Every path, and the sum."""
        done = "would remove" if dry_run else "removed"
        told = [f"{done} {self.goldens / path}" for path in self.removed]
        total = f"{done} {counted(len(self.removed), 'file')}"
        stay = f"{counted(self.kept, 'recording')} stay"
        trials = counted(self.trials, "green trial")
        return [*told, f"{total}, {stay}; session {self.session_id}, {trials}"]


def prune(
    goldens: Path,
    store: Path,
    *,
    today: date,
    session_id: str | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Removes the recordings that no trial of a replay was served from, and blobs of none.

    A recording stays where a trial would not pass without it, and one always stays.

    Args:
        goldens: folder of golden tasks.
        store: where the replay was recorded.
        today: golden tasks that are in quarantine on that day are left alone.
        session_id: of the replay; None takes the newest.
        dry_run: only say what would be removed.

    Raises:
        NothingToCompareError: the store has no such replay.
        GoldenError: the replay left a golden task out, was not green, or the golden tasks
            changed since.
    """
    entries = load_suite(goldens)
    left_out = in_force(load_quarantine(goldens), today)
    session, runs = _replayed(store, session_id)
    by_golden: defaultdict[str, list[Recording]] = defaultdict(list)
    for run in runs:
        by_golden[(run.started.golden if run.started else None) or ""].append(run)
    removed: list[Path] = []
    kept: list[Path] = []
    for entry in entries:
        files = recording_files(entry.folder)
        needed = set(files)
        if entry.name not in left_out:
            _check_green(entry, by_golden.get(entry.name, ()), session)
            needed = _needed(entry, files, by_golden[entry.name])
        kept += [file for file in files if file in needed]
        removed += [file.relative_to(goldens) for file in files if file not in needed]
    removed += _orphans(goldens, kept)
    if removed and not dry_run:
        change_files(goldens, {}, removed=removed)
    return Pruned(goldens, session, len(runs), tuple(removed), len(kept))


def _replayed(store: Path, session_id: str | None) -> tuple[str, list[Recording]]:
    with Traces(store) as traces:
        newest = traces.sql(_NEWEST).fetchall()
        session = session_id or (str(newest[0][0]) if newest else "")
        run_ids = [row[0] for row in traces.sql(_RUNS, [session]).fetchall()]
    if not run_ids:
        raise NothingToCompareError(
            f"no replay of session {session!r}" if session else "the store holds no replay",
            where=str(store),
            hint="Replay the whole suite first: flightlog replay GOLDENS --agent MODULE:FUNCTION",
        )
    return session, read_recordings(Store.open(store), run_ids)


def _check_green(entry: GoldenEntry, runs: Sequence[Recording], session: str) -> None:
    where, hint = f"session {session}", "Replay the whole suite again, then prune."
    if not runs:
        what = f"golden {entry.name} was not replayed, so nobody knows what it needs"
        raise GoldenError(what, where=where, hint=hint)
    now = contract_text(entry.golden, entry.recordings)
    for run in runs:
        judged = _evaluations(run)
        success = judged.get("success")
        if success is None or success.passed is not True:
            why = success.detail if success else "it was not judged"
            raise GoldenError(
                f"golden {entry.name} is not green: {why}",
                where=f"{where}, run {run.run_id}",
                hint="Prune only after a replay in which every trial passes.",
            )
        contract = judged.get(CONTRACT)
        if contract is None or contract.detail != now:
            what = f"golden {entry.name} changed since it was replayed"
            raise GoldenError(what, where=f"{where}, run {run.run_id}", hint=hint)


def _evaluations(run: Recording) -> Mapping[str, Evaluation]:
    return {event.name: event for event in run.events if isinstance(event, Evaluation)}


def _needed(entry: GoldenEntry, files: Sequence[Path], runs: Sequence[Recording]) -> set[Path]:
    """The recordings that trials were served from, and those without which one would not pass."""
    by_run = dict(zip((one.run_id for one in entry.recordings), files, strict=True))
    served = {call.served_from for run in runs for call in run.tool_calls}
    needed = [one for one in entry.recordings if one.run_id in served]
    others = [one for one in reversed(entry.recordings) if one.run_id not in served]
    for run in runs:
        while others and not _passes(entry, needed, run):
            needed.append(others.pop(0))
    return {by_run[one.run_id] for one in needed}


def _passes(entry: GoldenEntry, recordings: Sequence[Recording], run: Recording) -> bool:
    if not recordings:
        return False
    cassette = Cassette(recordings, entry.cassette.rules)
    return rejudge(entry.golden, cassette, run).passed is True


def _orphans(goldens: Path, kept: Sequence[Path]) -> list[Path]:
    """Blobs that no recording names any more."""
    named = {digest for file in kept for digest in blob_names(file)}
    blobs = sorted((goldens / BLOBS_FOLDER).glob("*"))
    return [blob.relative_to(goldens) for blob in blobs if blob.name not in named]
