"""Differences of shares: success, stop reasons, failed tool calls, retries."""

from __future__ import annotations

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.bounds import order_bounds, points_crossings, widened_upper
from flightlog.analysis.stats.measures.base import Evidence, known_values
from flightlog.analysis.stats.sample import Column, Counts, Floats, Sample
from flightlog.analysis.stats.scores import largest, standardised


class PointsMeasure:
    """Difference of shares, such as of the runs that failed; each task counts by its mean.

    A run's value is 0 or 1, or a share of its own, such as of its tool calls.
    Estimator: mean over tasks of the candidate's mean minus the baseline's.
    The statistic takes the largest over the share and, where the sample counts
    them, each way of being bad.
    """

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self.metric = metric
        self._sample = sample
        values = known_values(metric, sample)
        self.column = Column.of(sample, values if metric.higher_is_worse else 1 - values)
        ways = sample.counts.get(metric.name, Counts((), np.empty((sample.task.size, 0))))
        self._ways = [Column.of(sample, way).pooled for way in ways.table.T if np.nansum(way) > 0]

    def columns(self) -> Floats:
        sample, column = self._sample, self.column
        scores = np.column_stack([column.pooled, *self._ways])
        arm = (sample.is_candidate & column.in_use[sample.task]).astype(np.float64)
        columns: Floats = np.column_stack([standardised(scores), column.by_arm, arm])
        return columns * sample.swing[:, None]

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
        )
