"""Recordings that wait to be accepted: `.pending/<task>/<n>.jsonl`, never served from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flightlog.errors import UnknownNameError
from flightlog.golden.life.secrets import refuse_secrets, secrets_redactor
from flightlog.golden.pin import check_finished, check_same_task
from flightlog.golden.recording_files import (
    RECORDING_SUFFIX,
    blob_names,
    load_recording,
    recording_files,
    recording_lines,
)
from flightlog.golden.task import BLOBS_FOLDER, GoldenTask, load_task, task_files
from flightlog.golden.writing import change_files
from flightlog.redact.policy import Redaction
from flightlog.replay.cassette import Recording

PENDING_FOLDER: Final = ".pending"


def propose(
    goldens: Path, recordings: Sequence[Recording], *, redaction: Redaction | None = None
) -> list[Path]:
    """Puts runs of golden tasks among the pending recordings; runs that wait there stay.

    Args:
        goldens: folder of golden tasks.
        recordings: finished runs of tasks that are golden already.
        redaction: what a recording may not hold; None is the default of a recorder.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        UnknownNameError: a run of no golden task.
        GoldenError: an unfinished run, one of another version of the task, or a secret.
    """
    redactor = secrets_redactor(redaction, os.environ)
    put: dict[Path, str] = {}
    taken: dict[str, int] = {}
    for recording in recordings:
        started = check_finished(recording)
        folder, golden = golden_of_run(goldens, started.suite, started.task_id or "")
        check_same_task(recording, golden)
        refuse_secrets(recording, redactor)
        waiting = recording_files(goldens / PENDING_FOLDER / folder.name)
        if any(load_recording(file).run_id == recording.run_id for file in waiting):
            continue
        last = taken.get(folder.name) or max((int(path.stem) for path in waiting), default=0)
        taken[folder.name] = last + 1
        lines, blobs = recording_lines(recording)
        place = Path(PENDING_FOLDER)
        put.update({place / BLOBS_FOLDER / digest: text for digest, text in blobs.items()})
        put[place / folder.name / f"{last + 1}{RECORDING_SUFFIX}"] = "\n".join(lines) + "\n"
    if put:
        change_files(goldens, put)
    return [path for path in put if path.suffix == RECORDING_SUFFIX]


def pending_files(goldens: Path, *, folder: str | None = None) -> list[Path]:
    """The recordings that wait, oldest first within each task.

    Args:
        goldens: folder of golden tasks.
        folder: only those of this task.
    """
    root = goldens / PENDING_FOLDER
    folders = [root / folder] if folder else sorted(p for p in root.glob("*") if p.is_dir())
    return [file for one in folders for file in recording_files(one)]


def leftovers(goldens: Path, accepted: Sequence[Path]) -> list[Path]:
    """What goes with pending files that are no more pending: they and blobs of no other.

    Args:
        goldens: folder of golden tasks.
        accepted: pending files.

    Returns:
        Files relative to the folder.
    """
    root = goldens / PENDING_FOLDER
    others = [path for path in pending_files(goldens) if path not in accepted]
    kept = {digest for path in others for digest in blob_names(path)}
    blobs = [path for path in (root / BLOBS_FOLDER).glob("*") if path.name not in kept]
    return [path.relative_to(goldens) for path in [*accepted, *blobs]]


def golden_of(goldens: Path, name: str) -> tuple[Path, GoldenTask]:
    """The folder and contract of a task, by its id or the name of its folder.

    Raises:
        UnknownNameError: no such task, or several of that id.
    """
    found = [(path.parent, load_task(path)) for path in task_files(goldens)]
    mine = [one for one in found if name in (one[0].name, one[1].task.task_id)]
    exact = [one for one in mine if one[0].name == name]
    if len(exact or mine) > 1:
        names = ", ".join(folder.name for folder, _ in mine)
        raise UnknownNameError(
            f"several golden tasks are called {name!r}",
            where=str(goldens),
            hint=f"Name the folder: {names}",
        )
    if not mine:
        known = [golden.task.task_id for _, golden in found]
        raise UnknownNameError.of("golden task", name, known, where=str(goldens))
    return (exact or mine)[0]


def golden_of_run(goldens: Path, suite: str | None, task_id: str) -> tuple[Path, GoldenTask]:
    """The folder and contract of the golden task that a run belongs to.

    Raises:
        UnknownNameError: its task is not golden.
    """
    found = [(path.parent, load_task(path)) for path in task_files(goldens)]
    for one in found:
        if one[1].key == (suite, task_id):
            return one
    raise UnknownNameError.of(
        "golden task",
        task_id,
        [golden.task.task_id for _, golden in found],
        where=str(goldens),
        hint="A task that is not golden yet is pinned: flightlog golden pin RUN",
    )
