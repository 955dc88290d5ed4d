"""The golden tasks of a folder, each with all that a replay needs of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flightlog.analysis.wording import counted
from flightlog.errors import (
    GoldenError,
    StaleGoldenError,
    UnknownNameError,
    nearest,
    nearest_text,
)
from flightlog.golden.files import load_tools
from flightlog.golden.judging.rules import JudgeRules
from flightlog.golden.recording_files import load_recording, recording_files
from flightlog.golden.task import TOOLS_FILE, GoldenTask, load_task, task_files
from flightlog.replay.cassette import Cassette, Recording, writes_of
from flightlog.replay.matching import Rules
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

_MISSPELT: Final = 0.85
"""Similarity from which an undeclared name is taken for a misspelt declared one."""


@dataclass(frozen=True)
class GoldenEntry:
    """One golden task of a suite with all that a replay needs of it.

    Attributes:
        golden: the contract.
        folder: where it stands.
        tools: its tools as declared, without functions.
        cassette: its recordings, indexed.
    """

    golden: GoldenTask
    folder: Path
    tools: tuple[Tool, ...]
    cassette: Cassette

    @property
    def name(self) -> str:
        """Name of its folder, unique in the suite."""
        return self.folder.name

    @property
    def task(self) -> Task:
        """What the agent is run on."""
        return self.golden.task

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The accepted recordings, oldest first."""
        return self.cassette.recordings

    def summary(self) -> str:
        """One line: task, recordings, writes, tools."""
        writes = {
            tuple(sorted((call.tool_name, call.args.digest) for call in writes_of(calls)))
            for calls in self.cassette.calls
        }
        sizes = sorted({len(accepted) for accepted in writes})
        counts = " or ".join([*map(str, sizes[:-1]), counted(sizes[-1], "write")])
        return (
            f"{self.task.task_id}: {counted(len(self.recordings), 'recording')}, "
            f"{counted(len(self.cassette), 'call')}, "
            f"{counted(len(writes), 'accepted set')} of writes ({counts}), "
            f"tools: {', '.join(tool.name for tool in self.tools) or 'none'}"
        )


def load_suite(
    goldens: Path, *, redactor: Redactor | None = None, without: Collection[str] = ()
) -> list[GoldenEntry]:
    """All golden tasks of a folder.

    Args:
        goldens: the folder.
        redactor: of the recorder that candidates are recorded with.
        without: names of folders that are not even looked into.

    Raises:
        GoldenError: the folder is missing or empty, or a file in it is malformed.
        StaleGoldenError: a task without recordings, with a tool that is not declared, or
            whose content is no longer what was recorded.
    """
    files = [path for path in task_files(goldens) if path.parent.name not in without]
    tools_path = goldens / TOOLS_FILE
    tools = load_tools(tools_path) if tools_path.exists() else {}
    rules = Rules(tools.values(), redactor=redactor)
    entries = [_entry(path, tools, rules) for path in files]
    _check_distinct(entries)
    return entries


def chosen(entries: list[GoldenEntry], tasks: Sequence[str] | None) -> list[GoldenEntry]:
    """The entries of some tasks, by task id or folder name; None is all of them.

    Raises:
        UnknownNameError: a task that is not there.
    """
    if tasks is None:
        return entries
    chosen: dict[str, GoldenEntry] = {}
    for name in tasks:
        found = [e for e in entries if name in (e.task.task_id, e.name)]
        if not found:
            known = [entry.task.task_id for entry in entries]
            raise UnknownNameError.of("golden task", name, known)
        chosen.update((entry.name, entry) for entry in found)
    return list(chosen.values())


def _entry(path: Path, tools: Mapping[str, Tool], rules: Rules) -> GoldenEntry:
    golden = load_task(path)
    for name in golden.tools:
        if name not in tools:
            declared_in = path.parent.parent / TOOLS_FILE
            raise StaleGoldenError(
                f"tool {name!r} of the golden task is not declared",
                where=str(path),
                hint=f"Declare it in {declared_in}; {nearest_text(name, tools)}.",
            )
    _check_named(golden.judge, tools, where=str(path))
    recordings = [load_recording(file) for file in recording_files(path.parent)]
    if not recordings:
        raise StaleGoldenError(
            "the golden task has no recording",
            where=str(path.parent),
            hint="Pin a run of it: flightlog golden pin RUN --store STORE --goldens GOLDENS",
        )
    _check_content(golden, recordings, where=str(path))
    declared = tuple(tools[name] for name in golden.tools)
    return GoldenEntry(golden, path.parent, declared, Cassette(recordings, rules))


def _check_distinct(entries: Sequence[GoldenEntry]) -> None:
    """Refuses a copied folder: its runs would count as more trials of the same task."""
    first: dict[tuple[str | None, str], GoldenEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.golden.key, entry)
        if other is not entry:
            raise GoldenError(
                f"task {entry.task.task_id!r} has two golden tasks: {other.name} and {entry.name}",
                where=str(entry.folder),
                hint="Remove one, or give one another task_id.",
            )


def _check_content(golden: GoldenTask, recordings: Sequence[Recording], *, where: str) -> None:
    """Refuses an edited task under its old digest, by which its runs would still be paired."""
    digest = golden.task.content_digest or ""
    messages = (recording.messages.get(digest) for recording in recordings)
    is_ours = any(message is not None and message.role == "task" for message in messages)
    if is_ours and replace(golden.task, content_digest=None).digest != digest:
        raise StaleGoldenError(
            "task_id, suite, prompt or inputs differ from what was recorded under this digest",
            where=where,
            hint="Restore it, or remove the digest: the task then counts as a new one.",
        )


def _check_named(judge: JudgeRules, tools: Mapping[str, Tool], *, where: str) -> None:
    """Refuses a misspelt name, which would forbid nothing; a tool that nobody has is fine."""
    for key, name in judge.named_tools():
        near = [] if name in tools else nearest(name, tools, cutoff=_MISSPELT)
        if near:
            raise GoldenError(
                f"judge.{key} names {name!r}, which is not declared",
                where=where,
                hint=f"nearest: {', '.join(near)}. If it is another tool, declare it in "
                f"{TOOLS_FILE}.",
            )
