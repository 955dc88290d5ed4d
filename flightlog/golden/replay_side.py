"""One side of a comparison: a candidate on golden tasks, trial by trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flightlog.errors import GoldenError
from flightlog.golden.conditions import REPLAYED_WITH, conditions_of, conditions_text
from flightlog.golden.entries import GoldenEntry
from flightlog.golden.factory import Factory, Trial, make_agent
from flightlog.golden.judging.grading import grades_of
from flightlog.golden.judging.judge import judge
from flightlog.golden.judging.verdicts import with_grading, write_verdict
from flightlog.golden.life.contracts import CONTRACT, contract_text
from flightlog.golden.overrides import Overrides
from flightlog.golden.replay_report import TrialReport
from flightlog.golden.resume import finished_trials
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

_ACCEPT_HINT = (
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
        labels: of every run, such as the commit.
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
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise GoldenError(f"concurrency={self.concurrency}", hint="Give 1 or more.")


@dataclass(frozen=True)
class ReplaySide:
    """Who is replayed, under which names, and how.

    Attributes:
        variant: its name.
        session_id: shared by all its runs.
        recorder: where they are recorded.
        factory: makes a fresh agent for each trial.
        how: how it is replayed.
    """

    variant: str
    session_id: str
    recorder: Recorder
    factory: Factory
    how: Replaying

    def finished(self, entries: Sequence[GoldenEntry]) -> dict[tuple[str, int], TrialReport]:
        """Trials that this session has finished, by golden and number; empty unless it goes on.

        Raises:
            GoldenError: they were made under other conditions.
        """
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

    def play(self, entry: GoldenEntry, number: int, cancel: CancelToken) -> TrialReport:
        """Plays one trial and judges it.

        Raises:
            AgentError: the factory fails or gives no agent.
            InterruptedError: it was cancelled.
        """
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
                accept_hint=_accept_hint(entry),
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
                labels=self.how.labels,
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


def _accept_hint(entry: GoldenEntry) -> str:
    folder = str(entry.folder.parent).replace("{", "{{").replace("}", "}}")  # filled in once more
    return _ACCEPT_HINT.format(goldens=folder)


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
