"""The 95th percentile of values, such as latencies of calls, under relabelling of their runs.

Values follow their run: a run's calls are alike, so a test that swaps calls
one by one would take 10 correlated calls for 10 facts.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flightlog.analysis.stats.sample import Bools, Floats, Ints

SHARE_ABOVE = 0.05
LARGEST_SHARE = 0.25
LARGEST_SHARE_OF_MANY = 0.125
MANY_VALUES = 200_000
"""Above these the p95 of a relabelled arm lies so near to that of all that an eighth holds it."""
Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints32: TypeAlias = npt.NDArray[np.int32]
_ONES = np.array([number.bit_count() for number in range(256)], np.uint8)


def p95(values: Floats) -> float:
    """95th percentile: the value with floor(5 % of n) values above it; NaN of nothing."""
    if not values.size:
        return math.nan
    above = min(values.size - 1, math.floor(SHARE_ABOVE * values.size))
    return float(np.partition(values, values.size - 1 - above)[values.size - 1 - above])


class QuantileTest:
    """Difference of log p95 between the arms, for any labelling of the runs.

    Only the largest values are looked at, by default a quarter of all, of very many an
    eighth; where the 95th percentile of an arm lies below them, the smallest of them stands in.
    That is a fixed rule, the same for all labellings, so the test stays exact.

    Args:
        value_column: column of each value's run in a block of labellings.
        values: of the runs, above 0.
        run_count: columns of a block.
        largest_share: share of the values that is looked at.
    """

    def __init__(
        self,
        value_column: Ints,
        values: Floats,
        run_count: int,
        *,
        largest_share: float | None = None,
    ) -> None:
        if largest_share is None:
            is_many = values.size > MANY_VALUES
            largest_share = LARGEST_SHARE_OF_MANY if is_many else LARGEST_SHARE
        largest = np.argsort(-values, kind="stable")
        kept = largest[: max(2, math.ceil(largest_share * values.size))]
        self._logs = np.log(np.maximum(values[kept], 1e-9))
        self._columns = value_column[kept]
        self._counts = np.bincount(value_column, minlength=run_count).astype(np.float64)
        self._last = len(kept) - 1

    def differences(self, labels: Bools) -> Floats:
        """log p95 of the candidate minus log p95 of the baseline, per labelling (row)."""
        candidate_values = labels @ self._counts
        baseline_values = self._counts.sum() - candidate_values
        among_largest = np.ascontiguousarray(labels.T)[self._columns]
        eights = np.packbits(among_largest, axis=0)
        set_until = np.cumsum(_ONES[eights], axis=0, dtype=np.int32)
        all_until = np.arange(8, 8 * len(eights) + 8, 8, dtype=np.int32)[:, None]
        candidate = self._log_p95(eights, set_until, candidate_values)
        baseline = self._log_p95(~eights, all_until - set_until, baseline_values)
        return candidate - baseline

    def _log_p95(self, eights: Bytes, until: Ints32, counts: Floats) -> Floats:
        rank = np.floor(SHARE_ABOVE * counts).astype(np.int32) + 1
        logs: Floats = self._logs[np.minimum(_places(eights, until, rank), self._last)]
        return logs


def _places(eights: Bytes, until: Ints32, rank: Ints32) -> Ints:
    """Place of the rank-th flag that is set, per column; beyond the end where there are fewer.

    Args:
        eights: flags, eight in a byte, x columns.
        until: flags set so far, after each of these bytes.
        rank: from 1, per column.
    """
    full: Ints = np.sum(until < rank, axis=0)
    columns, found = np.arange(len(rank)), np.minimum(full, len(eights) - 1)
    byte = eights[found, columns]
    before = until[found, columns] - _ONES[byte]
    bits = np.cumsum(np.unpackbits(byte[None], axis=0), axis=0, dtype=np.int32)
    places: Ints = 8 * full + np.sum(before + bits < rank, axis=0)
    return places
