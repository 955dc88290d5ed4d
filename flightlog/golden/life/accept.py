"""Accepts recordings of a golden task that is there: the only thing that changes one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from flightlog.analysis.wording import counted
from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.files import load_tools
from flightlog.golden.life.pending import golden_of, golden_of_run, leftovers, pending_files
from flightlog.golden.life.review import Review, review
from flightlog.golden.life.secrets import refuse_secrets, secrets_redactor
from flightlog.golden.pin import check_finished, check_same_task, declarations, widened
from flightlog.golden.recording_files import load_recording, recording_files
from flightlog.golden.task import TOOLS_FILE, GoldenTask
from flightlog.golden.writing import Plan, write_plans
from flightlog.redact.policy import Redaction
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Outcome, ServedHow, StopReason

_INVENTED: Final = frozenset({ServedHow.STUB, ServedHow.ERROR})
"""Answers that the recorded world never gave."""


class Mode(StrEnum):
    """What becomes of the recordings that are there."""

    ADD = "add"
    REPLACE = "replace"


@dataclass(frozen=True)
class Accepted:
    """What was accepted, or would be.

    Attributes:
        folder: of the golden task.
        reviews: what each run changes.
        removed: recordings that were replaced, by the names of their files.
        notes: doubts about the declarations.
    """

    folder: Path
    reviews: tuple[Review, ...]
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def sentence(self, *, dry_run: bool = False) -> str:
        """What was done, in one line."""
        done = "would accept" if dry_run else "accepted"
        replaced = f", in place of {', '.join(self.removed)}" if self.removed else ""
        return f"{done} {counted(len(self.reviews), 'recording')} in {self.folder}{replaced}"


def review_runs(
    goldens: Path, recordings: Sequence[Recording], *, tools: Mapping[str, Tool] | None = None
) -> list[Review]:
    """What runs would change in the golden tasks that they belong to; writes nothing.

    Args:
        goldens: folder of golden tasks.
        recordings: finished runs.
        tools: declarations; None reads those of the folder.

    Raises:
        UnknownNameError: a run of no golden task.
        GoldenError: an unfinished run, or a malformed file.
    """
    return [_review(goldens, recording, is_pending=False, tools=tools) for recording in recordings]


def review_pending(goldens: Path, *, folder: str | None = None) -> list[Review]:
    """What the pending recordings would change; writes nothing.

    Raises:
        GoldenError: a malformed file.
    """
    files = pending_files(goldens, folder=folder)
    return [_review(goldens, load_recording(path), is_pending=True) for path in files]


def accept(
    goldens: Path,
    task: str,
    recordings: Sequence[Recording] | None = None,
    *,
    mode: Mode = Mode.ADD,
    redaction: Redaction | None = None,
    dry_run: bool = False,
) -> Accepted:
    """Makes runs accepted recordings of a golden task: all of them or none.

    Args:
        goldens: folder of golden tasks.
        task: its id, or the name of its folder.
        recordings: finished runs of it; None takes those that are pending.
        mode: whether the recordings that are there stay.
        redaction: what a recording may not hold; None is the default of a recorder.
        dry_run: only say what would change.

    Raises:
        UnknownNameError: no such task.
        GoldenError: a run that is unfinished, of another task, a recording already, holds a
            secret or an observation that was made up.
        NothingToCompareError: no run was given and none is pending.
    """
    folder, golden = golden_of(goldens, task)
    waiting = pending_files(goldens, folder=folder.name) if recordings is None else []
    runs = [load_recording(path) for path in waiting] if recordings is None else list(recordings)
    if not runs:
        raise NothingToCompareError(
            f"no recording of {task!r} is pending",
            where=str(goldens),
            hint="Give a run: flightlog golden accept TASK --run RUN --store STORE",
        )
    files = recording_files(folder)
    old = [load_recording(path) for path in files]
    _check(runs, golden, old if mode is Mode.ADD else [], redaction)
    tools, notes = _declared(goldens, runs)
    rules = Rules(tools.values())
    cassette = Cassette(old, rules)
    reviews = tuple(
        review(golden, cassette, run, folder=folder.name, is_pending=bool(waiting)) for run in runs
    )
    removed = tuple(int(path.stem) for path in files) if mode is Mode.REPLACE else ()
    reasons = [run.stopped.stop_reason or StopReason.OK for run in runs if run.stopped]
    contract = widened(golden, runs, reasons, is_new=False)
    plan = Plan(folder.name, contract, old, new=runs, removed=removed)
    if not dry_run:
        write_plans(goldens, [plan], tools, also_removed=leftovers(goldens, waiting))
    return Accepted(folder, reviews, tuple(f"{number}.jsonl" for number in removed), tuple(notes))


def _review(
    goldens: Path,
    run: Recording,
    *,
    is_pending: bool,
    tools: Mapping[str, Tool] | None = None,
) -> Review:
    started = check_finished(run)
    folder, golden = golden_of_run(goldens, started.suite, started.task_id or "")
    old = [load_recording(path) for path in recording_files(folder)]
    declared = tools or _declared(goldens, [run])[0]
    cassette = Cassette(old, Rules(declared.values()))
    return review(golden, cassette, run, folder=folder.name, is_pending=is_pending)


def _check(
    runs: Sequence[Recording],
    golden: GoldenTask,
    old: Sequence[Recording],
    redaction: Redaction | None,
) -> None:
    redactor = secrets_redactor(redaction, os.environ)
    known = {one.run_id for one in old}
    for run in runs:
        where = f"run {run.run_id}"
        started = check_finished(run)
        if (started.suite, started.task_id) != golden.key:
            raise GoldenError(
                f"it is a run of task {started.task_id!r}, not of {golden.task.task_id!r}",
                where=where,
                hint=f"flightlog golden accept {started.task_id!r}",
            )
        check_same_task(run, golden)
        if run.run_id in known:
            raise GoldenError(
                "it is a recording of the task already", where=where, hint="Nothing to accept."
            )
        known.add(run.run_id)
        _check_observations(run, where=where)
        refuse_secrets(run, redactor)


def _check_observations(run: Recording, *, where: str) -> None:
    for call in run.tool_calls:
        if call.outcome is Outcome.REPLAY_MISS:
            raise GoldenError(
                f"it missed {call.tool_name!r} at step {call.step}, so its answer is unknown",
                where=where,
                hint="Record a live run that makes this call, and accept that one.",
            )
        if call.served_how in _INVENTED:
            raise GoldenError(
                f"the answer of {call.tool_name!r} at step {call.step} was made up "
                f"({call.served_how})",
                where=where,
                hint="Record a live run, and accept that one.",
            )


def _declared(goldens: Path, runs: Sequence[Recording]) -> tuple[dict[str, Tool], list[str]]:
    path = goldens / TOOLS_FILE
    existing = load_tools(path) if path.exists() else {}
    tools, notes = declarations(runs, {}, existing)
    called = {c.tool_name for run in runs for c in run.tool_calls if not c.outcome.is_refusal}
    for name in sorted(called - set(tools)):
        tools[name] = Tool(name)
    return tools, notes
