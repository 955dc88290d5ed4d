"""The contract of a golden task: `task.yaml`, and the folder that a task lives in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flightlog.errors import GoldenError
from flightlog.golden.judging.reading import judge_rules_of, plain_rules
from flightlog.golden.judging.rules import WRITES_ACCEPTED, WRITES_IGNORE, JudgeRules
from flightlog.golden.yaml_files import Fields, dump_yaml, read_yaml
from flightlog.runtime.budget import Budget
from flightlog.runtime.task import Task
from flightlog.trace.canonical import clean_text, digest_of
from flightlog.trace.versions import GOLDEN_VERSION, check_format

__all__ = [
    "BLOBS_FOLDER",
    "TASK_FILE",
    "TOOLS_FILE",
    "WRITES_ACCEPTED",
    "WRITES_IGNORE",
    "GoldenTask",
    "JudgeRules",
    "folder_name",
    "load_task",
    "save_task",
    "task_files",
]

TASK_FILE: Final = "task.yaml"
TOOLS_FILE: Final = "tools.yaml"
BLOBS_FOLDER: Final = "blobs"
_TAKEN_NAMES: Final = frozenset({BLOBS_FOLDER, TOOLS_FILE})
_LIMITS: Final = tuple(Budget().limits())
_SAFE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")
_MAX_NAME_CHARS: Final = 64
_DIGEST_CHARS: Final = 8


@dataclass(frozen=True)
class GoldenTask:
    """One golden task as `task.yaml` states it.

    Attributes:
        task: what the agent is run on; its digest is the recorded one.
        tools: names of the tools that the recorded agent had.
        judge: what passes.
        budgets: limits that a passing run keeps; by name, absent is no limit.
    """

    task: Task
    tools: tuple[str, ...] = ()
    judge: JudgeRules = field(default_factory=JudgeRules)
    budgets: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str | None, str]:
        """Suite and task id, which together name a task."""
        return (self.task.suite, self.task.task_id)


def save_task(golden: GoldenTask, path: Path) -> None:
    """Writes `task.yaml`.

    Raises:
        GoldenError: the task holds a value that YAML cannot carry.
    """
    path.write_text(dump_yaml(_as_plain(golden), where=str(path)), encoding="utf-8")


def load_task(path: Path) -> GoldenTask:
    """The contract in a `task.yaml`.

    Raises:
        GoldenError: missing, not YAML, an unknown key, or a value of the wrong form.
        NewerFormatError: a newer flightlog wrote it.
    """
    value, lines = read_yaml(path)
    fields = Fields(value, lines, path)
    fields.allow_only(
        "format", "task_id", "suite", "prompt", "inputs", "digest", "tools", "judge", "budgets"
    )
    version = fields.get("format")
    if type(version) is not int:
        raise fields.wrong("format", f"the number {GOLDEN_VERSION}")
    check_format(version, where=fields.where("format"), newest=GOLDEN_VERSION)
    task_id = fields.text("task_id")
    if not task_id:
        raise fields.wrong("task_id", "the id of the task, in quotes")
    task = Task(
        task_id=task_id,
        prompt=fields.text("prompt") or "",
        suite=fields.text("suite"),
        inputs=fields.mapping("inputs"),
        content_digest=fields.text("digest"),
    )
    return GoldenTask(
        task=task,
        tools=fields.texts("tools"),
        judge=judge_rules_of(fields.fields("judge")),
        budgets=_budgets_of(fields.fields("budgets")),
    )


def _budgets_of(fields: Fields) -> dict[str, float]:
    fields.allow_only(*_LIMITS)
    found: dict[str, float] = {}
    for name in _LIMITS:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise fields.wrong(name, "a number from 0 up")
        found[name] = value
    return found


def _as_plain(golden: GoldenTask) -> dict[str, object]:
    plain: dict[str, object] = {
        "format": GOLDEN_VERSION,
        "task_id": golden.task.task_id,
        "suite": golden.task.suite,
        "prompt": golden.task.prompt,
        "inputs": dict(golden.task.inputs),
        "digest": golden.task.content_digest,
        "tools": list(golden.tools),
        "judge": plain_rules(golden.judge),
        "budgets": dict(golden.budgets),
    }
    return {name: value for name, value in plain.items() if value not in (None, {}, [])}


def folder_name(task_id: str, *, suite: str | None = None, is_unique: bool = True) -> str:
    """A folder name for a task: its id where that is a safe name, else a slug and a digest.

    Args:
        task_id: any text; it never becomes a path.
        suite: part of the digest.
        is_unique: False when another suite's task already has the plain name.
    """
    is_safe = _SAFE_NAME.fullmatch(task_id) and len(task_id) <= _MAX_NAME_CHARS
    if is_safe and is_unique and task_id not in _TAKEN_NAMES:
        return task_id
    slug = re.sub(r"[^a-z0-9]+", "-", clean_text(task_id).lower()).strip("-")
    digest = digest_of("golden", suite or "", task_id)[:_DIGEST_CHARS]
    return f"{slug[: _MAX_NAME_CHARS - _DIGEST_CHARS - 1].strip('-') or 'task'}-{digest}"


def task_files(goldens: Path) -> list[Path]:
    """The `task.yaml` of every golden task in a folder, in order of their folders.

    Raises:
        GoldenError: the folder is missing or holds no golden task.
    """
    if not goldens.is_dir():
        raise GoldenError(
            "no such folder of golden tasks",
            where=str(goldens),
            hint="Pin runs first: flightlog golden pin RUN --store STORE --goldens GOLDENS",
        )
    found = sorted(goldens.glob(f"*/{TASK_FILE}"), key=_natural)
    if not found:
        raise GoldenError(
            "the folder holds no golden task (no */task.yaml)",
            where=str(goldens),
            hint="Pin runs first: flightlog golden pin RUN --store STORE --goldens GOLDENS",
        )
    return found


def _natural(path: Path) -> list[Any]:
    parts = re.split(r"(\d+)", path.parent.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part]
