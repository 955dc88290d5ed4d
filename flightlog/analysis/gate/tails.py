"""The slow end of a latency, both sides, for drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Floats, Sample

SHARES_ABOVE: Final = (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.075, 0.05, 0.03, 0.02, 0.01, 0.005)


@dataclass(frozen=True, slots=True)
class Tail:
    """Upper quantiles of one metric.

    Attributes:
        metric: a metric with many values per run.
        shares_above: share of the values above each quantile, falling; as far as the smaller
            side has at least one value above.
        baseline: the quantiles, in the unit of the metric.
        candidate: the same of the candidate.
    """

    metric: str
    shares_above: tuple[float, ...]
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]


def tails_of(sample: Sample) -> tuple[Tail, ...]:
    """The tails of all metrics that have values on both sides."""
    found = []
    for name, series in sample.series.items():
        arm = sample.is_candidate[series.run]
        sides = series.value[~arm], series.value[arm]
        fewest = min(len(side) for side in sides)
        shares = tuple(share for share in SHARES_ABOVE if share * fewest >= 1)
        if shares:
            base, cand = (_upper(side, shares) for side in sides)
            found.append(Tail(name, shares, base, cand))
    return tuple(found)


def _upper(values: Floats, shares: tuple[float, ...]) -> tuple[float, ...]:
    ordered = np.sort(values)
    above = np.floor(np.array(shares) * len(values)).astype(int)
    return tuple(ordered[len(values) - 1 - above].tolist())
