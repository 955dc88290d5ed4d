"""Replays a folder of golden tasks on a candidate and judges every run."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeAlias

from flightlog.errors import GoldenError
from flightlog.golden.conditions import REPLAYED_WITH, conditions_of, conditions_text
from flightlog.golden.entries import GoldenEntry, chosen, load_suite
from flightlog.golden.factory import Factory, Trial, load_factory, make_agent
from flightlog.golden.judging.grading import grades_of
from flightlog.golden.judging.judge import judge
from flightlog.golden.judging.verdicts import check_judgeable, with_grading, write_verdict
from flightlog.golden.life.contracts import CONTRACT, contract_text
from flightlog.golden.life.quarantine import left_out
from flightlog.golden.overrides import Overrides
from flightlog.golden.replay_report import ReplayReport, TrialReport
from flightlog.golden.resume import finished_trials
from flightlog.golden.schedule import Spending, play_all
from flightlog.recorder.recorder import Recorder
from flightlog.replay.attempts import Attempts
from flightlog.replay.guard import Endpoint
from flightlog.replay.matchers import Match
from flightlog.replay.misses import MissPolicies
from flightlog.replay.replayer import Around, Replayed, replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.replay.validity import trust_of
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.model import Model
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.result import RunContext
from flightlog.trace.clock import SystemClock, VirtualClock
from flightlog.trace.vocab import Origin, StopReason, stop_text

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

ACCEPT_HINT: Final = (
    "To accept it, record a live run that makes this call, then: "
    "flightlog golden accept {{golden}} --run RUN --store STORE --goldens {goldens}"
)


@dataclass(frozen=True)
class Replaying:
    """How a suite is replayed.

    Attributes:
        concurrency: trials at the same time, each in a thread of its own.
        max_usd: spending cap of the whole replay; no trial begins that is expected to pass it.
        resume: leaves out trials that this session has finished already.
        overrides: what is changed on the candidate.
        endpoints: hosts that may be reached besides that of the candidate's model.
        on_progress: called with trials done and trials in all.
        grader: model that answers the graded questions of the contracts; it is asked by
            several trials at the same time.
        match: how calls find their recorded ones; a weaker way only where asked for by name.
        misses: what happens to calls that no recording answers.
        attempts: whether recorded tries are served one by one.
        only_trial: plays this trial of each task, from 0; None plays all.
    """

    concurrency: int = 1
    max_usd: float | None = None
    resume: bool = False
    overrides: Overrides = field(default_factory=Overrides)
    endpoints: tuple[Endpoint, ...] = ()
    on_progress: Callable[[int, int], None] | None = None
    grader: Model | None = None
    match: Match = Match.STATE
    misses: MissPolicies = field(default_factory=MissPolicies)
    attempts: Attempts = Attempts.FAITHFUL
    only_trial: int | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise GoldenError(f"concurrency={self.concurrency}", hint="Give 1 or more.")


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
    side = _Side(variant, session_id or str(uuid.uuid4()), recorder, factory, how)
    goldens = str(entries[0].folder.parent) if entries else ""
    folder = goldens.replace("{", "{{").replace("}", "}}")  # it is filled in once more
    only = how.only_trial
    numbers = range(trials) if only is None else range(only, only + 1)
    return side.replay(entries, numbers, hint=ACCEPT_HINT.format(goldens=folder))


def _check_asked(variant: str, trials: int, session_id: str | None, how: Replaying) -> None:
    if not variant:
        raise GoldenError("the variant is empty", hint="Name this side, such as candidate.")
    if trials < 1:
        raise GoldenError(f"{trials} trials of each task", hint="Give 1 or more.")
    if how.resume and session_id is None:
        raise GoldenError(
            "nothing says which replay goes on", hint="Give the session of the interrupted one."
        )


_Todo: TypeAlias = tuple[GoldenEntry, int]


@dataclass(frozen=True)
class _Side:
    """One side of a comparison: who is replayed, under which names, and how."""

    variant: str
    session_id: str
    recorder: Recorder
    factory: Factory
    how: Replaying

    def replay(self, entries: Sequence[GoldenEntry], numbers: range, *, hint: str) -> ReplayReport:
        """Plays what is not finished yet; the report has all trials in their order."""
        every = [(entry, number) for number in numbers for entry in entries]
        reports = self._finished(entries)
        todo = [one for one in every if _key(one) not in reports]
        resumed = len(every) - len(todo)
        spending = Spending(self.how.max_usd)
        for report in reports.values():
            spending.add(report.cost_usd)
        count = itertools.count(resumed + 1)

        def on_done() -> None:
            if self.how.on_progress:
                self.how.on_progress(next(count), len(every))

        played = play_all(
            todo,
            partial(self._play, hint),
            cost_of=lambda report: report.cost_usd,
            concurrency=self.how.concurrency,
            spending=spending,
            on_done=on_done,
        )
        reports |= {_key(todo[place]): report for place, report in played.done.items()}
        return ReplayReport(
            self.variant,
            self.session_id,
            tuple(reports[_key(one)] for one in every if _key(one) in reports),
            tuple((entry.task.task_id, number) for entry, number in played.skipped),
            resumed,
            self.how.match,
        )

    def _finished(self, entries: Sequence[GoldenEntry]) -> dict[tuple[str, int], TrialReport]:
        if not self.how.resume:
            return {}
        return finished_trials(
            self.recorder.store_path,
            entries,
            session_id=self.session_id,
            variant=self.variant,
            conditions=self.conditions,
        )

    @cached_property
    def conditions(self) -> str:
        """What the replay was told, as it stands in each run."""
        how = self.how
        return conditions_text(conditions_of(how.match, how.attempts, how.misses, how.overrides))

    def _play(self, hint: str, todo: _Todo, cancel: CancelToken) -> TrialReport:
        entry, number = todo
        overrides = self.how.overrides
        trial = Trial(
            entry.task, number, self.variant, entry.tools, entry.recordings, overrides.model
        )
        agent = overrides.applied(make_agent(self.factory, trial), trial)
        replayed = replay(
            agent,
            entry.task,
            StateAwareExecutor(
                entry.cassette.with_match(self.how.match),
                golden=entry.name,
                accept_hint=hint,
                misses=self.how.misses,
                attempts=self.how.attempts,
            ),
            sink=self.recorder,
            context=RunContext(
                variant=self.variant,
                trial=number,
                session_id=self.session_id,
                origin=Origin.REPLAY,
                golden=entry.name,
            ),
            clock=VirtualClock(SystemClock().wall_us()),
            around=Around(self.how.endpoints, cancel),
        )
        if overrides.client is not None:
            getattr(agent.model, "close", lambda: None)()
        if cancel.is_cancelled and replayed.result.stop_reason is StopReason.CANCELLED:
            # It says nothing of the candidate.
            raise InterruptedError(cancel.why)
        replayed.result.writer.evaluation(name=REPLAYED_WITH, detail=self.conditions)
        return _judged(entry, number, replayed, self.how.grader)


def _key(todo: _Todo) -> tuple[str, int]:
    entry, number = todo
    return (entry.name, number)


def _judged(
    entry: GoldenEntry, number: int, replayed: Replayed, grader: Model | None
) -> TrialReport:
    result, trust = replayed.result, trust_of(replayed)
    grades = () if trust.is_void else grades_of(entry.golden, result, grader, prices=PriceTable())
    judgement = judge(
        entry.golden,
        entry.cassette,
        result,
        replayed.calls,
        grades=grades,
        void_because="; ".join(trust.reasons) if trust.is_void else "",
    )
    result.writer.evaluation(name=CONTRACT, detail=contract_text(entry.golden, entry.recordings))
    write_verdict(result.writer, judgement, trust)
    return TrialReport(
        task_id=entry.task.task_id,
        number=number,
        run_id=result.run_id,
        judgement=judgement,
        stop=stop_text(result.stop_reason, result.stop_tool),
        served=dict(replayed.executor.served),
        misses=tuple(replayed.executor.misses),
        divergence=replayed.divergence,
        live_tool_calls=replayed.executor.live_tool_calls,
        cost_usd=with_grading(result.usage.usd, [grade.cost_usd for grade in grades]),
        trust=trust,
        grades=tuple((grade.passed, str(grade)) for grade in grades),
    )
