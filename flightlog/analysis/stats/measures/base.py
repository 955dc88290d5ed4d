"""What every measure gives, and what it is asked for.

A measure hands its weighted scores to the one pass over all labellings and
gets their sums over the candidate's runs back, one row per labelling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.sample import Floats, Sample


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the data say about one metric, in the direction of harm.

    Attributes:
        metric: the metric.
        worse: statistic of every labelling for a change for the worse.
        better: the same for the better; all 0 where there is no better.
        baseline: mean of task means, or the quantile; of the bad share for points.
        candidate: the same of the candidate.
        change: ratio, or difference of bad shares; above 1 (0) is worse.
        typical: ratio of geometric task means; None but for ratios.
        bounds: one-sided lower and upper bound of `change`; None when there are too few labellings.
        task_count: tasks with a value in both arms.
        baseline_runs: runs with a value.
        candidate_runs: runs with a value.
        moved: what moved, in words; mixes only.
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
    moved: str = ""


class Measure(Protocol):
    """One metric on one sample."""

    metric: Metric

    def columns(self) -> Floats:
        """Weighted scores, runs x columns."""
        ...

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        """The evidence, from the sums of `columns` over each labelling's candidate runs."""
        ...


def known_values(metric: Metric, sample: Sample) -> Floats:
    """A metric's value of each run, NaN where unknown; a zero that means so is unknown."""
    values = sample.values[metric.name]
    return np.where(values == 0, np.nan, values) if metric.zero_is_unknown else values


def ratio_of(candidate: float, baseline: float) -> float:
    """candidate / baseline; 1 for 0/0 and infinite from 0."""
    if baseline > 0:
        return candidate / baseline
    return math.inf if candidate > 0 else 1.0


def inverted(found: Evidence) -> Evidence:
    """The evidence on a ratio whose fall is the harm: of the baseline over the candidate."""
    return replace(
        found,
        worse=found.better,
        better=found.worse,
        change=_inverse(found.change),
        typical=None if found.typical is None else _inverse(found.typical),
        bounds=None
        if found.bounds is None
        else (_inverse(found.bounds[1]), _inverse(found.bounds[0])),
    )


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio > 0 else math.inf
