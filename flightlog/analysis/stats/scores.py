"""Scores: what a run counts for in a test. No score changes when runs of a task swap arms.

A rank score sees a shift that heavy tails hide from a mean; a mean sees the
few huge runs that ranks hide. The gate takes the largest of four standardised
scores, and pays for the choice by taking the largest in every relabelling too.
"""

from __future__ import annotations

import numpy as np

from flightlog.analysis.stats.sample import Bools, Floats, Ints, Sample

LOG_DECIMALS = 9
T_DECIMALS = 4
NO_SPREAD = 1e-9


def half_smallest(values: Floats) -> float:
    """Half the smallest positive value: what is added before a logarithm; 1 without one."""
    positive = values[values > 0]
    return float(positive.min()) / 2 if positive.size else 1.0


def ratio_scores(sample: Sample, values: Floats, in_use: Bools, offset: float) -> Floats:
    """The four scores of a metric whose change is a ratio, one column each.

    1. the value; 2. the value over its task's mean; 3. the aligned rank: rank
    over all runs of the logarithm minus its task's mean; 4. the rank within
    the task. Ranks are midranks. Tasks out of use score 0.

    Source: aligned ranks of Hodges and Lehmann 1962; within-block ranks of
    van Elteren 1960.
    """
    used = in_use[sample.task]
    everyone = np.ones(values.size, np.bool_)
    mean = sample.task_means(values, everyone)[sample.task]
    share = np.zeros(values.size)
    np.divide(values, mean, out=share, where=mean != 0)
    logs = np.log(values + offset)
    aligned = np.round(logs - sample.task_means(logs, everyone)[sample.task], LOG_DECIMALS)
    trials = np.bincount(sample.task)[sample.task]
    within = midranks_within(values, sample.task) / (trials + 1)
    scores = np.column_stack([values, share, midranks(aligned), within])
    return np.where(used[:, None], scores, 0.0)


def midranks(values: Floats) -> Floats:
    """Rank of each value from 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2)[place]
    return ranks


def midranks_within(values: Floats, task: Ints) -> Floats:
    """Rank of each value within its task, from 1; equal values share the mean of their ranks."""
    order = np.lexsort((values, task))
    v, t = values[order], task[order]
    starts_task = np.concatenate([[True], t[1:] != t[:-1]])
    starts_tie = starts_task | np.concatenate([[True], v[1:] != v[:-1]])
    position = np.arange(values.size)
    task_start = np.maximum.accumulate(np.where(starts_task, position, 0))
    tie = np.cumsum(starts_tie) - 1
    tie_start = position[starts_tie]
    tie_size = np.diff(np.append(tie_start, values.size))
    ranks = np.empty(values.size)
    ranks[order] = (tie_start[tie] + (tie_size[tie] + 1) / 2) - task_start
    return ranks


def standardised(scores: Floats) -> Floats:
    """Scores centred and scaled to unit spread; columns without spread become 0."""
    centred = scores - scores.mean(axis=0)
    spread = np.abs(centred).max(axis=0)
    scaled: Floats = np.zeros(scores.shape)
    np.divide(centred, spread, out=scaled, where=spread > NO_SPREAD * np.abs(scores).max(axis=0))
    return scaled


def largest(differences: Floats, *, tail: int) -> Floats:
    """Test statistic of every labelling: the largest standardised score difference.

    Args:
        differences: labellings x scores; NaN nowhere.
        tail: 1 for a rise of the candidate, -1 for a fall.

    Returns:
        One value per labelling, rounded to 4 decimals so that ties are ties
        whatever the order of summation; 0 everywhere when no score varies.
    """
    centred = differences - differences.mean(axis=0)
    sd = centred.std(axis=0)
    varies = sd > NO_SPREAD * np.maximum(np.abs(differences).max(axis=0), 1e-300)
    if not varies.any():
        return np.zeros(len(differences))
    best: Floats = np.round(tail * centred[:, varies] / sd[varies], T_DECIMALS).max(axis=1)
    return best
