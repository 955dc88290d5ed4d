"""Writes golden tasks into their folder: all of them or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flightlog.errors import GoldenError
from flightlog.golden.files import load_fixture, tools_text
from flightlog.golden.life.comments import Keys, comments_of, with_comments
from flightlog.golden.recording_files import RECORDING_SUFFIX, recording_files, recording_lines
from flightlog.golden.task import (
    BLOBS_FOLDER,
    TASK_FILE,
    TOOLS_FILE,
    GoldenTask,
    load_task,
    save_task,
)
from flightlog.replay.cassette import Recording
from flightlog.runtime.tools import Tool


@dataclass
class Plan:
    """One golden task to be written.

    Attributes:
        folder: name of its folder.
        golden: its contract.
        old: recordings that are there.
        new: recordings to be added.
        kept: runs to be pinned that are there.
        evidence: comments for a new contract; in one that is there the old comments stay.
        removed: recordings to be removed, by the number of their file.
    """

    folder: str
    golden: GoldenTask
    old: list[Recording]
    new: list[Recording] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    evidence: Mapping[Keys, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[int, ...] = ()


def write_plans(
    goldens: Path,
    plans: Sequence[Plan],
    tools: Mapping[str, Tool],
    *,
    also_removed: Sequence[Path] = (),
) -> None:
    """Writes everything aside first and then moves it in, so that a failure leaves no trace.

    Args:
        goldens: folder of golden tasks; made when absent.
        plans: what to write.
        tools: all declarations.
        also_removed: further files to be removed, relative to the folder.

    Raises:
        GoldenError: it cannot be written; the folder is then as it was.
    """
    goldens.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{goldens.name}-", dir=goldens.parent))
    try:
        files = _written_aside(aside, goldens, plans, tools)
        if not goldens.exists():
            aside.chmod(0o755)
            aside.rename(goldens)
            return
        removed = [
            Path(plan.folder, f"{number}{RECORDING_SUFFIX}")
            for plan in plans
            for number in plan.removed
            if Path(plan.folder, f"{number}{RECORDING_SUFFIX}") not in files
        ]
        _move_in(aside, goldens, files, [*removed, *also_removed])
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _written_aside(
    aside: Path, goldens: Path, plans: Sequence[Plan], tools: Mapping[str, Tool]
) -> list[Path]:
    files: list[Path] = []

    def put(relative: Path, content: str) -> None:
        path = aside / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="\n")
        files.append(relative)

    for plan in plans:
        if not plan.new:
            continue
        taken = {int(path.stem) for path in recording_files(goldens / plan.folder)}
        taken -= {*plan.removed}
        for number, recording in enumerate(plan.new, max(taken, default=0) + 1):
            lines, blobs = recording_lines(recording)
            for digest, text in blobs.items():
                put(Path(BLOBS_FOLDER, digest), text)
            put(Path(plan.folder, f"{number}{RECORDING_SUFFIX}"), "\n".join(lines) + "\n")
        contract = Path(plan.folder, TASK_FILE)
        if _write_contract(plan, aside / contract, goldens / contract):
            files.append(contract)
    text = tools_text(tools, where=str(goldens / TOOLS_FILE), fixture=load_fixture(goldens))
    put(Path(TOOLS_FILE), text)
    return sorted(dict.fromkeys(files), key=_order_of)


def _write_contract(plan: Plan, path: Path, old: Path) -> bool:
    """Writes it with its comments; False where it is as it was, so that nothing in it moves."""
    comments = plan.evidence
    if old.exists():
        if load_task(old) == plan.golden:
            return False
        comments = comments_of(old.read_text(encoding="utf-8"))
    path.parent.mkdir(exist_ok=True)
    save_task(plan.golden, path)
    if comments:
        text = with_comments(path.read_text(encoding="utf-8"), comments)
        path.write_text(text, encoding="utf-8", newline="\n")
    return True


def _order_of(relative: Path) -> tuple[int, Path]:
    """What others refer to first, and the contract, which makes a task visible, last."""
    is_blob, is_recording = BLOBS_FOLDER in relative.parts[:-1], relative.suffix == RECORDING_SUFFIX
    rank = 0 if is_blob else 1 if relative.name == TOOLS_FILE else 2 if is_recording else 3
    return (rank, relative)


def change_files(goldens: Path, put: Mapping[Path, str], *, removed: Sequence[Path] = ()) -> None:
    """Writes and removes files of a golden folder: all of them or none.

    Args:
        goldens: the folder; it is there.
        put: contents by path, relative to the folder.
        removed: relative to the folder.

    Raises:
        GoldenError: one cannot be changed; the folder is then as it was.
    """
    aside = Path(tempfile.mkdtemp(prefix=f".{goldens.name}-", dir=goldens.parent))
    try:
        for relative, content in put.items():
            path = aside / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
        _move_in(aside, goldens, sorted(put, key=_order_of), removed)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move_in(
    aside: Path, goldens: Path, files: Sequence[Path], removed: Iterable[Path] = ()
) -> None:
    """Replaces, adds or removes each file; puts the old ones back when one cannot be moved."""
    saved = aside / ".old"
    done: list[Path] = []
    try:
        for relative in files:
            target = goldens / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                (saved / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(target, saved / relative)
            done.append(relative)
            os.replace(aside / relative, target)  # noqa: PTH105  (its name says what it does)
        for relative in removed:
            (saved / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(goldens / relative, saved / relative)
            done.append(relative)
            (goldens / relative).unlink()
    except OSError as error:
        for relative in done:
            old, target = saved / relative, goldens / relative
            if old.exists():
                shutil.copy2(old, target)
            else:
                target.unlink(missing_ok=True)
        raise GoldenError(
            f"cannot write the golden tasks: {error.strerror or error}",
            where=str(goldens),
            hint="Give a folder that this user may write to.",
        ) from error
