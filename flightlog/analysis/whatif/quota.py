"""What the runs of one tenant may do in a sliding window, over recorded calls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from flightlog.analysis.stats.sample import Bools
from flightlog.analysis.whatif.history import History


@dataclass(frozen=True, slots=True)
class Quota:
    """As `budgets.per_tenant.<tenant>` in flightlog.yaml.

    Attributes:
        max_tool_calls: attempts in the window.
        window_seconds: length of the window.
    """

    max_tool_calls: int
    window_seconds: float = 3600.0


def beyond(quota: Quota, history: History, tenant: str, over: Bools) -> Bools:
    """Calls at which a run of the tenant goes beyond its quota and ends, shape (calls,).

    Args:
        quota: of the tenant.
        history: the calls.
        tenant: whose runs.
        over: calls at which another limit has ended their run already; what follows in these
            runs spends nothing.
    """
    tenants, which = history.window.texts("tenant")
    found = np.zeros(len(history), dtype=np.bool_)
    if tenant not in tenants:
        return found
    mine = np.flatnonzero((which == tenants.index(tenant))[history.run])
    mine = mine[np.argsort(history.s[mine], kind="stable")]
    recent: deque[float] = deque()
    ended: set[int] = set()
    for at, run, when, is_over, is_tool in zip(
        mine.tolist(),
        history.run[mine].tolist(),
        history.s[mine].tolist(),
        over[mine].tolist(),
        history.is_tool[mine].tolist(),
        strict=True,
    ):
        if run in ended:
            continue
        if is_over:
            ended.add(run)
            continue
        if not is_tool:
            continue
        while recent and recent[0] <= when - quota.window_seconds:
            recent.popleft()
        if len(recent) >= quota.max_tool_calls:
            found[at] = True
            ended.add(run)
        else:
            recent.append(when)
    return found
