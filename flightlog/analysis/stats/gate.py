"""The gate: every metric of one comparison under one set of labellings.

The procedure, step by step: strata; labellings; scores; the largest
standardised score difference per metric; min-P over the gated metrics; bounds
by inversion; a decision per metric. One pass over the labellings serves all
metrics, so their dependence is in the joint correction by construction.

Source: permutation tests within strata (Pesarin and Salmaso 2010); Westfall
and Young 1993; Miller 2024, Adding Error Bars to Evals (pairing by task).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flightlog.analysis.gate.metrics import Kind, Metric
from flightlog.analysis.gate.verdict import Decision, Method, MetricVerdict
from flightlog.analysis.stats.cost_parts import CostPart, CostParts
from flightlog.analysis.stats.decide import Circumstances, Settings, decide
from flightlog.analysis.stats.family import adjusted, tail_shares
from flightlog.analysis.stats.labellings import Labellings, Sessions, sessions_of
from flightlog.analysis.stats.measures.base import Evidence, Measure, known_values
from flightlog.analysis.stats.measures.mix import MixMeasure
from flightlog.analysis.stats.measures.points import PointsMeasure
from flightlog.analysis.stats.measures.quantile import QuantileMeasure
from flightlog.analysis.stats.measures.ratio import RatioMeasure
from flightlog.analysis.stats.normal import NormalLabellings, labellings_of
from flightlog.analysis.stats.sample import Bools, Floats, Ints, Sample
from flightlog.analysis.stats.sessions import FEWEST_SESSIONS, exceeds_sessions
from flightlog.analysis.stats.storms import Storms, storms_of

HALF = 0.5
STORM_METRIC = "tool_calls_per_run"

_HOW_TO_RECORD = {
    "success": 'record it per run: evaluation(name="success", passed=...), see docs/agents.md',
    "cost_usd": "give the model a price under prices: in flightlog.yaml",
}
"""What to do about a metric that the runs do not hold."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the statistics say about one sample.

    Attributes:
        metrics: one verdict per metric asked for, in their order.
        sessions: how the arms share sessions.
        storms: spikes of tool calls; None when these were not compared.
        cost_parts: what the change of cost is made of; empty when it is not known.
        method: how the numbers were made.
    """

    metrics: tuple[MetricVerdict, ...]
    sessions: Sessions
    storms: Storms | None
    cost_parts: tuple[CostPart, ...]
    method: Method


def judge(
    sample: Sample,
    metrics: Sequence[Metric],
    settings: Settings,
) -> Judgement:
    """Judges every metric on one sample.

    Args:
        sample: the compared runs; at least one task.
        metrics: what to judge.
        settings: error rate and sizes.
    """
    sessions = sessions_of(sample)
    labellings = _labellings(sample, sessions.strata, settings)
    missing = {m.name: _why_unavailable(m, sample) for m in metrics}
    measures = [_measure(m, sample, labellings) for m in metrics if not missing[m.name]]
    cost = CostParts(sample)
    found_at_once, cost_sums = _evidence(measures, labellings, settings.alpha, cost.columns())
    evidence = [
        _with_known_bounds(measure, found, sample, sessions.strata, settings)
        for measure, found in zip(measures, found_at_once, strict=True)
    ]
    gated = {m.name: _gates(m, sessions) for m in metrics}
    p_worse = _p_values(evidence, gated, tail=1)
    p_better = _p_values(evidence, gated, tail=-1)
    calls = sample.values.get(STORM_METRIC)
    compared = {e.metric.name for e in evidence}
    storms = storms_of(sample, calls) if calls is not None and STORM_METRIC in compared else None
    verdicts = {}
    for measure, found in zip(measures, evidence, strict=True):
        name = found.metric.name
        around = Circumstances(
            p_worse=p_worse[name],
            p_better=p_better[name],
            min_p=labellings.min_p,
            is_gated=gated[name],
            tested_tasks=len(np.unique(sample.task[labellings.is_free])),
            tested_runs=int((labellings.is_free & sample.is_candidate).sum()),
            within_sessions=_is_within_sessions(measure, sample, sessions),
            storms=storms if name == STORM_METRIC else None,
        )
        verdicts[name] = decide(found, around, sample, settings)
    for metric in metrics:
        if missing[metric.name]:
            verdicts[metric.name] = _unavailable(metric, missing[metric.name], gated[metric.name])
    return Judgement(
        metrics=tuple(verdicts[metric.name] for metric in metrics),
        sessions=sessions,
        storms=storms,
        cost_parts=cost.parts(cost_sums, settings.alpha),
        method=Method(
            alpha=settings.alpha,
            labellings=labellings.row_count,
            is_exact=labellings.is_exact,
            is_normal=labellings.is_normal,
            seed=sample.seed,
            strata="task and session" if sessions.are_strata else "task",
            min_p=labellings.min_p,
        ),
    )


def _labellings(sample: Sample, strata: Ints, settings: Settings) -> Labellings | NormalLabellings:
    return labellings_of(
        strata,
        sample.is_candidate,
        shuffles=settings.shuffles,
        seed=sample.seed,
        most_labels=settings.most_labels,
    )


def _measure(metric: Metric, sample: Sample, labellings: Labellings | NormalLabellings) -> Measure:
    if metric.kind is Kind.QUANTILE:
        return QuantileMeasure(metric, sample, labellings)
    if metric.kind is Kind.MIX:
        return MixMeasure(metric, sample)
    return (RatioMeasure if metric.kind is Kind.RATIO else PointsMeasure)(metric, sample)


def _evidence(
    measures: Sequence[Measure],
    labellings: Labellings | NormalLabellings,
    alpha: float,
    others: Floats,
) -> tuple[list[Evidence], Floats]:
    """One pass over the labellings for all measures, and the sums of other columns."""
    columns = [*(measure.columns() for measure in measures), others]
    watchers = [measure for measure in measures if isinstance(measure, QuantileMeasure)]
    sums = labellings.sums(np.concatenate(columns, axis=1), watchers)
    ends = np.cumsum([part.shape[1] for part in columns])
    *parts, rest = np.split(sums, ends[:-1], axis=1)
    found = [m.evidence(part, alpha) for m, part in zip(measures, parts, strict=True)]
    return found, rest


def _with_known_bounds(
    measure: Measure, found: Evidence, sample: Sample, strata: Ints, settings: Settings
) -> Evidence:
    """The evidence with bounds from the runs of known value alone, relabelled among themselves."""
    if not isinstance(measure, RatioMeasure | PointsMeasure) or measure.column.known.all():
        return found
    rows = measure.column.known
    part = sample.part(rows)
    labellings = _labellings(part, strata[rows], settings)
    alone = _measure(measure.metric, part, labellings)
    nothing = np.empty((int(rows.sum()), 0))
    [known], _ = _evidence([alone], labellings, settings.alpha, nothing)
    return replace(found, bounds=known.bounds)


def _p_values(
    evidence: Sequence[Evidence], gated: Mapping[str, bool], *, tail: int
) -> dict[str, float]:
    """P-values by metric: adjusted over the gated ones, plain for the advisory ones."""
    p: dict[str, float] = {}
    family = [e for e in evidence if gated[e.metric.name]]
    for members, correct in ((family, True), ([e for e in evidence if e not in family], False)):
        if members:
            table = np.column_stack([e.worse if tail > 0 else e.better for e in members])
            values = adjusted(table) if correct else tail_shares(table)[0]
            p.update((e.metric.name, float(v)) for e, v in zip(members, values, strict=True))
    return p


def _gates(metric: Metric, sessions: Sessions) -> bool:
    """Whether a metric can fail the check, given how the arms share sessions.

    Without a shared session, cost gates only against a baseline of at least
    3 sessions (and then passes their guard); latency does not gate at all.
    """
    if not metric.gates or not sessions.is_confounded or metric.gates_confounded:
        return metric.gates
    return metric.kind is Kind.RATIO and sessions.baseline_sessions >= FEWEST_SESSIONS


def _is_within_sessions(measure: Measure, sample: Sample, sessions: Sessions) -> bool:
    """True when the guard of a stored baseline of several sessions holds a rise back."""
    if not sessions.is_confounded or sessions.baseline_sessions < FEWEST_SESSIONS:
        return False
    if not isinstance(measure, RatioMeasure):
        return False
    return not exceeds_sessions(sample, measure.column, measure.offset)


def _why_unavailable(metric: Metric, sample: Sample) -> str:
    """Why a metric cannot be compared; empty when it can."""
    arms = sample.is_candidate
    for is_candidate, side in ((False, "baseline"), (True, "candidate")):
        share, what = _share_unknown(metric, sample, arms == is_candidate)
        if share >= HALF:
            return f"{what} in {share:.0%} of the runs of the {side}"
    known = _says(metric, sample)
    if not np.intersect1d(sample.task[known & arms], sample.task[known & ~arms]).size:
        return "no task has a value on both sides"
    return ""


def _says(metric: Metric, sample: Sample) -> Bools:
    """Runs that say something about a metric."""
    if metric.kind is Kind.QUANTILE:
        has_value = np.zeros(sample.task.size, np.bool_)
        if metric.name in sample.series:
            has_value[sample.series[metric.name].run] = True
        return has_value
    if metric.kind is Kind.MIX:
        counts = sample.counts.get(metric.name)
        if counts is None:
            return np.zeros(sample.task.size, np.bool_)
        says: Bools = ~np.isnan(counts.table.sum(axis=1))
        return says
    if metric.name not in sample.values:
        return np.zeros(sample.task.size, np.bool_)
    known: Bools = ~np.isnan(known_values(metric, sample))
    return known


def _share_unknown(metric: Metric, sample: Sample, rows: Bools) -> tuple[float, str]:
    """Share of an arm's runs that say nothing about a metric, and in which way."""
    share = float(np.mean(~_says(metric, sample)[rows]))
    if metric.kind is Kind.QUANTILE:
        series = sample.series.get(metric.name)
        unknown = series.unknown_share(rows) if series else 0.0
        return max(share, unknown), "not timed"
    return share, "unknown or 0" if metric.zero_is_unknown else "unknown"


def _unavailable(metric: Metric, why: str, is_gated: bool) -> MetricVerdict:  # noqa: FBT001
    return MetricVerdict(
        name=metric.name,
        unit=metric.unit,
        kind=metric.kind,
        higher_is_worse=metric.higher_is_worse,
        tolerance=metric.tolerance,
        is_gated=is_gated,
        decision=Decision.UNAVAILABLE,
        reason=why,
        advice=_HOW_TO_RECORD.get(metric.name, ""),
    )
