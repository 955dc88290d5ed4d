"""Replays a folder of golden tasks on a candidate and judges every run."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from flightlog.errors import GoldenError
from flightlog.golden.entries import GoldenEntry, chosen, load_suite
from flightlog.golden.factory import Factory, Trial, load_factory, make_agent
from flightlog.golden.judging.verdicts import check_judgeable
from flightlog.golden.life.quarantine import left_out
from flightlog.golden.replay_report import ReplayReport, TrialReport
from flightlog.golden.replay_side import Replaying, ReplaySide
from flightlog.golden.schedule import Spending, play_all
from flightlog.recorder.recorder import Recorder

__all__ = [
    "GoldenEntry",
    "ReplayReport",
    "Replaying",
    "Trial",
    "TrialReport",
    "load_factory",
    "load_suite",
    "make_agent",
    "replay_entries",
    "replay_suite",
]


def replay_suite(
    goldens: Path | str,
    factory: Factory,
    *,
    recorder: Recorder,
    variant: str = "candidate",
    trials: int = 1,
    tasks: Sequence[str] | None = None,
    session_id: str | None = None,
    how: Replaying = Replaying(),
) -> ReplayReport:
    """Replays golden tasks on a candidate; tools answer from the recordings, nothing runs live.

    Args:
        goldens: folder of golden tasks.
        factory: makes a fresh agent for each trial.
        recorder: where the candidate's runs are recorded.
        variant: name of the side.
        trials: repeats of each task.
        tasks: task ids or folder names; None replays all that are not in quarantine.
        session_id: shared by all runs; None makes one.
        how: concurrency, spending cap, resuming, changes to the candidate.

    Raises:
        GoldenError: the folder is missing, empty or malformed; no variant, or no trial; a
            session goes on under other conditions than it began with.
        UnknownNameError: a task that the folder does not hold.
        AgentError: the factory fails or gives no agent.
        PriceError: there is a cap, and what a trial cost is unknown.
    """
    _check_asked(variant, trials, session_id, how)
    folder = Path(goldens)
    without = left_out(folder, datetime.now(tz=UTC).date()) if tasks is None else {}
    entries = chosen(load_suite(folder, redactor=recorder.redactor, without=without), tasks)
    return replay_entries(
        entries,
        factory,
        recorder=recorder,
        variant=variant,
        trials=trials,
        session_id=session_id,
        how=how,
    )


def replay_entries(
    entries: Sequence[GoldenEntry],
    factory: Factory,
    *,
    recorder: Recorder,
    variant: str = "candidate",
    trials: int = 1,
    session_id: str | None = None,
    how: Replaying = Replaying(),
) -> ReplayReport:
    """As `replay_suite`, with golden tasks of one folder that were loaded already.

    Args:
        entries: from `load_suite`, with the redactor of the recorder.
        factory, recorder, variant, trials, session_id, how: as for `replay_suite`.

    Raises:
        GoldenError, AgentError, PriceError: as `replay_suite`.
    """
    _check_asked(variant, trials, session_id, how)
    for entry in entries:
        check_judgeable(entry.golden, has_grader=how.grader is not None, where=str(entry.folder))
    side = ReplaySide(variant, session_id or str(uuid.uuid4()), recorder, factory, how)
    only = how.only_trial
    numbers = range(trials) if only is None else range(only, only + 1)
    return _replayed(side, entries, numbers)


def _check_asked(variant: str, trials: int, session_id: str | None, how: Replaying) -> None:
    if not variant:
        raise GoldenError("the variant is empty", hint="Name this side, such as candidate.")
    if trials < 1:
        raise GoldenError(f"{trials} trials of each task", hint="Give 1 or more.")
    if how.resume and session_id is None:
        raise GoldenError(
            "nothing says which replay goes on", hint="Give the session of the interrupted one."
        )


def _replayed(side: ReplaySide, entries: Sequence[GoldenEntry], numbers: range) -> ReplayReport:
    """Plays what is not finished yet; the report has all trials in their order."""
    every = [(entry, number) for number in numbers for entry in entries]
    reports = side.finished(entries)
    todo = [one for one in every if _key(one) not in reports]
    resumed = len(every) - len(todo)
    spending = Spending(side.how.max_usd)
    for report in reports.values():
        spending.add(report.cost_usd)
    count = itertools.count(resumed + 1)

    def on_done() -> None:
        if side.how.on_progress:
            side.how.on_progress(next(count), len(every))

    played = play_all(
        todo,
        lambda todo, cancel: side.play(*todo, cancel),
        cost_of=lambda report: report.cost_usd,
        concurrency=side.how.concurrency,
        spending=spending,
        on_done=on_done,
    )
    reports |= {_key(todo[place]): report for place, report in played.done.items()}
    return ReplayReport(
        side.variant,
        side.session_id,
        tuple(reports[_key(one)] for one in every if _key(one) in reports),
        tuple((entry.task.task_id, number) for entry, number in played.skipped),
        resumed,
        side.how.match,
    )


def _key(todo: tuple[GoldenEntry, int]) -> tuple[str, int]:
    entry, number = todo
    return (entry.name, number)
