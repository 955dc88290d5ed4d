"""Limits that end runs or refuse calls, and what they would have saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Bools, Floats, Ints
from flightlog.analysis.whatif.breaker import Breaker, refused_by
from flightlog.analysis.whatif.history import History
from flightlog.analysis.whatif.quota import Quota, beyond
from flightlog.analysis.window import Window

_CONFIDENT: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Limits:
    """What history is rerun under; None is as it was.

    Attributes:
        max_steps: steps of a run.
        max_tool_calls: tool call attempts of a run, failed and refused ones too.
        max_usd: what a run may spend; it ends at the call after which nothing is left.
        max_tokens: the same in tokens.
        max_seconds: from the start of a run.
        stalled_steps: steps in a row without a new observation that end a run (no progress).
        policy_lost: end a run instead of sending a prompt without the policy message.
        per_tool: name or glob of a tool -> attempts of it in a run; those beyond are refused,
            and the run goes on.
        per_tenant: tenant -> tool call attempts of its runs in a sliding window; the run that
            goes beyond ends.
        off_from: name or glob of a tool -> time from which it is switched off, seconds since
            the epoch; the next call of it ends the run.
        dedupe: answer a read from the run's own earlier call with equal arguments, where
            nothing was written since.
        breakers: name or glob of a tool -> breaker over all runs.
    """

    max_steps: int | None = None
    max_tool_calls: int | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None
    stalled_steps: int | None = None
    policy_lost: bool = False
    per_tool: dict[str, int] = field(default_factory=dict)
    per_tenant: dict[str, Quota] = field(default_factory=dict)
    off_from: dict[str, float] = field(default_factory=dict)
    dedupe: bool = False
    breakers: dict[str, Breaker] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        """True when the history determines the answer: every limit ends runs."""
        return not self.dedupe and not self.breakers and not self.per_tool


@dataclass(frozen=True, slots=True)
class Saved:
    """What limits would have saved, and what they would have cost.

    Attributes:
        runs: runs looked at.
        runs_cut: runs that a limit would have ended earlier.
        tool_calls: tool calls that would not have been made.
        model_calls: model calls that would not have been made.
        usd: money that would not have been spent.
        usd_total: money that was spent.
        usd_error: half the 95 % interval of `usd`, runs being a sample of those to come.
        successes: runs that succeeded: judged so, else completed and not judged.
        successes_lost: of these, those that a limit would have ended.
        is_exact: False when `usd` and the calls are a bound, since the model would have been
            told something else.
        first_cut: place in the history of the first call that would not have been made.
        cut: of each run, place of its first call that would not have been made, or the end
            of the run; shape (runs with calls,).
    """

    runs: int
    runs_cut: int
    tool_calls: int
    model_calls: int
    usd: float
    usd_total: float
    usd_error: float
    successes: int
    successes_lost: int
    is_exact: bool
    first_cut: int | None
    cut: Ints

    @property
    def usd_share(self) -> float:
        """Saved of what was spent; 0 where nothing was."""
        return self.usd / self.usd_total if self.usd_total else 0.0

    @property
    def lost_share(self) -> float:
        """Successes lost of all; 0 where there were none."""
        return self.successes_lost / self.successes if self.successes else 0.0

    @property
    def lost_interval(self) -> tuple[float, float]:
        """95 % interval of `lost_share`. Source: Wilson 1927."""
        return wilson(self.successes_lost, self.successes)


def rerun(history: History, limits: Limits) -> Saved:
    """Reruns a history under other limits."""
    ends = np.append(history.first[1:], len(history))
    is_over = _is_over(history, limits)
    place = np.where(is_over, np.arange(len(history)), len(history))
    cut = (
        np.minimum(np.minimum.reduceat(place, history.first), ends)
        if len(history)
        else np.zeros(0, dtype=np.int64)
    )
    lengths = ends - history.first
    is_saved = np.arange(len(history)) >= np.repeat(cut, lengths)
    is_saved |= _refused(history, limits) & ~is_saved
    usd = np.where(is_saved, history.usd, 0.0)
    runs_cut = cut < ends
    numbers = history.run[history.first]
    is_success = succeeded(history.window)[numbers]
    saved_places = np.flatnonzero(is_saved)
    spent_of, saved_of = _per_run(history, history.usd), _per_run(history, usd)
    first = saved_places[np.argmin(history.s[saved_places])] if saved_places.size else None
    return Saved(
        runs=len(history.first),
        runs_cut=int(runs_cut.sum()),
        tool_calls=int((is_saved & history.is_tool & history.has_run).sum()),
        model_calls=int((is_saved & ~history.is_tool).sum()),
        usd=float(usd.sum()),
        usd_total=float(history.usd.sum()),
        usd_error=_error_of_total(saved_of, spent_of),
        successes=int(is_success.sum()),
        successes_lost=int((is_success & runs_cut).sum()),
        is_exact=limits.is_exact,
        first_cut=None if first is None else int(first),
        cut=cut,
    )


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share. Source: Wilson, JASA 22 (1927); of none it is 0 to 1."""
    if of == 0:
        return 0.0, 1.0
    z2 = _CONFIDENT * _CONFIDENT
    share = hits / of
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _CONFIDENT * np.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    low = 0.0 if hits == 0 else max(0.0, float(middle - half))
    return low, 1.0 if hits == of else min(1.0, float(middle + half))


def _is_over(history: History, limits: Limits) -> Bools:
    """Calls at which a limit would have ended the run, if it had not before."""
    over = np.zeros(len(history), dtype=np.bool_)
    went = history.is_tool & history.has_run
    if limits.max_steps is not None:
        over |= history.step > limits.max_steps
    if limits.max_tool_calls is not None:
        over |= history.is_tool & (history.counted(history.is_tool) > limits.max_tool_calls)
    if limits.max_usd is not None:
        over |= history.counted(history.usd) - history.usd >= limits.max_usd
    if limits.max_tokens is not None:
        over |= history.counted(history.tokens) - history.tokens >= limits.max_tokens
    if limits.max_seconds is not None:
        began = history.window.floats("began")[history.run]
        over |= history.s - began > limits.max_seconds
    if limits.stalled_steps is not None:
        over |= _is_after_stall(history, limits.stalled_steps)
    if limits.policy_lost:
        over |= history.lost_policy
    for pattern, since in limits.off_from.items():
        over |= went & _of_tool(history, pattern) & (history.s >= since)
    for tenant, quota in limits.per_tenant.items():
        over |= beyond(quota, history, tenant, over)
    return over


def _is_after_stall(history: History, steps: int) -> Bools:
    """Calls of a step after so many steps in a row whose tools told nothing new."""
    went = history.is_tool & history.has_run
    is_new = went & history.is_ok & history.is_first_of(history.is_tool, history.same, history.told)
    begins = np.flatnonzero(
        np.concatenate([[True], (np.diff(history.run) != 0) | (np.diff(history.step) != 0)])
        if len(history)
        else np.zeros(0, dtype=np.bool_)
    )
    if not begins.size:
        return np.zeros(0, dtype=np.bool_)
    has_tools = np.logical_or.reduceat(went, begins)
    is_stalled = has_tools & ~np.logical_or.reduceat(is_new, begins)
    run_of = history.run[begins]
    # Length of the row of stalled steps that ends in each step.
    places = np.arange(len(begins))
    is_break = ~is_stalled | np.concatenate([[True], run_of[1:] != run_of[:-1]])
    last_break = np.maximum.accumulate(np.where(is_break, places, 0))
    row = places - last_break + is_stalled[last_break]
    row = np.where(is_stalled, row, 0)
    was_stalled = np.concatenate([[False], (row >= steps)[:-1]])
    was_stalled &= np.concatenate([[False], run_of[1:] == run_of[:-1]])
    lengths = np.diff(np.append(begins, len(history)))
    found: Bools = np.repeat(was_stalled, lengths)
    return found


def _refused(history: History, limits: Limits) -> Bools:
    refused = np.zeros(len(history), dtype=np.bool_)
    for pattern, breaker in limits.breakers.items():
        for tool in {history.names[at] for at in np.unique(history.name[history.is_tool])}:
            if fnmatchcase(tool, pattern):
                refused |= refused_by(breaker, history, tool)
    for pattern, calls in limits.per_tool.items():
        mine = _of_tool(history, pattern)
        refused |= mine & (history.counted(mine) > calls)
    if limits.dedupe:
        refused |= _repeated_reads(history)
    return refused


def _repeated_reads(history: History) -> Bools:
    """Reads whose arguments the run had asked with before, and nothing was written since."""
    went = history.is_tool & history.has_run
    reads = went & ~history.is_write & history.is_ok
    written = history.counted(went & history.is_write).astype(np.int64)
    is_first = history.is_first_of(reads, history.same, history.told, written)
    return reads & ~is_first


def _of_tool(history: History, pattern: str) -> Bools:
    wanted = [number for number, name in enumerate(history.names) if fnmatchcase(name, pattern)]
    return history.is_tool & np.isin(history.name, wanted)


def succeeded(window: Window) -> Bools:
    """Of each run of the window: judged a success, else completed and not judged, shape (runs,)."""
    judged = window.floats("success")
    reasons, which = window.texts("stop_reason")
    is_ok = which == reasons.index("ok") if "ok" in reasons else np.zeros(len(which), np.bool_)
    found: Bools = np.where(np.isnan(judged), is_ok, judged == 1)
    return found


def _per_run(history: History, values: Floats) -> Floats:
    return np.add.reduceat(values, history.first) if len(history) else np.zeros(0)


def _error_of_total(saved: Floats, spent: Floats) -> float:
    """Half the 95 % interval of the saved total as a share of what is spent, by the delta method.

    Source: Cochran, Sampling Techniques, 3rd ed. 1977, section 6.3 (ratio estimator).
    """
    total = float(spent.sum())
    if len(spent) < 2 or total <= 0:
        return 0.0
    ratio = float(saved.sum()) / total
    left = saved - ratio * spent
    return _CONFIDENT * float(np.sqrt(len(left) / (len(left) - 1) * np.sum(left * left)))
