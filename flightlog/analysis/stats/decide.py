"""From evidence to a decision on one metric, with its reason in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flightlog.analysis.gate.metrics import Kind
from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Strength
from flightlog.analysis.stats.labellings import MOST_LABELS
from flightlog.analysis.stats.measures.base import Evidence, inverted
from flightlog.analysis.stats.sample import Sample
from flightlog.analysis.stats.storms import Storms
from flightlog.analysis.stats.trials import standard_error, trials_for_any_test, trials_needed


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gate is asked to guard.

    Attributes:
        alpha: share of false alarms over all gated metrics together.
        shuffles: labellings drawn beside the observed one.
        min_tasks: tasks below which nothing is OK.
        min_runs: candidate runs below which nothing is OK.
        most_labels: runs x shuffles above which the labellings' normal limit is taken.
    """

    alpha: float = 0.05
    shuffles: int = 4_999
    min_tasks: int = 6
    min_runs: int = 20
    most_labels: int = MOST_LABELS


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else bears on a metric's decision.

    Attributes:
        p_worse: p-value for the worse, adjusted over the gated metrics.
        p_better: p-value for the better, adjusted over the gated metrics.
        min_p: smallest p-value the comparison can give.
        is_gated: the metric can fail the check.
        tested_tasks: tasks with runs that relabelling can swap.
        tested_runs: candidate runs that relabelling can swap.
        within_sessions: the rise is no larger than what the stored baseline's
            sessions differ by.
        storms: of tool calls; None for other metrics.
    """

    p_worse: float
    p_better: float
    min_p: float
    is_gated: bool
    tested_tasks: int
    tested_runs: int
    within_sessions: bool = False
    storms: Storms | None = None


def decide(
    evidence: Evidence, around: Circumstances, sample: Sample, settings: Settings
) -> MetricVerdict:
    """The verdict on one metric: the first rule that fits decides."""
    decision, strength, reason = _first_rule(evidence, around, settings)
    is_open = decision is Decision.INCONCLUSIVE
    metric, shown = evidence.metric, _as_shown(evidence)
    lower, upper = shown.bounds or (None, None)
    return MetricVerdict(
        name=metric.name,
        unit=metric.unit,
        kind=metric.kind,
        higher_is_worse=metric.higher_is_worse,
        tolerance=metric.tolerance,
        is_gated=around.is_gated,
        decision=decision,
        strength=strength,
        reason=reason,
        baseline=shown.baseline,
        candidate=shown.candidate,
        change=shown.change,
        typical_change=shown.typical,
        lower=lower,
        upper=upper,
        p_worse=around.p_worse,
        p_better=around.p_better,
        advice=_advice(evidence, around, sample, settings) if is_open else "",
        baseline_runs=evidence.baseline_runs,
        candidate_runs=evidence.candidate_runs,
        moved=evidence.moved,
    )


def _as_shown(evidence: Evidence) -> Evidence:
    """The evidence as candidate against baseline, whichever direction is the harm."""
    if evidence.metric.higher_is_worse:
        return evidence
    if not evidence.metric.kind.is_share:
        return inverted(evidence)
    bounds = evidence.bounds
    return replace(
        evidence,
        baseline=1 - evidence.baseline,
        candidate=1 - evidence.candidate,
        change=0.0 - evidence.change,
        bounds=None if bounds is None else (-bounds[1], -bounds[0]),
    )


def _first_rule(
    evidence: Evidence, around: Circumstances, settings: Settings
) -> tuple[Decision, Strength | None, str]:
    limit = worst_allowed(evidence)
    storms = around.storms
    if around.min_p > settings.alpha:
        return Decision.INCONCLUSIVE, None, "too few runs for any test"
    beyond = evidence.change > limit or (evidence.typical or 0.0) > limit
    if around.p_worse <= settings.alpha and beyond and not around.within_sessions:
        confirmed = evidence.bounds is not None and evidence.bounds[0] > limit
        strength = Strength.CONFIRMED if confirmed else Strength.LIKELY
        return Decision.DRIFT, strength, _change_in_words(evidence)
    if storms and storms.is_storm:
        reason = f"storm: {len(storms.rows)} candidate runs above 5 x their task's baseline"
        return Decision.DRIFT, Strength.LIKELY, reason
    if storms and storms.is_suspicious:
        reason = f"{len(storms.rows)} candidate runs above 5 x their task's baseline"
        return Decision.INCONCLUSIVE, None, reason
    if around.p_better <= settings.alpha and evidence.change < no_change(evidence):
        return Decision.IMPROVED, None, _change_in_words(evidence)
    tasks, runs = _tested(evidence, around)
    enough = tasks >= settings.min_tasks and runs >= settings.min_runs
    within = evidence.bounds is not None and evidence.bounds[1] < limit
    if within and evidence.change < limit and enough:
        return Decision.OK, None, "shown to lie within the tolerance"
    return Decision.INCONCLUSIVE, None, _open_in_words(evidence, around, settings, limit)


def _tested(evidence: Evidence, around: Circumstances) -> tuple[int, int]:
    """Tasks and candidate runs that the bounds rest on."""
    return (
        min(evidence.task_count, around.tested_tasks),
        min(evidence.candidate_runs, around.tested_runs),
    )


def worst_allowed(evidence: Evidence) -> float:
    """The largest harmless change, on the scale of `Evidence.change`."""
    metric = evidence.metric
    if metric.kind.is_share:
        return metric.tolerance
    if metric.higher_is_worse:
        return 1 + metric.tolerance
    return 1 / (1 - metric.tolerance) if metric.tolerance < 1 else math.inf


def no_change(evidence: Evidence) -> float:
    """The value of `Evidence.change` that means that nothing changed."""
    return 0.0 if evidence.metric.kind.is_share else 1.0


def _change_in_words(evidence: Evidence) -> str:
    """`rose 31 %`, `fell 12 points`, `rose from 0`; a typical change only when it decides."""
    metric, natural = evidence.metric, _as_shown(evidence)
    if metric.kind is Kind.MIX:
        return f"moved {evidence.change * 100:.1f} points"
    if metric.kind is Kind.POINTS:
        points = natural.change
        return f"{'rose' if points > 0 else 'fell'} {abs(points) * 100:.1f} points"
    if math.isinf(evidence.change):
        return "rose from 0" if metric.higher_is_worse else "fell to 0"
    shown, whose = natural.change, ""
    limit = worst_allowed(evidence)
    if evidence.typical is not None and evidence.change <= limit < evidence.typical:
        shown, whose = natural.typical or 0.0, " in the typical task"
    return f"{'rose' if shown > 1 else 'fell'} {abs(shown - 1) * 100:.1f} %{whose}"


def _open_in_words(
    evidence: Evidence, around: Circumstances, settings: Settings, limit: float
) -> str:
    if around.within_sessions:
        return "the rise is no larger than what sessions of the stored baseline differ by"
    if evidence.bounds is not None and evidence.bounds[1] < limit:
        if evidence.change >= limit:
            return "the change lies outside its own bounds: runs that cannot be swapped carry it"
        tasks, runs = _tested(evidence, around)
        if tasks < settings.min_tasks:
            return f"{tasks} tasks are fewer than the {settings.min_tasks} that OK needs"
        return f"{runs} candidate runs are fewer than the {settings.min_runs} that OK needs"
    if around.p_worse <= settings.alpha:
        return "a change for the worse, but not shown to be within or beyond the tolerance"
    return "not shown to lie within the tolerance"


def _advice(evidence: Evidence, around: Circumstances, sample: Sample, settings: Settings) -> str:
    """What would settle an inconclusive metric; empty when nothing can be said."""
    tasks = sample.task_count
    if around.min_p > settings.alpha:
        fewest = trials_for_any_test(tasks, settings.alpha)
        return f"needs at least {fewest} trials per task on both sides for any test"
    if tasks < settings.min_tasks:
        return f"needs at least {settings.min_tasks} tasks"
    base, cand = float(sample.baseline_trials.mean()), float(sample.candidate_trials.mean())
    fewest = max(math.ceil(settings.min_runs / tasks), math.floor(cand) + 1)
    needed = None if evidence.bounds is None else _trials(evidence, sample, settings)
    if needed is None:
        if evidence.candidate_runs < settings.min_runs:
            return f"needs at least {fewest} trials per task"
        return ""
    both, one = needed
    if both is None:
        return "no feasible number of trials would settle it; more tasks would"
    both = max(both, math.ceil(settings.min_runs / tasks), math.floor(min(base, cand)) + 1)
    text = f"about {both} trials per task on both sides would settle it"
    return f"{text}, or {max(one, fewest)} of the candidate alone" if one else text


def _trials(
    evidence: Evidence, sample: Sample, settings: Settings
) -> tuple[int | None, int | None] | None:
    if evidence.bounds is None:
        return None
    lower, upper = evidence.bounds
    estimate, tolerance = evidence.change, evidence.metric.tolerance
    if not evidence.metric.kind.is_share:
        if not (lower > 0 and upper < math.inf and 0 < estimate < math.inf):
            return None
        lower, upper, estimate = math.log(lower), math.log(upper), math.log(estimate)
        tolerance = math.log(worst_allowed(evidence))
    error = standard_error(lower, upper, settings.alpha)
    needed = trials_needed(
        sample,
        estimate=estimate,
        tolerance=tolerance,
        standard_error=error,
        alpha=settings.alpha,
    )
    return None if needed is None else (needed.both, needed.candidate_only)
