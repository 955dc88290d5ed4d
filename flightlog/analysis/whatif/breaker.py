"""A circuit breaker over recorded calls: which of them it would have refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from flightlog.analysis.stats.sample import Bools
from flightlog.analysis.whatif.history import History


@dataclass(frozen=True, slots=True)
class Breaker:
    """As `breakers.<tool>` in flightlog.yaml, with the same defaults.

    Attributes:
        failure_rate: opens when at least this share of the calls in the window failed.
        min_calls: calls in the window before a rate means anything.
        window_seconds: how long a call counts.
        open_seconds: how long it stays open before it lets a probe through.
    """

    failure_rate: float = 0.5
    min_calls: int = 5
    window_seconds: float = 60.0
    open_seconds: float = 30.0


def refused_by(breaker: Breaker, history: History, tool: str) -> Bools:
    """Which calls of a tool a breaker over all runs would have refused, shape (calls,).

    Recorded calls are taken in the order of their time. A refused call tells the breaker
    nothing; after `open_seconds` the next one is let through as a probe.
    """
    refused = np.zeros(len(history), dtype=np.bool_)
    if tool not in history.names:
        return refused
    mine = np.flatnonzero(
        history.is_tool & history.has_run & (history.name == history.names.index(tool))
    )
    mine = mine[np.argsort(history.s[mine], kind="stable")]
    recent: deque[tuple[float, bool]] = deque()
    failed, opened_until, is_probing = 0, -np.inf, False
    for at, when, is_ok in zip(
        mine.tolist(), history.s[mine].tolist(), history.is_ok[mine].tolist(), strict=True
    ):
        if when < opened_until:
            refused[at] = True
            continue
        if is_probing:
            is_probing = not is_ok
            if not is_ok:
                opened_until = when + breaker.open_seconds
                continue
        recent.append((when, is_ok))
        failed += not is_ok
        while recent[0][0] < when - breaker.window_seconds:
            failed -= not recent.popleft()[1]
        if len(recent) >= breaker.min_calls and failed >= breaker.failure_rate * len(recent):
            opened_until, is_probing = when + breaker.open_seconds, True
            recent.clear()
            failed = 0
    return refused
