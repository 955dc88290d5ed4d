"""What came of a replayed suite: per trial, in total, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from flightlog.analysis.wording import counted
from flightlog.errors import ExitCode
from flightlog.golden.judging.judge import Judgement, Level
from flightlog.replay.divergence import Divergence
from flightlog.replay.matchers import Match
from flightlog.replay.serve import Miss
from flightlog.replay.validity import Trust, Validity
from flightlog.trace.vocab import ServedHow


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What came of one replayed trial.

    Attributes:
        task_id: the task.
        number: trial, from 0.
        run_id: the run in the store.
        judgement: passed, level and why.
        stop: stop reason and tool.
        served: calls answered, by how.
        misses: calls that nothing answered.
        divergence: where it left its nearest recording.
        live_tool_calls: functions that were really called; 0 unless live reads were asked for.
        cost_usd: what its model calls cost, those of a grader too; None where unknown.
        trust: comparable, degraded or void, and why.
        grades: what a grader said of each graded question: passed, and the question with its
            reason.
    """

    task_id: str
    number: int
    run_id: str
    judgement: Judgement
    stop: str
    served: Mapping[ServedHow, int]
    misses: tuple[Miss, ...]
    divergence: Divergence | None
    live_tool_calls: int
    cost_usd: float | None = None
    trust: Trust = field(default_factory=Trust)
    grades: tuple[tuple[bool | None, str], ...] = ()

    @property
    def passed(self) -> bool | None:
        """None when the replay is void, or a required question was not graded."""
        return self.judgement.passed

    @property
    def level(self) -> Level:
        """How much the run is like its nearest recording."""
        return self.judgement.level

    @property
    def levels(self) -> str:
        """All levels that hold, tightest first, in words."""
        return ", ".join(self.judgement.levels or (self.judgement.level,))

    @property
    def coverage(self) -> float | None:
        """Share of the calls that were served; None when there were none."""
        calls = sum(self.served.values()) + len(self.misses)
        return sum(self.served.values()) / calls if calls else None


@dataclass(frozen=True)
class ReplayReport:
    """What came of a replayed suite.

    Attributes:
        variant: the side that was replayed.
        session_id: shared by all its runs.
        trials: one entry per task and trial.
        skipped: task and number of the trials that the spending cap left undone.
        resumed: trials that an earlier, interrupted replay had finished.
        match: how calls found their recorded ones; a weaker way than `state` is said.
    """

    variant: str
    session_id: str
    trials: tuple[TrialReport, ...]
    skipped: tuple[tuple[str, int], ...] = ()
    resumed: int = 0
    match: Match = Match.STATE

    @cached_property
    def passed(self) -> int:
        """Trials that passed."""
        return sum(trial.passed is True for trial in self.trials)

    @cached_property
    def failed(self) -> int:
        """Trials that failed."""
        return sum(trial.passed is False for trial in self.trials)

    @cached_property
    def inconclusive(self) -> int:
        """Trials that missed a call, so that nobody can say."""
        return sum(trial.passed is None for trial in self.trials)

    @property
    def live_tool_calls(self) -> int:
        """Tool calls that ran live: 0 unless live reads were asked for."""
        return sum(trial.live_tool_calls for trial in self.trials)

    @cached_property
    def served(self) -> Counter[ServedHow]:
        """Calls answered over all trials, by how."""
        total: Counter[ServedHow] = Counter()
        for trial in self.trials:
            total.update(trial.served)
        return total

    @property
    def misses(self) -> int:
        """Calls that nothing answered, over all trials."""
        return sum(len(trial.misses) for trial in self.trials)

    @property
    def coverage(self) -> float | None:
        """Share of the calls that were served; None when there were none."""
        calls = self.served.total() + self.misses
        return self.served.total() / calls if calls else None

    @property
    def exit_code(self) -> int:
        """0 when all passed, 1 when one failed, 2 when one could not be judged or was left out."""
        if self.failed:
            return int(ExitCode.DRIFT)
        return int(ExitCode.UNDECIDED if self.inconclusive or self.skipped else ExitCode.OK)

    @property
    def cost_usd(self) -> float | None:
        """What all trials cost, resumed ones too; None where one is unknown."""
        costs = [trial.cost_usd for trial in self.trials]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def sentence(self) -> str:
        """The report in one sentence."""
        how = ", ".join(f"{count} {how.value}" for how, count in sorted(self.served.items()))
        share = "no tool calls" if self.coverage is None else f"{self.coverage:.1%} of calls served"
        return (
            f"{self.passed} of {len(self.trials)} replays passed, {self.failed} failed, "
            f"{self.inconclusive} inconclusive; {share}{f' ({how})' if how else ''}; "
            f"live tool calls: {self.live_tool_calls}"
            f"{'' if self.match is Match.STATE else f'; matcher: {self.match}'}"
        )

    def _worth(self) -> list[str]:
        """Counts by level and by validity, one line; none without trials."""
        if not self.trials:
            return []
        levels = Counter(trial.level for trial in self.trials)
        worth = Counter(trial.trust.validity for trial in self.trials)
        by_level = ", ".join(f"{levels[one]} {one}" for one in Level if levels[one])
        by_worth = ", ".join(f"{worth[one]} {one}" for one in Validity if worth[one])
        return [f"levels: {by_level}; validity: {by_worth}"]

    def lines(self) -> list[str]:
        """The report as text: trials that need a word, then the totals."""
        found: list[str] = []
        for trial in self.trials:
            found += _lines_of(trial)
        if self.skipped:
            found.append(
                f"{counted(len(self.skipped), 'trial')} left out, since the spending cap is reached"
            )
        if self.resumed:
            found.append(f"{counted(self.resumed, 'trial')} finished before, not replayed again")
        if self.trials:
            cost = self.cost_usd
            spent = "unknown" if cost is None else f"${cost:,.4f}"
            found.append(f"model calls cost: {spent}")
        return [*found, *self._worth(), f"variant {self.variant!r}: {self.sentence()}"]


def _lines_of(trial: TrialReport) -> list[str]:
    """What is to be said of one trial; nothing for a comparable one that passed exactly."""
    place = f"{trial.task_id} trial {trial.number} (run {trial.run_id})"
    notes = [f"    graded, {said}" for passed, said in trial.grades if passed is not True]
    if trial.passed is True:
        is_plain = trial.trust.validity is Validity.COMPARABLE
        return ([] if is_plain else [f"passed {place}: {trial.trust}"]) + notes
    word = "inconclusive" if trial.passed is None else "FAILED"
    found = [
        f"{word} {place}: {trial.judgement.detail}",
        f"    levels: {trial.levels}; replay {trial.trust}",
    ]
    if trial.divergence is not None:
        found.insert(1, f"    first divergence: {trial.divergence}")
    return found + notes
