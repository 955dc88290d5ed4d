"""Ratios of means: calls, tokens, cost, steps."""

from __future__ import annotations

import math

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.bounds import order_bounds, ratio_crossings
from flightlog.analysis.stats.measures.base import Evidence, inverted, known_values, ratio_of
from flightlog.analysis.stats.sample import Column, Floats, Sample
from flightlog.analysis.stats.scores import half_smallest, largest, ratio_scores, standardised


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

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        column, arm = self.column, self._sample.is_candidate
        scores, candidate, baseline = sums[:, :-2], sums[:, -2], sums[:, -1]
        gained, lost = candidate[0] - candidate[1:], baseline[1:] - baseline[0]
        crossings = ratio_crossings(gained, lost)
        base, cand = column.baseline_means, column.candidate_means
        logs = np.log(cand + self.offset) - np.log(base + self.offset)
        found = Evidence(
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
        return found if self.metric.higher_is_worse else inverted(found)
