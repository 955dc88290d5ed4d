"""The 95th percentile of call latencies under relabelling of their runs.

Calls follow their run: a run's calls are alike, so a test that swaps calls
one by one would take 10 correlated calls for 10 facts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from flightlog.analysis.stats.sample import Bools, Floats, Ints

SHARE_ABOVE = 0.05
SLOWEST_SHARE = 0.25


def p95(latencies: Floats) -> float:
    """95th percentile: the value with floor(5 % of n) values above it; NaN of nothing."""
    if not latencies.size:
        return math.nan
    above = min(latencies.size - 1, math.floor(SHARE_ABOVE * latencies.size))
    return float(np.partition(latencies, latencies.size - 1 - above)[latencies.size - 1 - above])


class LatencyTest:
    """Difference of log p95 between the arms, for any labelling of the runs.

    Only the slowest calls are looked at, by default a quarter of all; where the
    95th percentile of an arm lies below them, the fastest of them stands in.
    That is a fixed rule, the same for all labellings, so the test stays exact.

    Args:
        call_column: column of each call's run in a block of labellings.
        latencies: of the calls, above 0.
        run_count: columns of a block.
        slowest_share: share of the calls that is looked at.
    """

    def __init__(
        self,
        call_column: Ints,
        latencies: Floats,
        run_count: int,
        *,
        slowest_share: float = SLOWEST_SHARE,
    ) -> None:
        slowest = np.argsort(-latencies, kind="stable")
        kept = slowest[: max(2, math.ceil(slowest_share * latencies.size))]
        self._logs = np.log(np.maximum(latencies[kept], 1e-9))
        self._columns = call_column[kept]
        self._calls = np.bincount(call_column, minlength=run_count).astype(np.float64)
        self._last = len(kept) - 1

    def differences(self, labels: Bools) -> Floats:
        """log p95 of the candidate minus log p95 of the baseline, per labelling (row)."""
        candidate_calls = labels @ self._calls
        baseline_calls = self._calls.sum() - candidate_calls
        among_slowest = np.cumsum(labels[:, self._columns], axis=1, dtype=np.int32)
        places = np.arange(1, self._last + 2, dtype=np.int32)
        candidate = self._log_p95(among_slowest, candidate_calls)
        baseline = self._log_p95(places - among_slowest, baseline_calls)
        return candidate - baseline

    def _log_p95(self, among_slowest: npt.NDArray[np.int32], calls: Floats) -> Floats:
        rank = np.floor(SHARE_ABOVE * calls).astype(np.int32) + 1
        place = np.sum(among_slowest < rank[:, None], axis=1)
        logs: Floats = self._logs[np.minimum(place, self._last)]
        return logs
