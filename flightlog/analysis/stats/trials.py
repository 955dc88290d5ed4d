"""How many trials would settle what is still open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from flightlog.analysis.stats.sample import Sample

POWER = 0.80
MOST_TRIALS = 1_000


@dataclass(frozen=True, slots=True)
class Trials:
    """Trials per task that would settle a metric with a power of 80 %.

    Attributes:
        both: per arm, when both arms are run again; None above 1,000.
        candidate_only: of the candidate against the baseline as it is; None
            when the baseline is too small for any number.
    """

    both: int | None
    candidate_only: int | None


def trials_needed(
    sample: Sample, *, estimate: float, tolerance: float, standard_error: float, alpha: float
) -> Trials | None:
    """Trials that would show a metric to lie within, or beyond, its tolerance.

    Args:
        sample: the comparison so far.
        estimate: change for the worse; a logarithm for ratios, else a difference.
        tolerance: on the same scale.
        standard_error: of the estimate, from its bounds.
        alpha: error rate.

    Returns:
        None when the error is unknown or zero.

    Assumes: the variance of the estimate falls as 1/trials within each arm
    (tasks are fixed, so their spread does not count). Source: sample size of
    a one-sided z-test; Miller 2024, Adding Error Bars to Evals, section 5.
    """
    if not (math.isfinite(standard_error) and standard_error > 0 and math.isfinite(estimate)):
        return None
    gap = tolerance - estimate if estimate < tolerance / 2 else max(estimate, tolerance)
    normal = NormalDist()
    target = (gap / (normal.inv_cdf(1 - alpha) + normal.inv_cdf(POWER))) ** 2
    per_baseline = float(np.mean(1 / sample.baseline_trials))
    per_candidate = float(np.mean(1 / sample.candidate_trials))
    scale = target * (per_baseline + per_candidate) / standard_error**2
    both = math.ceil(2 / scale)
    one = math.ceil(1 / (scale - per_baseline)) if scale > 1.02 * per_baseline else None
    return Trials(
        both if both <= MOST_TRIALS else None,
        one if one is not None and one <= MOST_TRIALS else None,
    )


def trials_for_any_test(task_count: int, alpha: float) -> int:
    """Fewest trials per arm with which a p-value can reach alpha at all."""
    trials = 1
    while math.comb(2 * trials, trials) ** task_count * alpha < 1 - 1e-12:
        trials += 1
    return trials


def standard_error(lower: float, upper: float, alpha: float) -> float:
    """Standard error behind a pair of one-sided bounds, taken as normal."""
    return (upper - lower) / (2 * NormalDist().inv_cdf(1 - alpha))
