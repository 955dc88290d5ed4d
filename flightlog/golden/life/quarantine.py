"""Golden tasks that are left out for a stated reason, until a stated day: `quarantine.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.life.comments import comments_of, with_comments
from flightlog.golden.life.pending import golden_of
from flightlog.golden.task import task_files
from flightlog.golden.writing import change_files
from flightlog.golden.yaml_files import Fields, dump_yaml, read_yaml

QUARANTINE_FILE: Final = "quarantine.yaml"
_ROOT: Final = "quarantine"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """One golden task in quarantine.

    Attributes:
        folder: name of its folder.
        reason: why.
        until: the last day on which it is left out.
        where: file and line.
    """

    folder: str
    reason: str
    until: date
    where: str

    def is_over(self, today: date) -> bool:
        """True from the day after `until`."""
        return today > self.until


def load_quarantine(goldens: Path) -> dict[str, Quarantine]:
    """The golden tasks in quarantine, by the names of their folders; empty without a file.

    Raises:
        GoldenError: malformed, no reason, or no day in the form 2026-12-31.
    """
    path = goldens / QUARANTINE_FILE
    if not path.exists():
        return {}
    value, lines = read_yaml(path)
    top = Fields(value, lines, path)
    top.allow_only(_ROOT)
    tasks = top.fields(_ROOT)
    found: dict[str, Quarantine] = {}
    for name in top.mapping(_ROOT):
        one = tasks.fields(name)
        one.allow_only("reason", "until")
        reason = one.text("reason")
        if not reason or not reason.strip():
            raise one.wrong("reason", "why the task is left out")
        found[name] = Quarantine(name, reason, _day(one), tasks.where(name))
    return found


def in_force(quarantine: Mapping[str, Quarantine], today: date) -> dict[str, Quarantine]:
    """Those that are not over."""
    return {name: one for name, one in quarantine.items() if not one.is_over(today)}


def left_out(goldens: Path, today: date) -> dict[str, Quarantine]:
    """The golden tasks that are left out today, by the names of their folders.

    Raises:
        NothingToCompareError: all of them are.
        GoldenError: the file is malformed, or the folder is missing or empty.
    """
    found = in_force(load_quarantine(goldens), today)
    if all(path.parent.name in found for path in task_files(goldens)):
        raise NothingToCompareError(
            "every golden task is in quarantine",
            where=str(goldens / QUARANTINE_FILE),
            hint="Lift one: flightlog golden quarantine TASK --lift",
        )
    return found


def put_in_quarantine(goldens: Path, task: str, *, reason: str, until: date, today: date) -> Path:
    """Leaves a golden task out until a day; says its folder.

    Raises:
        UnknownNameError: no such task.
        GoldenError: no reason, or a day that is over.
    """
    folder, _ = golden_of(goldens, task)
    if not reason.strip():
        raise GoldenError("the quarantine has no reason", hint="Say why the task is left out.")
    if today > until:
        raise GoldenError(f"the day {until} is over", hint="Give a day from today on.")
    kept = load_quarantine(goldens)
    path = goldens / QUARANTINE_FILE
    _write(goldens, {**kept, folder.name: Quarantine(folder.name, reason, until, str(path))})
    return folder


def lift_quarantine(goldens: Path, task: str) -> Path:
    """Takes a golden task out of quarantine; says its folder.

    Raises:
        UnknownNameError: no such task.
        GoldenError: it is not in quarantine.
    """
    folder, _ = golden_of(goldens, task)
    kept = load_quarantine(goldens)
    if folder.name not in kept:
        raise GoldenError(f"{task!r} is not in quarantine", where=str(goldens / QUARANTINE_FILE))
    del kept[folder.name]
    _write(goldens, kept)
    return folder


def _write(goldens: Path, quarantine: Mapping[str, Quarantine]) -> None:
    path = goldens / QUARANTINE_FILE
    if not quarantine:
        change_files(goldens, {}, removed=[Path(QUARANTINE_FILE)])
        return
    plain = {
        name: {"reason": one.reason, "until": one.until.isoformat()}
        for name, one in sorted(quarantine.items())
    }
    text = dump_yaml({_ROOT: plain}, where=str(path))
    if path.exists():
        text = with_comments(text, comments_of(path.read_text(encoding="utf-8")))
    change_files(goldens, {Path(QUARANTINE_FILE): text})


def _day(fields: Fields) -> date:
    try:
        return date.fromisoformat(fields.text("until") or "")
    except ValueError as error:
        raise fields.wrong("until", 'a day in quotes, such as "2026-12-31"') from error
