"""The three kinds of measure: each turns labellings into test statistics, estimate and bounds.

A measure hands its weighted scores to the one pass over all labellings and
gets their sums over the candidate's runs back, one row per labelling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.bounds import (
    order_bounds,
    points_crossings,
    ratio_crossings,
    scale_bounds,
    widened_upper,
)
from flightlog.analysis.stats.labellings import Labellings
from flightlog.analysis.stats.quantile import SHARE_ABOVE, SLOWEST_SHARE, LatencyTest, p95
from flightlog.analysis.stats.sample import UNKNOWN, Bools, Column, Floats, Sample
from flightlog.analysis.stats.scores import half_smallest, largest, ratio_scores, standardised

BOUND_ROWS = 1_000
MOST_INVERTED_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the data say about one metric, in the direction of harm.

    Attributes:
        metric: the metric.
        worse: statistic of every labelling for a change for the worse.
        better: the same for the better.
        baseline: mean of task means, or p95; of the bad indicator for rates.
        candidate: the same of the candidate.
        change: ratio, or difference of bad rates; above 1 (0) is worse.
        typical: ratio of geometric task means; None but for ratios.
        bounds: one-sided lower and upper bound of `change`; None when there are too few labellings.
        task_count: tasks with a value in both arms.
        baseline_runs: runs with a value.
        candidate_runs: runs with a value.
        mix_p: p-value of a change in the mix of stop reasons; None elsewhere.
    """

    metric: Metric
    worse: Floats
    better: Floats
    baseline: float
    candidate: float
    change: float
    typical: float | None
    bounds: tuple[float, float] | None
    task_count: int
    baseline_runs: int
    candidate_runs: int
    mix_p: float | None = None


class Measure(Protocol):
    """One metric on one sample."""

    metric: Metric

    def columns(self) -> Floats:
        """Weighted scores, runs x columns."""
        ...

    def see(self, rows: slice, labels: Bools) -> None:
        """Looks at one block of labellings, columns in the order of `Labellings.order`."""
        ...

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        """The evidence, from the sums of `columns` over each labelling's candidate runs."""
        ...


class RatioMeasure:
    """Ratio of the candidate's mean to the baseline's; each task counts by its mean.

    Estimator: sum of the candidate's task means over the sum of the
    baseline's; beside it the geometric one, exp(mean log ratio of task
    means). Assumes exchangeable runs within a stratum if nothing changed.
    """

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self.metric = metric
        self._sample = sample
        self.column = Column.of(sample, known_values(metric, sample))
        known = self.column.pooled[self.column.known]
        self.offset = metric.log_offset or half_smallest(known)

    def columns(self) -> Floats:
        sample, column = self._sample, self.column
        scores = ratio_scores(sample, column.pooled, column.in_use, self.offset)
        arm = sample.is_candidate
        candidate = np.where(arm, column.by_arm, 0.0)
        baseline = np.where(arm, 0.0, column.by_arm)
        columns: Floats = np.column_stack([standardised(scores), candidate, baseline])
        return columns * sample.swing[:, None]

    def see(self, rows: slice, labels: Bools) -> None:
        return None

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        column, arm = self.column, self._sample.is_candidate
        scores, candidate, baseline = sums[:, :-2], sums[:, -2], sums[:, -1]
        gained, lost = candidate[0] - candidate[1:], baseline[1:] - baseline[0]
        crossings = ratio_crossings(gained, lost)
        base, cand = column.baseline_means, column.candidate_means
        logs = np.log(cand + self.offset) - np.log(base + self.offset)
        return Evidence(
            metric=self.metric,
            worse=largest(scores, tail=1),
            better=largest(scores, tail=-1),
            baseline=float(base.mean()),
            candidate=float(cand.mean()),
            change=ratio_of(float(cand.sum()), float(base.sum())),
            typical=math.exp(float(logs.mean())),
            bounds=order_bounds(crossings, alpha),
            task_count=int(column.in_use.sum()),
            baseline_runs=int((column.known & ~arm).sum()),
            candidate_runs=int((column.known & arm).sum()),
        )


class PointsMeasure:
    """Difference of the rates of bad runs; each task counts by its rate.

    Estimator: mean over tasks of the candidate's rate minus the baseline's.
    The statistic takes the largest over `bad` and each way of being bad.
    """

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self.metric = metric
        self._sample = sample
        bad, self._kinds = _bad_runs(metric, sample)
        self.column = Column.of(sample, bad)

    def columns(self) -> Floats:
        sample, column = self._sample, self.column
        scores = np.column_stack([column.pooled, self._kinds])
        arm = (sample.is_candidate & column.in_use[sample.task]).astype(np.float64)
        columns: Floats = np.column_stack([standardised(scores), column.by_arm, arm])
        return columns * sample.swing[:, None]

    def see(self, rows: slice, labels: Bools) -> None:
        return None

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        column, arm = self.column, self._sample.is_candidate
        scores, bad, moved = sums[:, :-2], sums[:, -2], sums[:, -1]
        bounds = order_bounds(points_crossings(bad[0] - bad[1:], moved[0] - moved[1:]), alpha)
        if bounds is not None:
            bounds = (bounds[0], widened_upper(self._sample, column, bounds[1], alpha))
        base, cand = float(column.baseline_means.mean()), float(column.candidate_means.mean())
        return Evidence(
            metric=self.metric,
            worse=largest(scores, tail=1),
            better=largest(scores[:, :1], tail=-1),
            baseline=base,
            candidate=cand,
            change=float((column.candidate_means - column.baseline_means).mean()),
            typical=None,
            bounds=bounds,
            task_count=int(column.in_use.sum()),
            baseline_runs=int((column.known & ~arm).sum()),
            candidate_runs=int((column.known & arm).sum()),
            mix_p=_mix_p(scores) if self._kinds.shape[1] else None,
        )


class LatencyMeasure:
    """Ratio of the 95th percentiles of the model calls' latencies.

    Bounds come from at most 1,000 labellings (all, where all are enumerated).
    Up to 10,000 calls they invert the test: at a nominal 95 % they cover 96 to
    97 % with 20 tasks x 2 trials and with 50 x 2 (300 and 200 suites with
    Pareto tails in calls and latencies, nothing changed). Above, inversion
    would take seconds, and they are the permutation distribution of the log
    ratio once the estimate is taken out of the candidate's calls, which in
    suites of 20 x 2 would cover 89 to 92 %.
    """

    def __init__(self, metric: Metric, sample: Sample, labellings: Labellings) -> None:
        self.metric = metric
        self._sample = sample
        self._is_candidate = sample.is_candidate[sample.call_run]
        self._baseline = p95(sample.call_latency_ms[~self._is_candidate])
        self._candidate = p95(sample.call_latency_ms[self._is_candidate])
        self._ratio = ratio_of(self._candidate, self._baseline)
        column_of_run = np.empty(len(labellings.order), np.int64)
        column_of_run[labellings.order] = np.arange(len(labellings.order))
        self._columns = column_of_run[sample.call_run]
        self._test = LatencyTest(self._columns, sample.call_latency_ms, len(labellings.order))
        self._differences = np.empty(labellings.row_count)
        rows = labellings.row_count
        # Enumerated labellings come stratum by stratum: the first of them are no fair sample.
        self._bound_rows = rows if labellings.is_exact else min(rows, BOUND_ROWS + 1)
        self._has_bounds = 0 < self._ratio < math.inf
        self._is_inverted = self._columns.size <= MOST_INVERTED_CALLS
        self._labels: list[Bools] = []
        self._null: list[Floats] = []

    def columns(self) -> Floats:
        return np.empty((self._sample.task.size, 0))

    def see(self, rows: slice, labels: Bools) -> None:
        self._differences[rows] = self._test.differences(labels)
        part = labels[: max(0, self._bound_rows - rows.start)]
        if not self._has_bounds or not len(part):
            return
        if self._is_inverted:
            self._labels.append(part)
        else:
            undone = self._undone(math.log(self._ratio), SLOWEST_SHARE)
            self._null.append(undone.differences(part))

    def _undone(self, change: float, slowest_share: float) -> LatencyTest:
        """The test once a logarithmic change is taken out of the candidate's calls."""
        factor = np.where(self._is_candidate, math.exp(-change), 1.0)
        latencies = self._sample.call_latency_ms * factor
        runs = self._sample.task.size
        return LatencyTest(self._columns, latencies, runs, slowest_share=slowest_share)

    def _enough_calls(self) -> float:
        """Share of the calls that holds both arms' p95 even when all of one arm are slower."""
        share = float(self._is_candidate.mean())
        return max(share, 1 - share) + SHARE_ABOVE * min(share, 1 - share) + 2 / self._columns.size

    def _bounds(self, alpha: float) -> tuple[float, float] | None:
        if not self._has_bounds:
            return None
        estimate = math.log(self._ratio)
        if self._is_inverted:
            labels, share = np.concatenate(self._labels), min(1.0, self._enough_calls())
            bounds = scale_bounds(
                lambda change: self._undone(change, share).differences(labels), estimate, alpha
            )
        else:
            null = order_bounds(np.concatenate(self._null)[1:], alpha)
            bounds = None if null is None else (estimate - null[1], estimate - null[0])
        return None if bounds is None else (math.exp(bounds[0]), math.exp(bounds[1]))

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        sample = self._sample
        differences = self._differences[:, None]
        with_calls = np.zeros(sample.task.size, np.bool_)
        with_calls[sample.call_run] = True
        base, cand = with_calls & ~sample.is_candidate, with_calls & sample.is_candidate
        both = np.intersect1d(sample.task[base], sample.task[cand])
        return Evidence(
            metric=self.metric,
            worse=largest(differences, tail=1),
            better=largest(differences, tail=-1),
            baseline=self._baseline,
            candidate=self._candidate,
            change=self._ratio,
            typical=None,
            bounds=self._bounds(alpha),
            task_count=len(both),
            baseline_runs=int(base.sum()),
            candidate_runs=int(cand.sum()),
        )


def known_values(metric: Metric, sample: Sample) -> Floats:
    """A metric's value of each run, NaN where unknown; stop reasons: 0 where known."""
    if metric.name == "stop_reason" and sample.stop is not None:
        return np.where(sample.stop == UNKNOWN, np.nan, 0.0)
    values = sample.values[metric.name]
    return np.where(values == 0, np.nan, values) if metric.zero_is_unknown else values


def ratio_of(candidate: float, baseline: float) -> float:
    """candidate / baseline; 1 for 0/0 and infinite from 0."""
    if baseline > 0:
        return candidate / baseline
    return math.inf if candidate > 0 else 1.0


def _bad_runs(metric: Metric, sample: Sample) -> tuple[Floats, Floats]:
    """1 for a bad run, 0 for a good one, NaN unknown; and one column per way of being bad."""
    if sample.stop is None or metric.name != "stop_reason":
        return 1 - sample.values[metric.name], np.empty((sample.task.size, 0))
    stop = sample.stop
    bad = np.where(stop == UNKNOWN, np.nan, (stop > 0).astype(np.float64))
    reasons = range(1, len(sample.stop_reasons))
    seen = [i for i in reasons if bool((stop == i).any())]
    kinds = [Column.of(sample, np.where(np.isnan(bad), np.nan, stop == i)).pooled for i in seen]
    return bad, np.column_stack(kinds) if kinds else np.empty((stop.size, 0))


def _mix_p(differences: Floats) -> float:
    """P-value of the sum over stop reasons of D^2 / var, under the same labellings."""
    centred = differences - differences.mean(axis=0)
    variance = centred.var(axis=0)
    varies = variance > 0
    statistic = np.round((centred[:, varies] ** 2 / variance[varies]).sum(axis=1), 4)
    return float(np.mean(statistic >= statistic[0]))
