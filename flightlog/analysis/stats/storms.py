"""Storms: candidate runs with many times the calls that their task ever took."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flightlog.analysis.stats.sample import Floats, Ints, Sample

TIMES_LARGEST = 5.0
FEWEST_SPIKES = 3
SHARE_OF_RUNS = 0.02
SUSPICIOUS_SPIKES = 2


@dataclass(frozen=True, eq=False)
class Storms:
    """The candidate's spikes and whether they are a storm.

    Attributes:
        rows: rows of the sample that are spikes, largest first.
        thresholds: calls above which each of them counts as one.
        is_storm: as many as max(3, 1 + 2 % of the candidate's runs).
        is_suspicious: two or more; no proof, but nothing to call OK.
    """

    rows: Ints
    thresholds: Floats
    is_storm: bool
    is_suspicious: bool


def storms_of(sample: Sample, tool_calls: Floats) -> Storms:
    """Candidate runs above 5 x the larger of their task's largest and the suite's median baseline.

    A few runs with ten times the calls move neither a rank nor, against heavy
    tails, a mean; counting them finds what no average does. On unchanged
    agents the rule costs at most half a point of false alarms.
    """
    calls = np.nan_to_num(tool_calls)
    base = ~sample.is_candidate
    largest = np.zeros(sample.task_count)
    np.maximum.at(largest, sample.task[base], calls[base])
    median = float(np.median(calls[base])) if base.any() else 0.0
    threshold = TIMES_LARGEST * np.maximum(largest, median)[sample.task]
    rows = np.flatnonzero(sample.is_candidate & (calls > threshold) & (threshold > 0))
    rows = rows[np.argsort(-calls[rows], kind="stable")]
    needed = max(FEWEST_SPIKES, 1 + math.ceil(SHARE_OF_RUNS * int(sample.is_candidate.sum())))
    return Storms(rows, threshold[rows], len(rows) >= needed, len(rows) >= SUSPICIOUS_SPIKES)
