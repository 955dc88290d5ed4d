"""Many runs: the labellings' normal limit, from their exact mean and covariance.

Within a stratum of n runs of which c are candidate, a random relabelling sums c of n scores drawn
without replacement: mean c x̄ and covariance c (n - c) / (n (n - 1)) times the sum of squares and
products about x̄. Sums over many strata are near normal, so a few thousand draws of the sums stand
for labellings that would not fit into memory; tests, step-down and bounds go on as with those.

Source: finite population sampling, Cochran 1977, ch. 2; the combinatorial central limit theorem
(Hoeffding 1951; for strata, Bickel and Freedman 1984).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flightlog.analysis.stats.labellings import Labellings, Watcher
from flightlog.analysis.stats.sample import Bools, Floats, Ints

SEEN_ROWS = 299
"""Labellings that are really drawn, for what is no sum of scores."""


class NormalLabellings:
    """Draws of the sums that relabelling would give. Attributes as of `Labellings`."""

    is_exact = False
    is_normal = True

    def __init__(self, strata: Ints, is_candidate: Bools, *, shuffles: int, seed: int) -> None:
        self._strata, self._is_candidate = strata, is_candidate
        self._seed = seed
        self._few = Labellings(strata, is_candidate, shuffles=SEEN_ROWS, seed=seed)
        self.order = self._few.order
        self.is_free = self._few.is_free
        self.row_count = shuffles + 1
        self.seen_rows = self._few.row_count
        self.min_p = max(self._few.least_p, 1 / self.row_count)

    def sums(self, columns: Floats, watchers: Sequence[Watcher]) -> Floats:
        """Sums of the columns over each draw's candidate runs; row 0 is the observed one."""
        if watchers:
            self._few.sums(np.empty((len(self._strata), 0)), watchers)
        mean, spread = self._moments(columns)
        rng = np.random.Generator(np.random.PCG64(self._seed))
        draws = rng.standard_normal((self.row_count, columns.shape[1]))
        sums: Floats = mean + draws @ spread
        sums[0] = columns[self._is_candidate].sum(axis=0)
        return sums

    def _moments(self, columns: Floats) -> tuple[Floats, Floats]:
        """Mean of the sums, and the symmetric root of their covariance."""
        strata, count = self._strata, int(self._strata.max()) + 1
        n = np.bincount(strata, minlength=count).astype(np.float64)
        c = np.bincount(strata, self._is_candidate, minlength=count)
        means = (
            np.column_stack([np.bincount(strata, column, minlength=count) for column in columns.T])
            / np.maximum(n, 1)[:, None]
        )
        factor = np.zeros(count)
        np.divide(c * (n - c), n * (n - 1), out=factor, where=n > 1)
        centred = (columns - means[strata]) * np.sqrt(factor)[strata][:, None]
        values, vectors = np.linalg.eigh(centred.T @ centred)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        return (c[:, None] * means).sum(axis=0), root


def labellings_of(
    strata: Ints, is_candidate: Bools, *, shuffles: int, seed: int, most_labels: int
) -> Labellings | NormalLabellings:
    """Labellings one by one, or where these would be too many, their normal limit.

    Args:
        strata: stratum of each run.
        is_candidate: arm of each run.
        shuffles: labellings drawn beside the observed one.
        seed: of the draws.
        most_labels: runs x labellings up to which they are drawn.
    """
    drawn = Labellings(strata, is_candidate, shuffles=shuffles, seed=seed)
    if drawn.is_exact or drawn.row_count * len(strata) <= most_labels:
        return drawn
    return NormalLabellings(strata, is_candidate, shuffles=shuffles, seed=seed)
