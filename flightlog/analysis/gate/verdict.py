"""What a check gives: frozen results, complete enough to write every report from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from flightlog.analysis.gate.metrics import Kind
from flightlog.errors import ExitCode

if TYPE_CHECKING:
    from flightlog.analysis.gate.explanations import Explanation
    from flightlog.analysis.gate.reliability import Reliability
    from flightlog.analysis.gate.tails import Tail
    from flightlog.analysis.stats.cost_parts import CostPart
    from flightlog.analysis.verified import Verified

TASK_LIMIT: Final = 100


class Decision(StrEnum):
    """What the gate says about one metric, or about the whole comparison."""

    DRIFT = "DRIFT"
    IMPROVED = "IMPROVED"
    OK = "OK"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNAVAILABLE = "UNAVAILABLE"


class Strength(StrEnum):
    """How sure a DRIFT is.

    `likely`: something changed (p below alpha) and the estimate is beyond the
    tolerance. `confirmed`: the bound of the change is beyond the tolerance too.
    """

    LIKELY = "likely"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """The verdict on one metric.

    Attributes:
        name: metric, as in `flightlog.analysis.gate.metrics`.
        unit: unit of `baseline` and `candidate`.
        kind: how `change` is measured.
        higher_is_worse: direction of harm.
        tolerance: largest harmless change; a share, or a difference of rates.
        is_gated: False when the metric is advisory and cannot fail the check.
        decision: what the gate says.
        strength: of a DRIFT; None otherwise.
        reason: why, in one plain sentence.
        baseline: mean of task means (quantile: p95 of all calls); None when unavailable.
        candidate: the same of the candidate.
        change: candidate / baseline, or candidate - baseline for shares; infinite from 0.
        typical_change: ratio of the typical (geometric mean) task; ratio metrics only.
        lower: one-sided lower bound of `change` at 1 - alpha; None when there is none.
        upper: one-sided upper bound of `change` at 1 - alpha; None when there is none.
        p_worse: p-value of a change for the worse, adjusted over the gated
            metrics (advisory metrics: unadjusted); None when not tested.
        p_better: the same for a change for the better.
        advice: what would settle an INCONCLUSIVE, or make a metric available;
            empty when there is nothing to say.
        baseline_runs: runs with a value.
        candidate_runs: runs with a value.
        moved: what moved most in a mix, in words; empty elsewhere.
    """

    name: str
    unit: str
    kind: Kind
    higher_is_worse: bool
    tolerance: float
    is_gated: bool
    decision: Decision
    strength: Strength | None = None
    reason: str = ""
    baseline: float | None = None
    candidate: float | None = None
    change: float | None = None
    typical_change: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_worse: float | None = None
    p_better: float | None = None
    advice: str = ""
    baseline_runs: int = 0
    candidate_runs: int = 0
    moved: str = ""


@dataclass(frozen=True, slots=True)
class TaskChange:
    """How one task moved in the metric that the task table is sorted by.

    Attributes:
        suite: suite of the task; empty when it has none.
        task_id: task within the suite.
        baseline_runs: compared runs of the baseline.
        candidate_runs: compared runs of the candidate.
        baseline: value on the baseline's runs; None when unknown.
        candidate: value on the candidate's runs; None when unknown.
        share: its part of all movement for the worse, 0 to 1; negative where
            the task moved for the better (where all did: its part of that).
    """

    suite: str
    task_id: str
    baseline_runs: int
    candidate_runs: int
    baseline: float | None
    candidate: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Spike:
    """A candidate run with more than five times the calls of its task's baseline.

    Attributes:
        run_id: the run.
        suite: its suite; empty when it has none.
        task_id: its task.
        tool_calls: calls that it made.
        threshold: calls above which a run of this task is a spike.
    """

    run_id: str
    suite: str
    task_id: str
    tool_calls: int
    threshold: float


@dataclass(frozen=True, slots=True)
class LostTask:
    """A task that could not be compared.

    Attributes:
        suite: suite of the task; empty when it has none.
        task_id: task within the suite; empty for runs without a task.
        why: `only in baseline`, `only in candidate`, `task content changed`...
        runs: runs that were left out for it.
    """

    suite: str
    task_id: str
    why: str
    runs: int


VOID: Final = "void replay"


@dataclass(frozen=True, slots=True)
class SkippedRun:
    """A run of a paired task that was listed, but not compared.

    Attributes:
        run_id: the run.
        side: `baseline` or `candidate`.
        suite: its suite; empty when it has none.
        task_id: its task.
        why: `void replay` or `still running`.
    """

    run_id: str
    side: str
    suite: str
    task_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Method:
    """How the p-values and bounds were made, so that they can be made again.

    Attributes:
        alpha: error rate over all gated metrics together.
        labellings: labellings compared, the observed one included.
        is_exact: True when these are all the labellings there are.
        seed: seed of the shuffles; first 48 bits of a hash of tasks and sides.
        strata: `task` or `task and session`.
        min_p: smallest p-value that this comparison can give.
        is_normal: True where the labellings were too many, and draws from their normal limit, with
            their exact mean and covariance, stand for them.
    """

    alpha: float
    labellings: int
    is_exact: bool
    seed: int
    strata: str
    min_p: float
    is_normal: bool = False


@dataclass(frozen=True, slots=True)
class Sequential:
    """Where a gate of several rounds stands.

    Attributes:
        round: round that the verdict is of, from 1.
        rounds: trials per task and side after each round.
        trials: trials per task and side so far.
        alpha: error rate over all rounds; that of the method is this round's part.
        session_id: session of the replays; the gate goes on with it.
        saved_trials: trials of the whole plan that were not needed, both sides.
        planned_trials: trials of the whole plan, both sides.
        saved_usd: what these would have cost at the mean so far; None where unknown.
        spent_usd: what was spent so far; None where unknown.
        is_capped: the spending cap ended it.
    """

    round: int
    rounds: tuple[int, ...]
    trials: int
    alpha: float
    session_id: str
    saved_trials: int
    planned_trials: int
    saved_usd: float | None
    spent_usd: float | None
    is_capped: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a check.

    Attributes:
        decision: DRIFT, OK or INCONCLUSIVE over all gated metrics.
        headline: the decision and why, in one plain sentence.
        baseline: the baseline, as it was asked for.
        candidate: the candidate, as it was asked for.
        baseline_runs: runs of the baseline that were compared.
        candidate_runs: runs of the candidate that were compared.
        task_count: tasks that were compared.
        metrics: one verdict per metric asked for.
        worst_metric: metric that decided; the task table is sorted by it.
        tasks: the tasks that moved it most, those for the worse first; at most `TASK_LIMIT`.
        lost_tasks: tasks that could not be compared.
        skipped_runs: void replays and runs that still go on.
        spikes: candidate runs with a storm of tool calls.
        is_confounded: True when no session holds runs of both sides.
        notes: what else the reader must know.
        method: how it was computed.
        cost_parts: what the change of cost is made of; empty where tokens or cost are unknown.
        reliability: pass^k, pass@k and cost per success of both sides; empty where success is
            not recorded.
        explanations: what explains the metrics that drifted.
        tails: upper quantiles of the latencies of both sides.
        sequential: where a gate of several rounds stands; None for a check.
        loosened: checks that were loosened, removed or put in quarantine since the baseline.
        verified: what `flightlog verify` found before anything else; None where the traces
            came from memory.
        must_be_known: metrics that forbid OK where they are unavailable.
        chosen_gates: metrics that the user chose to gate, success with them where it is
            known; None left it to the table of metrics.
    """

    decision: Decision
    headline: str
    baseline: str
    candidate: str
    baseline_runs: int
    candidate_runs: int
    task_count: int
    metrics: tuple[MetricVerdict, ...]
    worst_metric: str
    tasks: tuple[TaskChange, ...]
    lost_tasks: tuple[LostTask, ...]
    skipped_runs: tuple[SkippedRun, ...]
    spikes: tuple[Spike, ...]
    is_confounded: bool
    notes: tuple[str, ...]
    method: Method
    cost_parts: tuple[CostPart, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    tails: tuple[Tail, ...] = ()
    sequential: Sequential | None = None
    loosened: tuple[str, ...] = ()
    verified: Verified | None = None
    chosen_gates: tuple[str, ...] | None = None
    must_be_known: tuple[str, ...] = ()

    @property
    def worse_tasks(self) -> tuple[TaskChange, ...]:
        """The tasks that moved the deciding metric for the worse."""
        return tuple(task for task in self.tasks if task.share > 0)

    @property
    def void_replays(self) -> int:
        """Candidate replays that missed a call: changes that nobody has judged."""
        return sum(run.why == VOID and run.side == "candidate" for run in self.skipped_runs)

    def exit_code(self, *, strict: bool = False, confirmed_only: bool = False) -> ExitCode:
        """0 clean, 1 drift, 2 undecided where that is to fail, or with void replays.

        A void replay is no pass: without drift it makes the check exit 2.

        Args:
            strict: an INCONCLUSIVE check exits 2 instead of 0.
            confirmed_only: a DRIFT that is only likely counts as inconclusive.
        """
        if self.decision is Decision.DRIFT:
            confirmed = any(m.is_gated and m.strength is Strength.CONFIRMED for m in self.metrics)
            if confirmed or not confirmed_only:
                return ExitCode.DRIFT
        undecided = self.decision is not Decision.OK
        is_failing = self.void_replays > 0 or (strict and undecided)
        return ExitCode.UNDECIDED if is_failing else ExitCode.OK
