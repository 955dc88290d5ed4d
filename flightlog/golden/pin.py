"""Pins recorded runs as golden tasks: the contract, the recordings, the declarations."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.files import load_tools, parse_toolset
from flightlog.golden.judging.rules import JudgeRules
from flightlog.golden.life.draft import draft
from flightlog.golden.life.probe import probe
from flightlog.golden.life.secrets import refuse_secrets, secrets_redactor
from flightlog.golden.pin_report import PinnedTask, PinReport
from flightlog.golden.recording_files import load_recording, problem_of_recording, recording_files
from flightlog.golden.task import (
    TASK_FILE,
    TOOLS_FILE,
    GoldenTask,
    folder_name,
    load_task,
)
from flightlog.golden.writing import Plan, write_plans
from flightlog.recorder.life.pins import add_pins
from flightlog.recorder.store import Store
from flightlog.recorder.verify import require_intact
from flightlog.redact.policy import Redaction
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.misses import FixtureFactory
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.budget import Budget
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.events import Evaluation, ModelCall, RunStarted
from flightlog.trace.vocab import Actor, Effect, Origin, StopReason

_LIMITS: Final = tuple(Budget().limits())
_Key = tuple[str | None, str]


def pin_runs(
    store: Store,
    run_ids: Sequence[str],
    goldens: Path,
    *,
    tools_file: Path | None = None,
    redaction: Redaction | None = None,
    apply_drafts: bool = False,
    only_new: bool = False,
    fixture: FixtureFactory | None = None,
) -> PinReport:
    """Makes golden tasks of recorded runs; runs of one task share its golden.

    Declarations come from `tools_file`, else from the golden folder's `tools.yaml`,
    else from what the run recorded of its tools. A failing pin changes nothing.

    Args:
        store: where the runs are.
        run_ids: finished runs; a run that is pinned already stays as it is.
        goldens: folder of golden tasks; made when absent.
        tools_file: declarations in the form of `tools.yaml`.
        redaction: what a recording may not hold; None is the default of a recorder.
        apply_drafts: puts what is only drafted in force: tools that no run asked for are
            forbidden, facts of the answer are required, unlimited budgets get limits.
        only_new: refuses a further run of a task that is golden already, which `accept` takes
            after a review.
        fixture: gives the tools' functions over a fresh initial state of the recorded world;
            it shows which scopes are unsound.

    Raises:
        DamagedError: a segment of the store has changed or is missing.
        UnknownNameError: a run that the store does not have.
        GoldenError: a run that is unfinished or of no task, that holds a secret, or a
            malformed file.
        NothingToCompareError: no run was given.
    """
    if not run_ids:
        raise NothingToCompareError("no run to pin", hint="Give at least one run id.")
    require_intact(store)
    recordings = read_recordings(store, run_ids)
    redactor = secrets_redactor(redaction, os.environ)
    for recording in recordings:
        check_finished(recording)
        refuse_secrets(recording, redactor)
    given = load_tools(tools_file) if tools_file else {}
    existing = load_tools(goldens / TOOLS_FILE) if (goldens / TOOLS_FILE).exists() else {}
    tools, notes = declarations(recordings, given, existing)
    plans = _plans(recordings, goldens, given)
    if only_new:
        _refuse_known(plans, goldens)
    called = {c.tool_name for r in recordings for c in r.tool_calls if not c.outcome.is_refusal}
    for name in sorted(called - set(tools)):
        tools[name] = Tool(name)
    rules = Rules(tools.values())
    for plan in plans:
        notes += _lint(plan, rules, fixture)
        if plan.new and not (goldens / plan.folder / TASK_FILE).exists():
            drafted = draft(plan.golden, plan.new, tools, apply=apply_drafts)
            plan.golden, plan.evidence = drafted.golden, drafted.evidence
    write_plans(goldens, plans, tools)
    notes += _remember(store, plans, goldens)
    unknown = sorted(n for n in called if tools[n].effect is Effect.UNKNOWN)
    pinned = tuple(
        PinnedTask(
            plan.folder,
            plan.golden.task.task_id,
            tuple(recording.run_id for recording in plan.new),
            tuple(plan.kept),
        )
        for plan in plans
    )
    declared = tuple(sorted(set(tools) - set(unknown)))
    return PinReport(goldens, pinned, tuple(unknown), tuple(notes), declared)


def _refuse_known(plans: Iterable[Plan], goldens: Path) -> None:
    for plan in plans:
        if plan.new and (goldens / plan.folder / TASK_FILE).exists():
            task_id, run_id = plan.golden.task.task_id, plan.new[0].run_id
            raise GoldenError(
                f"task {task_id!r} is golden already",
                where=f"run {run_id}",
                hint=f"Look at it with: flightlog golden review {run_id} --goldens {goldens}; then "
                f"take it in with: flightlog golden accept {plan.folder} --run {run_id} --goldens "
                f"{goldens}. Or let it wait: flightlog golden pin {run_id} --pending",
            )


def _remember(store: Store, plans: Iterable[Plan], goldens: Path) -> list[str]:
    """Tells the store which of its runs are pinned now; a note where that is impossible."""
    run_ids = [run for plan in plans for run in (*(one.run_id for one in plan.new), *plan.kept)]
    try:
        add_pins(store.layout, run_ids, goldens)
    except OSError as error:
        what = f"the store cannot be told of the pins ({error.strerror or error})"
        return [f"{what}: give --goldens {goldens} to flightlog retain, or it may remove the runs"]
    return []


def check_finished(recording: Recording) -> RunStarted:
    """The start of a whole run of a task.

    Raises:
        GoldenError: it names no task, is not over, or is not whole.
    """
    started, stopped = recording.started, recording.stopped
    where = f"run {recording.run_id}"
    if started is None or not started.task_id:
        raise GoldenError(
            "the run names no task, so it cannot be a golden task",
            where=where,
            hint="Record it with a task_id.",
        )
    if started.origin is Origin.FORK:
        raise GoldenError(
            "the run is a fork: a part of it was never met by the candidate",
            where=where,
            hint="Pin whole runs, live or imported.",
        )
    if stopped is None or stopped.stop_reason is StopReason.CRASHED:
        raise GoldenError(
            "the run is still going on" if stopped is None else "the run crashed",
            where=where,
            hint="Pin runs that came to an end.",
        )
    if problem := problem_of_recording(recording):
        raise GoldenError(problem, where=where, hint="Give each run an id of its own.")
    return started


def declarations(
    recordings: Iterable[Recording], given: Mapping[str, Tool], existing: Mapping[str, Tool]
) -> tuple[dict[str, Tool], list[str]]:
    """The declarations of all tools, and a note for each that is declared in two ways.

    Args:
        recordings: what they recorded of their tools counts least.
        given: declarations of a tools file; they count most.
        existing: those of the golden folder.
    """
    recorded: dict[str, Tool] = {}
    for recording in recordings:
        recorded.update(_toolset(recording))
    notes = [
        f"tool {name!r} is declared in {TOOLS_FILE} otherwise than its run declared it; "
        f"{TOOLS_FILE} holds"
        for name in sorted(existing.keys() & recorded.keys() - given.keys())
        if existing[name].declaration() != recorded[name].declaration()
        and recorded[name].effect is not Effect.UNKNOWN
    ]
    merged = {**recorded, **existing, **given}
    for name, tool in existing.items():
        better = recorded.get(name)
        if name not in given and tool.effect is Effect.UNKNOWN and better is not None:
            merged[name] = better
    return merged, notes


def _toolset(recording: Recording) -> dict[str, Tool]:
    started = recording.started
    message = recording.messages.get(started.toolset_digest or "") if started else None
    if message is None:
        return {}
    return parse_toolset(message.text, where=f"run {recording.run_id}")


def _plans(recordings: Sequence[Recording], goldens: Path, given: Mapping[str, Tool]) -> list[Plan]:
    existing = {path.parent.name: load_task(path) for path in goldens.glob(f"*/{TASK_FILE}")}
    folders: dict[_Key, str] = {golden.key: name for name, golden in existing.items()}
    by_key: defaultdict[_Key, list[Recording]] = defaultdict(list)
    for recording in recordings:
        started = check_finished(recording)
        by_key[(started.suite, started.task_id or "")].append(recording)
    plans: list[Plan] = []
    for key, runs in by_key.items():
        folder = folders.get(key) or _free_folder(key, set(folders.values()))
        folders[key] = folder
        old = [load_recording(path) for path in recording_files(goldens / folder)]
        golden = existing.get(folder) or _golden_of(runs[0], given)
        plan = Plan(folder, golden, old)
        known = {recording.run_id for recording in old}
        for run in runs:
            check_same_task(run, golden)
            if run.run_id in known:
                plan.kept.append(run.run_id)
            else:
                plan.new.append(run)
        reasons = [r.stopped.stop_reason or StopReason.OK for r in plan.new if r.stopped]
        plan.golden = widened(golden, plan.new, reasons, is_new=folder not in existing)
        plans.append(plan)
    return plans


def _free_folder(key: _Key, taken: set[str]) -> str:
    suite, task_id = key
    name = folder_name(task_id, suite=suite)
    return folder_name(task_id, suite=suite, is_unique=False) if name in taken else name


def check_same_task(recording: Recording, golden: GoldenTask) -> None:
    """Refuses a run of another version of the task.

    Raises:
        GoldenError: the digests of their contents differ.
    """
    started = check_finished(recording)
    if golden.task.content_digest and started.task_digest != golden.task.content_digest:
        raise GoldenError(
            f"its task {golden.task.task_id!r} has other content (digest {started.task_digest}) "
            f"than the golden task (digest {golden.task.content_digest})",
            where=f"run {recording.run_id}",
            hint="Pin it into another folder, or remove the golden task first.",
        )


def _golden_of(recording: Recording, given: Mapping[str, Tool]) -> GoldenTask:
    started = check_finished(recording)
    called = {call.tool_name for call in recording.tool_calls if not call.outcome.is_refusal}
    names = {*(_toolset(recording) or given), *called}
    task = task_of(recording)
    budgets = {n: limit for n in _LIMITS if (limit := getattr(started, n)) is not None}
    return GoldenTask(task, tuple(sorted(names)), JudgeRules(stop_reasons=()), budgets)


def task_of(recording: Recording) -> Task:
    """The task of a recorded run, as the runtime recorded it, else from its first prompt.

    Raises:
        GoldenError: the run names no task.
    """
    started = recording.started
    if started is None or not started.task_id:
        raise GoldenError(
            "the run names no task",
            where=f"run {recording.run_id}",
            hint="Record it with a task_id.",
        )
    content = _task_content(recording)
    return Task(
        task_id=started.task_id,
        prompt=content.get("prompt", _prompt_of(recording)),
        suite=started.suite,
        inputs=content.get("inputs", {}),
        content_digest=started.task_digest,
    )


def widened(
    golden: GoldenTask, new: Sequence[Recording], reasons: Sequence[StopReason], *, is_new: bool
) -> GoldenTask:
    """The contract with the ways to stop of further recordings, and their tools where it is new."""
    if not new:
        return golden
    accepted = tuple(dict.fromkeys((*golden.judge.stop_reasons, *reasons)))
    tools = golden.tools
    if is_new:
        called = {c.tool_name for r in new for c in r.tool_calls if not c.outcome.is_refusal}
        tools = tuple(sorted({*tools, *called}))
    return replace(golden, tools=tools, judge=replace(golden.judge, stop_reasons=accepted))


def _task_content(recording: Recording) -> dict[str, Any]:
    """What the runtime recorded of the task: prompt and inputs; empty for imported runs."""
    started = recording.started
    message = recording.messages.get(started.task_digest or "") if started else None
    if message is None or message.role != "task":
        return {}
    content = json.loads(message.text or "{}")
    return content if isinstance(content, dict) else {}


def _prompt_of(recording: Recording) -> str:
    """The first user message that no simulated user said; empty where one spoke first."""
    for event in recording.events:
        if isinstance(event, ModelCall):
            if event.actor is Actor.USER:
                return ""
            for digest in event.prompt_added:
                message = recording.messages.get(digest)
                if message is not None and message.role == "user":
                    return message.text or ""
            return ""
    return ""


def _lint(plan: Plan, rules: Rules, fixture: FixtureFactory | None) -> list[str]:
    cassette = Cassette([*plan.old, *plan.new], rules)
    task = plan.golden.task.task_id
    notes = [f"task {task!r}: {conflict}" for conflict in cassette.conflicts()]
    if cassette.racy_calls:
        racy = sorted({call.tool_name for call in cassette.racy_calls})
        notes.append(
            f"task {task!r}: {len(cassette.racy_calls)} calls ({', '.join(racy)}) raced a write in "
            "one step; their answers are never served"
        )
    if fixture is not None:
        doubts = probe(plan.folder, cassette, fixture)
        notes += [f"task {task!r}: {doubt.kind}: {doubt.what}" for doubt in doubts]
    failed = [r.run_id for r in plan.new if _success_of(r) is False]
    if failed:
        notes.append(
            f"task {task!r}: {len(failed)} pinned runs were judged unsuccessful ({failed[0]}); "
            "their writes count as accepted"
        )
    return notes


def _success_of(recording: Recording) -> bool | None:
    judged = [e for e in recording.events if isinstance(e, Evaluation) and e.name == "success"]
    return judged[-1].passed if judged else None
