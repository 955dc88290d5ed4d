"""Ratios of 95th percentiles: latency of model calls, of tool calls, of runs."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.bounds import order_bounds, scale_bounds
from flightlog.analysis.stats.labellings import Labellings
from flightlog.analysis.stats.measures.base import Evidence, inverted, ratio_of
from flightlog.analysis.stats.quantile import SHARE_ABOVE, QuantileTest, p95
from flightlog.analysis.stats.sample import Bools, Floats, Sample
from flightlog.analysis.stats.scores import largest

if TYPE_CHECKING:
    from flightlog.analysis.stats.normal import NormalLabellings

BOUND_ROWS = 1_000
MOST_INVERTED = 10_000


class QuantileMeasure:
    """Ratio of the 95th percentiles of values of which a run has many, such as latencies.

    Bounds come from at most 1,000 labellings (all, where all are enumerated).
    Up to 10,000 values they invert the test: at a nominal 95 % they cover 96 to
    97 % with 20 tasks x 2 trials and with 50 x 2 (300 and 200 suites with
    Pareto tails in calls and latencies, nothing changed). Above, inversion
    would take seconds, and they are the permutation distribution of the log
    ratio once the estimate is taken out of the candidate's values, which in
    suites of 20 x 2 would cover 89 to 92 %.
    """

    def __init__(
        self, metric: Metric, sample: Sample, labellings: Labellings | NormalLabellings
    ) -> None:
        self.metric = metric
        self._sample = sample
        self._series = series = sample.series[metric.name]
        self._is_candidate = sample.is_candidate[series.run]
        self._baseline = p95(series.value[~self._is_candidate])
        self._candidate = p95(series.value[self._is_candidate])
        self._ratio = ratio_of(self._candidate, self._baseline)
        column_of_run = np.empty(len(labellings.order), np.int64)
        column_of_run[labellings.order] = np.arange(len(labellings.order))
        self._columns = column_of_run[series.run]
        self._test = QuantileTest(self._columns, series.value, len(labellings.order))
        self._differences = np.empty(labellings.row_count)
        self._seen = rows = labellings.seen_rows
        self._seed = sample.seed
        # Enumerated labellings come stratum by stratum: the first of them are no fair sample.
        self._bound_rows = rows if labellings.is_exact else min(rows, BOUND_ROWS + 1)
        self._has_bounds = 0 < self._ratio < math.inf
        self._is_inverted = self._columns.size <= MOST_INVERTED
        self._labels: list[Bools] = []
        self._null: list[Floats] = []
        self._unchanged: QuantileTest | None = None

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
            if self._unchanged is None:
                self._unchanged = self._undone(math.log(self._ratio))
            self._null.append(self._unchanged.differences(part))

    def _undone(self, change: float, largest_share: float | None = None) -> QuantileTest:
        """The test once a logarithmic change is taken out of the candidate's values."""
        factor = np.where(self._is_candidate, math.exp(-change), 1.0)
        values = self._series.value * factor
        runs = self._sample.task.size
        return QuantileTest(self._columns, values, runs, largest_share=largest_share)

    def _enough(self) -> float:
        """Share of the values that holds both arms' p95 even when all of one arm are larger."""
        share = float(self._is_candidate.mean())
        return max(share, 1 - share) + SHARE_ABOVE * min(share, 1 - share) + 2 / self._columns.size

    def _bounds(self, alpha: float) -> tuple[float, float] | None:
        if not self._has_bounds:
            return None
        estimate = math.log(self._ratio)
        if self._is_inverted:
            labels, share = np.concatenate(self._labels), min(1.0, self._enough())
            bounds = scale_bounds(
                lambda change: self._undone(change, share).differences(labels), estimate, alpha
            )
        else:
            found = np.concatenate(self._null)[1:]
            if self._seen < len(self._differences):  # too few for order statistics far out
                z = NormalDist().inv_cdf(1 - alpha) * float(found.std())
                null: tuple[float, float] | None = (-z, z)
            else:
                null = order_bounds(found, alpha)
            bounds = None if null is None else (estimate - null[1], estimate - null[0])
        return None if bounds is None else (math.exp(bounds[0]), math.exp(bounds[1]))

    def _all_differences(self) -> Floats:
        """Those of the labellings that were seen; the rest as normal as those."""
        rest = len(self._differences) - self._seen
        if rest:
            rng = np.random.Generator(np.random.PCG64([self._seed, len(self.metric.name)]))
            seen = self._differences[1 : self._seen]
            self._differences[self._seen :] = rng.normal(seen.mean(), seen.std(), rest)
        return self._differences[:, None]

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        sample = self._sample
        differences = self._all_differences()
        has_value = np.zeros(sample.task.size, np.bool_)
        has_value[self._series.run] = True
        base, cand = has_value & ~sample.is_candidate, has_value & sample.is_candidate
        both = np.intersect1d(sample.task[base], sample.task[cand])
        found = Evidence(
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
        return found if self.metric.higher_is_worse else inverted(found)
