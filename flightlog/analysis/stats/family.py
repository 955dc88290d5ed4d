"""P-values over several metrics at once, from one set of labellings."""

from __future__ import annotations

import numpy as np

from flightlog.analysis.stats.sample import Floats


def tail_shares(statistics: Floats) -> Floats:
    """For every labelling, the share of labellings with a statistic at least as large.

    Args:
        statistics: labellings x metrics; row 0 is the observed labelling.

    Returns:
        The same shape; row 0 holds the p-values, never below 1 / labellings.
    """
    rows = len(statistics)
    shares = np.empty_like(statistics)
    for j, column in enumerate(statistics.T):
        shares[:, j] = (rows - np.searchsorted(np.sort(column), column, side="left")) / rows
    return shares


def adjusted(statistics: Floats) -> Floats:
    """P-value of each metric, adjusted so that any false alarm at all stays within alpha.

    Step-down min-P: metrics in order of their p-values; each is compared with
    the smallest p-value, over the metrics not yet passed, that relabelling
    alone gives. Dependence between the metrics is used, not assumed away.

    Args:
        statistics: labellings x metrics; row 0 is the observed labelling.

    Source: Westfall and Young 1993, Resampling-Based Multiple Testing,
    algorithm 2.8; Ge, Dudoit and Speed 2003.
    """
    shares = tail_shares(statistics)
    observed = shares[0]
    order = np.argsort(observed, kind="stable")
    p = np.empty(len(order))
    running = 0.0
    smallest = np.minimum.accumulate(shares[:, order[::-1]], axis=1)[:, ::-1]
    for place, j in enumerate(order):
        running = max(running, float(np.mean(smallest[:, place] <= observed[j])))
        p[j] = running
    return p
