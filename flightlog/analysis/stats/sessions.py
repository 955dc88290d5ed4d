"""The guard of a stored baseline: sessions differ even when the agent does not."""

from __future__ import annotations

import math

import numpy as np

from flightlog.analysis.stats.sample import UNKNOWN, Column, Sample

FEWEST_SESSIONS = 3
_T95 = (
    6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
    1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
    1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697,
)  # fmt: skip
"""95 % quantiles of Student's t with 1 to 30 degrees of freedom."""


def exceeds_sessions(sample: Sample, column: Column, offset: float) -> bool:
    """True when the candidate lies above what the baseline's sessions differ by.

    The candidate's mean logarithm (each value against its task's mean over
    the baseline) minus the mean of the baseline's session means must be above
    t * sd * sqrt(1 + 1/S), the prediction bound of one more session.

    Assumes: session effects are normal on the log scale. Minimum: 3 baseline
    sessions; with fewer it is False. Source: prediction interval of a new
    observation, Student's t with S - 1 degrees of freedom.
    """
    if sample.session is None:
        return False
    logs = np.log(column.pooled + offset)
    base = column.known & ~sample.is_candidate
    aligned = logs - sample.task_means(logs, base)[sample.task]
    with_session = base & (sample.session != UNKNOWN)
    sessions, place = np.unique(sample.session[with_session], return_inverse=True)
    count = len(sessions)
    if count < FEWEST_SESSIONS:
        return False
    means = np.bincount(place, aligned[with_session]) / np.bincount(place)
    candidate = float(aligned[column.known & sample.is_candidate].mean())
    quantile = _T95[min(count - 1, len(_T95)) - 1]
    margin = quantile * float(means.std(ddof=1)) * math.sqrt(1 + 1 / count)
    return candidate - float(means.mean()) > margin
