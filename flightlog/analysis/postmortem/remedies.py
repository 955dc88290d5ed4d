"""What would have stopped it: limits, tried on the history's own events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from flightlog.analysis.postmortem.found import Remedy
from flightlog.analysis.postmortem.kinds import Kind
from flightlog.analysis.stats.sample import Bools, Ints
from flightlog.analysis.whatif import Breaker, History, Limits, Quota, history_of, rerun, succeeded
from flightlog.analysis.window import Window

_MOST_RUNS: Final = 20_000
_QUANTILE: Final = 0.995
_HEADROOM: Final = 1.5
_WITHOUT_REFERENCE: Final = 15
_STALLED_STEPS: Final = 5
_REACTION_S: Final = 600.0
_LEAST_SHARE: Final = 0.05
_MOST_LOST: Final = 0.02
_KEPT: Final = 4
_FEWEST_REFERENCES: Final = 20


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a remedy is looked for.

    Attributes:
        kinds: kinds of the finding and of what it explains.
        of: what its subject is.
        subject: whose trouble it is.
        runs: numbers of the runs concerned.
        begin: when it began, seconds since the epoch.
        is_of_runs: True when it is about single runs that are told of by name; a limit that
            ends one of them is then told with the success that is lost.
    """

    kinds: frozenset[Kind]
    of: str
    subject: str
    runs: Ints
    begin: float
    is_of_runs: bool = False


def remedies_for(window: Window, trouble: Trouble, references: Bools) -> tuple[Remedy, ...]:
    """The limits that would have saved most, tried one by one on the runs concerned.

    Kept are those that save at least 5 % of the calls or of the money of these runs and
    end at most 2 % of the runs with a success, where it is not about single runs.

    Args:
        window: all runs.
        trouble: what it is about.
        references: runs of the same agents that were as usual, shape (runs,): a limit for
            runs is set above what 99.5 % of these with a success took.
    """
    runs = trouble.runs[:_MOST_RUNS]
    history = history_of(window, runs)
    if not len(history):
        return ()
    found = []
    for setting, config, limits in _candidates(window, trouble, references):
        saved = rerun(history, limits)
        went = int((history.is_tool & history.has_run).sum())
        is_worth = saved.tool_calls >= _LEAST_SHARE * max(went, 1) or (
            saved.usd_total > 0 and saved.usd_share >= _LEAST_SHARE
        )
        is_dear = saved.lost_share > _MOST_LOST and not trouble.is_of_runs
        if saved.first_cut is None or not is_worth or is_dear:
            continue
        at = saved.first_cut
        found.append(
            Remedy(
                setting=setting,
                config=config,
                runs_cut=saved.runs_cut,
                tool_calls=saved.tool_calls,
                usd=saved.usd,
                usd_of=saved.usd_total,
                successes_lost=saved.successes_lost,
                successes=saved.successes,
                first_run=window.table.column("run_id")[int(history.run[at])].as_py(),
                first_call=_number_of_call(history, at),
                first_at=window.at(float(history.s[at])),
                is_exact=saved.is_exact,
            )
        )
    found.sort(key=lambda one: (-one.usd, -one.tool_calls, one.setting))
    return tuple(found[:_KEPT])


def _candidates(
    window: Window, trouble: Trouble, references: Bools
) -> Iterator[tuple[str, str, Limits]]:
    references = references & succeeded(window)
    calls = _above_usual(window, "tool_calls", references)
    calls = _WITHOUT_REFERENCE if calls is None else max(int(calls), 2)
    yield (
        f"max_tool_calls: {calls}",
        f"budgets:\n  max_tool_calls: {calls}",
        Limits(max_tool_calls=calls),
    )
    usd = _above_usual(window, "usd", references)
    if usd is not None and usd > 0:
        rounded = _two_figures(usd)
        yield (
            f"max_usd: {rounded:g}",
            f"budgets:\n  max_usd: {rounded:g}",
            Limits(max_usd=rounded),
        )
    if trouble.kinds & {Kind.RUNAWAY, Kind.LOOPS, Kind.TOOL_FAILING, Kind.TOOL_INVALID}:
        yield (
            f"guard no_progress: stop after {_STALLED_STEPS} steps without anything new",
            f"guards:\n  actions: {{no_progress: stop}}\n  stalled_steps: {_STALLED_STEPS}",
            Limits(stalled_steps=_STALLED_STEPS),
        )
    if Kind.POLICY_LOST in trouble.kinds:
        yield (
            "guard policy_lost: stop before a prompt without the policy message",
            "guards:\n  actions: {policy_lost: stop}",
            Limits(policy_lost=True),
        )
    if trouble.kinds & {Kind.LOOPS, Kind.RUNAWAY}:
        yield (
            "answer a repeated read from the first one (Tool.reuse_result)",
            "",
            Limits(dedupe=True),
        )
    if trouble.of == "tool":
        yield from _for_tool(window, trouble)
    if trouble.of == "tenant":
        yield from _for_tenant(window, trouble, references)


def _for_tool(window: Window, trouble: Trouble) -> Iterator[tuple[str, str, Limits]]:
    tool, quoted = trouble.subject, json.dumps(trouble.subject)
    if trouble.kinds & {Kind.TOOL_FAILING, Kind.TOOL_INVALID}:
        yield (
            f"circuit breaker on {tool} (opens at half of 5 calls in 60 s, for 30 s)",
            f"breakers:\n  {quoted}: {{failure_rate: 0.5, min_calls: 5, open_seconds: 30}}",
            Limits(breakers={_exactly(tool): Breaker()}),
        )
    since = trouble.begin + _REACTION_S
    yield (
        f"{tool} switched off by hand ten minutes after the begin",
        f"# flightlog kill on --mode disable_tools:{tool}   at {window.at(since):%H:%M} UTC",
        Limits(off_from={_exactly(tool): since}),
    )


def _for_tenant(
    window: Window, trouble: Trouble, references: Bools
) -> Iterator[tuple[str, str, Limits]]:
    tenants, which = window.texts("tenant")
    usual = references & (which == tenants.index(trouble.subject))
    if not usual.any():
        return
    calls, began = window.floats("tool_calls")[usual], window.floats("began")[usual]
    hours = ((began - window.begin) // 3600).astype(np.int64)
    busiest = float(np.bincount(hours, weights=calls).max())
    quota = int(_two_figures(max(_HEADROOM * busiest, 10)))
    limit = f"{{window_seconds: 3600, max_tool_calls: {quota}}}"
    yield (
        f"tenant {trouble.subject}: {quota} tool calls an hour, half more than its busiest one",
        f"budgets:\n  per_tenant:\n    {json.dumps(trouble.subject)}: {limit}",
        Limits(per_tenant={trouble.subject: Quota(quota)}),
    )


def _above_usual(window: Window, name: str, references: Bools) -> float | None:
    """Above what nearly all usual runs with a success took; None with too few of them."""
    values = window.floats(name)[references]
    values = values[~np.isnan(values)]
    if len(values) < _FEWEST_REFERENCES:
        return None
    return math.ceil(float(np.quantile(values, _QUANTILE)) * 1e6) / 1e6


def _two_figures(value: float) -> float:
    """Rounded up to two figures."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / step - 1e-9) * step, 12)


def _exactly(name: str) -> str:
    """A glob that names exactly this tool."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _number_of_call(history: History, at: int) -> int:
    """Number of the tool call of its run that is at this place, or the next, from 1."""
    before = history.is_tool[history.run == history.run[at]]
    within = at - int(np.flatnonzero(history.run == history.run[at])[0])
    return int(before[:within].sum()) + 1
