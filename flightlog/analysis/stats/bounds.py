"""One-sided bounds of a change, exact by inverting the permutation test.

A change theta is inside the bound when, after undoing it on the candidate's
runs, the observed difference is not extreme among the relabellings. For a
mean ratio and for a difference of rates the theta at which one labelling
overtakes the observed one has a closed form, so sorting these gives the bound.

Source: Garthwaite 1996 and Tritchler 1984, confidence limits from
permutation tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from flightlog.analysis.stats.sample import Bools, Column, Floats, Sample

FEWEST_MIXED_TASKS = 5
SCALE_DECIMALS = 9
FIRST_STEP = 0.05
LAST_STEP = 0.0005
FARTHEST = 12.0


def order_bounds(crossings: Floats, alpha: float) -> tuple[float, float] | None:
    """Lower and upper one-sided bound at level 1 - alpha; None when too few labellings.

    Args:
        crossings: theta at which each relabelling overtakes the observed labelling.
        alpha: error rate of each bound.
    """
    rows = len(crossings) + 1
    place = math.floor(alpha * rows + 1e-9) - 1
    if place < 0:
        return None
    ordered = np.sort(crossings)
    return float(ordered[place]), float(ordered[len(crossings) - 1 - place])


def ratio_crossings(gained: Floats, lost: Floats) -> Floats:
    """Ratio at which each relabelling overtakes the observed one.

    Args:
        gained: candidate values that leave the candidate's arm, weighted.
        lost: baseline values that enter it, weighted.
    """
    crossings = np.full(gained.shape, np.inf)
    np.divide(gained, lost, out=crossings, where=lost > 0)
    return np.where((gained <= 0) & (lost <= 0), 1.0, crossings)


def points_crossings(fallen: Floats, moved: Floats) -> Floats:
    """Difference of rates at which each relabelling overtakes the observed one."""
    crossings = np.zeros(fallen.shape)
    np.divide(fallen, moved, out=crossings, where=moved > 0)
    return crossings


def scale_bounds(
    differences: Callable[[float], Floats], estimate: float, alpha: float
) -> tuple[float, float] | None:
    """Bounds of a logarithmic change by trying changes until the test rejects them.

    Exact, up to the step of the search, when the change multiplies all of the
    candidate's values alike. For statistics without a closed form.

    Args:
        differences: the test's statistic of every labelling (row 0: observed)
            once a logarithmic change is undone.
        estimate: where the search begins.
        alpha: error rate of each bound.

    Returns:
        Lower and upper bound, infinite where no change is rejected; None when
        too few labellings.
    """
    if math.floor(alpha * len(differences(estimate)) + 1e-9) < 1:
        return None

    def is_rejected(change: float, tail: int) -> bool:
        found = tail * np.round(differences(change), SCALE_DECIMALS)
        return bool(np.mean(found >= found[0]) <= alpha)

    return _edges(is_rejected, estimate)


def _edges(is_rejected: Callable[[float, int], bool], start: float) -> tuple[float, float]:
    """The last change below and above `start` that each one-sided test does not reject."""
    edges = []
    for tail in (1, -1):
        # A test for a rise (1) rejects changes that are too small, so it gives the lower bound.
        from_start = is_rejected(start, tail)
        step = FIRST_STEP * (tail if from_start else -tail)
        near, far = start, start + step
        while is_rejected(far, tail) == from_start and abs(far - start) < FARTHEST:
            step *= 2
            near, far = far, far + step
        if abs(far - start) >= FARTHEST:
            edges.append(-tail * math.inf)
            continue
        kept, rejected = (far, near) if from_start else (near, far)
        while abs(kept - rejected) > LAST_STEP:
            middle = (kept + rejected) / 2
            kept, rejected = (kept, middle) if is_rejected(middle, tail) else (middle, rejected)
        edges.append(kept)
    return edges[0], edges[1]


def widened_upper(sample: Sample, column: Column, upper: float, alpha: float) -> float:
    """The upper bound of a rise of bad runs where relabelling says too little.

    With fewer than 5 tasks of mixed outcomes hardly any relabelling differs
    from the observed one, and its bound would be too near 0. Then the bound
    is at least what the candidate's bad runs in mixed tasks allow: 1 -
    alpha^(1/n) for none in n runs, Wilson's bound otherwise.

    Source: Clopper and Pearson 1934 at zero events; Wilson 1927.
    """
    known, task = column.known, sample.task
    bad = np.bincount(task[known], column.pooled[known], minlength=sample.task_count)
    runs = np.bincount(task[known], minlength=sample.task_count)
    is_mixed: Bools = (bad > 0) & (bad < runs)
    if is_mixed.sum() >= FEWEST_MIXED_TASKS:
        return upper
    candidates = known & sample.is_candidate
    n = int(candidates.sum())
    events = float(column.pooled[candidates & is_mixed[task]].sum())
    if n == 0:
        return 1.0
    limit = 1 - alpha ** (1 / n) if events == 0 else wilson_upper(events, n, alpha)
    return max(upper, limit)


def wilson_upper(events: float, n: int, alpha: float) -> float:
    """Wilson's one-sided upper bound of a rate, from `events` in `n`."""
    z = NormalDist().inv_cdf(1 - alpha)
    rate = events / n
    spread = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (rate + z * z / (2 * n) + spread) / (1 + z * z / n)
