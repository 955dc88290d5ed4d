"""What is wrong with a folder of golden tasks; looking never writes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from flightlog.errors import ExitCode, StaleGoldenError
from flightlog.golden.entries import GoldenEntry, load_suite
from flightlog.golden.files import load_fixture, parse_toolset
from flightlog.golden.life.pending import pending_files
from flightlog.golden.life.quarantine import Quarantine, load_quarantine
from flightlog.golden.recording_files import recording_files
from flightlog.golden.task import task_files
from flightlog.replay.cassette import Recording
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import canonical_json

FIXTURE_LABEL: Final = "fixture"
"""Label of a run that names the state of the world that it began in."""
_SCHEMAS: Final = ("input_schema", "output_schema")


class Fault(StrEnum):
    """What can be wrong with a golden task."""

    UNUSED = "unused"
    MISSING = "missing"
    STALE = "stale"
    PENDING = "pending"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class GoldenFinding:
    """One thing that is wrong.

    Attributes:
        fault: of which kind.
        golden: name of the folder.
        what: what is wrong, one sentence.
        hint: what to do.
        is_quarantined: it does not fail the check.
    """

    fault: Fault
    golden: str
    what: str
    hint: str
    is_quarantined: bool = False

    def __str__(self) -> str:
        return f"{self.fault} golden {self.golden}: {self.what}. {self.hint}"


@dataclass(frozen=True)
class GoldenHealth:
    """The state of a folder of golden tasks.

    Attributes:
        goldens: the folder.
        tasks: how many golden tasks it holds.
        findings: what is wrong.
        quarantined: what is left out, with its reason.
    """

    goldens: Path
    tasks: int
    findings: tuple[GoldenFinding, ...]
    quarantined: tuple[Quarantine, ...] = ()

    @property
    def exit_code(self) -> int:
        """3 when a finding is not in quarantine, else 0."""
        is_bad = any(not one.is_quarantined for one in self.findings)
        return int(ExitCode.STALE if is_bad else ExitCode.OK)

    def lines(self) -> list[str]:
        """The state as text, what fails first."""
        bad = [str(one) for one in self.findings if not one.is_quarantined]
        kept = [
            f"quarantined golden {one.folder}: until {one.until}, since {one.reason}"
            for one in self.quarantined
        ]
        return [*bad, *kept]


def check_goldens(
    goldens: Path, *, today: date, replayed: Collection[str] | None = None
) -> GoldenHealth:
    """Looks for golden tasks that are unused, missing, stale, pending, or too long in quarantine.

    Args:
        goldens: folder of golden tasks.
        today: against which a quarantine is held.
        replayed: the goldens that the candidate's runs were replayed from; None leaves out
            what is unused and missing.

    Raises:
        GoldenError: the folder is missing or empty, or a file in it is malformed.
    """
    names = [path.parent.name for path in task_files(goldens)]
    quarantine = load_quarantine(goldens)
    left_out = {n for n, one in quarantine.items() if n in names and not one.is_over(today)}
    findings = [
        *_missing(goldens, names, quarantine, replayed),
        *_unused(names, replayed),
        *_stale(goldens, {n for n in names if recording_files(goldens / n)}),
        *_pending(goldens),
        *_expired(quarantine, names, today),
    ]
    return GoldenHealth(
        goldens,
        len(names),
        tuple(
            GoldenFinding(f.fault, f.golden, f.what, f.hint, f.golden in left_out) for f in findings
        ),
        tuple(one for name, one in quarantine.items() if name in left_out),
    )


def _missing(
    goldens: Path,
    names: Sequence[str],
    quarantine: Mapping[str, Quarantine],
    replayed: Collection[str] | None,
) -> list[GoldenFinding]:
    found = [
        GoldenFinding(
            Fault.MISSING,
            name,
            "it has no recording",
            f"Accept one: flightlog golden accept {name} --run RUN --goldens {goldens}",
        )
        for name in names
        if not recording_files(goldens / name)
    ]
    what = "the candidate was replayed from it, and the folder does not hold it"
    hint = "Restore it from version control, or replay the candidate again."
    found += [
        GoldenFinding(Fault.MISSING, name, what, hint)
        for name in sorted(set(replayed or ()) - set(names))
    ]
    return found + [
        GoldenFinding(
            Fault.MISSING, name, f"{one.where} names it, and there is none", "Remove the entry."
        )
        for name, one in quarantine.items()
        if name not in names
    ]


def _unused(names: Sequence[str], replayed: Collection[str] | None) -> list[GoldenFinding]:
    if replayed is None:
        return []
    hint = "Replay it: flightlog replay GOLDENS --agent MODULE:FUNCTION, or remove its folder."
    what = "no run of the candidate was replayed from it"
    return [GoldenFinding(Fault.UNUSED, n, what, hint) for n in names if n not in replayed]


def _stale(goldens: Path, names: Collection[str]) -> list[GoldenFinding]:
    if not names:
        return []
    try:
        entries = load_suite(goldens)
    except StaleGoldenError as error:
        name = next((n for n in names if f"{goldens / n}" in error.where), error.where)
        if "no recording" in error.what:
            return []
        return [GoldenFinding(Fault.STALE, name, error.what, error.hint)]
    fixture = load_fixture(goldens)
    return [finding for entry in entries for finding in _stale_entry(entry, fixture)]


def _stale_entry(entry: GoldenEntry, fixture: str | None) -> list[GoldenFinding]:
    found: dict[str, GoldenFinding] = {}
    tools = {tool.name: tool for tool in entry.tools}
    for recording in entry.recordings:
        recorded = _fixture_of(recording)
        if fixture is not None and recorded is not None and recorded != fixture:
            what = (
                f"run {recording.run_id} began in fixture {recorded!r}, tools.yaml has {fixture!r}"
            )
            hint = "Record the task on the new fixture and accept it with --replace."
            found["fixture"] = GoldenFinding(Fault.STALE, entry.name, what, hint)
        for name, schema in changed_schemas(recording, tools):
            what = f"the {schema} of tool {name!r} is not the one of run {recording.run_id}"
            hint = f"Record the task anew: flightlog golden accept {entry.name} --replace"
            found[f"{name}.{schema}"] = GoldenFinding(Fault.STALE, entry.name, what, hint)
    return list(found.values())


def changed_schemas(recording: Recording, tools: Mapping[str, Tool]) -> list[tuple[str, str]]:
    """Tool and schema of the called tools whose schema is declared otherwise than recorded.

    A schema that one side does not state is no change.
    """
    started = recording.started
    message = recording.messages.get(started.toolset_digest or "") if started else None
    if message is None:
        return []
    recorded = parse_toolset(message.text, where=f"run {recording.run_id}")
    called = {call.tool_name for call in recording.tool_calls}
    return [
        (name, schema.replace("_", " "))
        for name in sorted(called & set(recorded) & set(tools))
        for schema in _SCHEMAS
        if _differ(getattr(recorded[name], schema, None), getattr(tools[name], schema, None))
    ]


def _differ(one: Any, other: Any) -> bool:
    if not one or not other:
        return False
    return canonical_json(json.loads(json.dumps(one))) != canonical_json(
        json.loads(json.dumps(other))
    )


def _fixture_of(recording: Recording) -> str | None:
    labels = recording.started.labels if recording.started else ()
    return next((label.value for label in labels if label.key == FIXTURE_LABEL), None)


def _pending(goldens: Path) -> list[GoldenFinding]:
    waiting: dict[str, int] = {}
    for path in pending_files(goldens):
        waiting[path.parent.name] = waiting.get(path.parent.name, 0) + 1
    return [
        GoldenFinding(
            Fault.PENDING,
            name,
            f"{count} recordings wait to be accepted" if count > 1 else "a recording waits",
            f"Look and decide: flightlog golden review; flightlog golden accept {name}",
        )
        for name, count in waiting.items()
    ]


def _expired(
    quarantine: Mapping[str, Quarantine], names: Sequence[str], today: date
) -> list[GoldenFinding]:
    return [
        GoldenFinding(
            Fault.EXPIRED,
            name,
            f"its quarantine ended on {one.until} ({one.reason})",
            f"Mend it and lift it: flightlog golden quarantine {name} --lift",
        )
        for name, one in quarantine.items()
        if one.is_over(today) and name in names
    ]
