"""Single runs that made far more calls than the others: each is told of on its own."""

from __future__ import annotations

from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Floats, Ints
from flightlog.analysis.window import Window

_FEWEST_CALLS: Final = 50
_TIMES_MEDIAN: Final = 10.0
_GAP: Final = 3.0
_MOST_SHARE: Final = 0.05
_FEWEST_RUNS: Final = 5


def runaways_of(window: Window) -> Ints:
    """Runs with so many calls that they are no part of the usual, in order.

    At least 50 calls, ten times the median of the agent's runs, and three times the largest
    run of the rest: long runs are common, a gap above them is not. Where more than one run in
    twenty is so, it is the usual. Calls of models and tools, attempts and refusals included.
    """
    calls = window.floats("tool_calls") + window.floats("model_calls")
    names, which = window.texts("agent")
    found: list[int] = []
    for number in range(len(names)):
        mine = np.flatnonzero(which == number)
        if len(mine) >= _FEWEST_RUNS:
            found += mine[_far_above(calls[mine])].tolist()
    return np.array(sorted(found), dtype=np.int64)


def _far_above(calls: Floats) -> Ints:
    order = np.argsort(-calls, kind="stable")
    most = max(1, int(_MOST_SHARE * len(calls)))
    least = max(_FEWEST_CALLS, _TIMES_MEDIAN * float(np.median(calls)))
    for count in range(most, 0, -1):
        smallest, next_one = calls[order[count - 1]], calls[order[count]]
        if smallest >= least and smallest >= _GAP * max(next_one, 1):
            return order[:count]
    return order[:0]
