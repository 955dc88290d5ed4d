"""When exactly a change began, and which runs show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flightlog.analysis.postmortem.found import Evidence
from flightlog.analysis.postmortem.kinds import LEVELS, Kind
from flightlog.analysis.postmortem.signals import Shift, run_levels, run_shares
from flightlog.analysis.stats.sample import Bools, Floats, Ints
from flightlog.analysis.window import Window

_EXAMPLES: Final = 3
_PROVENANCE: Final = {
    "agent_version": "version",
    "model": "model",
    "system_digest": "system prompt",
    "toolset_digest": "tools",
    "config_digest": "policy",
}
_MOST_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The single observations around and in a change, in the order of their time.

    Attributes:
        s: when, seconds since the epoch.
        value: what was scanned; 0 or 1 for a share.
        run: number of the run.
    """

    s: Floats
    value: Floats
    run: Ints


def witnesses_of(window: Window, shift: Shift, left_out: Ints) -> Witnesses:
    """What was observed from one piece before the change to one after it."""
    since = window.begin_of(shift.change.first - 1)
    until = window.begin_of(shift.change.end + 1)
    if shift.of in ("tool", "model") and shift.kind is not Kind.MODEL_CHANGED:
        return _of_calls(window, shift, left_out, since, until)
    value = _of_runs(window, shift)
    began = window.floats("began")
    mine = ~np.isnan(value) & (began >= since) & (began < until)
    mine[left_out] = False
    if shift.kind is not Kind.SURGE:
        names, which = window.texts("agent")
        mine &= which == [str(name) for name in names].index(shift.subject)
    return Witnesses(began[mine], value[mine], np.flatnonzero(mine))


def _of_calls(
    window: Window, shift: Shift, left_out: Ints, since: float, until: float
) -> Witnesses:
    values = {shift.of: shift.subject, "agents": list(shift.agents)}
    table = window.ask(
        "postmortem",
        f"{shift.of}_witnesses",
        **values,
        since=since,
        until=until,
        left_out=left_out.tolist(),
    )
    outcome = np.array(table.column("outcome").to_pylist(), dtype=object)
    if shift.kind in LEVELS:
        latency = table.column("latency_ms").to_numpy(zero_copy_only=False).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where((outcome == "ok") & (latency > 0), np.log(latency), np.nan)
    elif shift.kind is Kind.TOOL_INVALID:
        value = (outcome == "invalid_output").astype(np.float64)
    elif shift.kind is Kind.MODEL_FAILING:
        value = (outcome != "ok").astype(np.float64)
    else:
        value = np.isin(outcome, ["failed", "timed_out"]).astype(np.float64)
    known = ~np.isnan(value)
    return Witnesses(
        table.column("s").to_numpy()[known], value[known], table.column("run").to_numpy()[known]
    )


def _of_runs(window: Window, shift: Shift) -> Floats:
    if shift.kind is Kind.SURGE:
        names, which = window.texts(shift.of)
        mine: Floats = np.asarray(
            which == [str(name) for name in names].index(shift.subject), dtype=np.float64
        )
        return mine
    if shift.kind is Kind.REFUSED:
        tool, reason = shift.refused
        refused = window.ask(
            "postmortem", "refused_runs", agent=shift.subject, tool=tool, reason=reason
        )
        value = np.zeros(window.runs)
        value[refused.column("run").to_numpy()] = 1
        return value
    if shift.kind in LEVELS or shift.kind is Kind.CACHE_LOST:
        return run_levels(window)[shift.kind][0]
    hit, known = run_shares(window)[shift.kind, shift.detail]
    return np.where(known, hit.astype(np.float64), np.nan)


def begin_of(window: Window, shift: Shift, seen: Witnesses) -> float:
    """When the change began: the split of the observations around its first piece that leaves
    the least spread, and of those after it the first that shows the change."""
    first = shift.change.first
    if first == 0:
        return float(seen.s[0]) if seen.s.size else window.begin
    around = seen.s < window.begin_of(first + 1)
    s, value = seen.s[around], seen.value[around] * shift.direction
    if s.size < 2:
        return window.begin_of(first)
    counts = np.arange(1, s.size)
    before = np.cumsum(value)[:-1] / counts
    after = (value.sum() - np.cumsum(value)[:-1]) / (s.size - counts)
    between = counts * (s.size - counts) * np.where(after > before, after - before, 0) ** 2
    split = int(between.argmax()) + 1
    if between[split - 1] <= 0:
        return window.begin_of(first)
    shows = np.flatnonzero(_shows(shift, seen.value[around][split:]))
    return float(s[split + shows[0]]) if shows.size else float(s[split])


def end_of(window: Window, shift: Shift, seen: Witnesses) -> float | None:
    """When it was last seen; None when it still was at the end of the window."""
    if shift.change.end >= window.pieces - 1:
        return None
    inside = (seen.s < window.begin_of(shift.change.end)) & _shows(shift, seen.value)
    return float(seen.s[inside][-1]) if inside.any() else window.begin_of(shift.change.end)


def examples_of(window: Window, shift: Shift, seen: Witnesses, begin: float) -> list[Evidence]:
    """The first runs that show the change."""
    shown = np.flatnonzero(_shows(shift, seen.value) & (seen.s >= begin))
    ids = window.table.column("run_id")
    found: list[Evidence] = []
    for at in shown.tolist():
        run_id = ids[int(seen.run[at])].as_py()
        if all(one.run_id != run_id for one in found):
            found.append(Evidence(run_id, None, ""))
        if len(found) == _EXAMPLES:
            break
    return found


def _shows(shift: Shift, value: Floats) -> Bools:
    if not shift.is_level and shift.kind is not Kind.CACHE_LOST:
        return value > 0
    middle = (shift.change.inside + shift.change.outside) / 2
    found: Bools = (value - middle) * shift.direction >= 0
    return found


def changes_before(window: Window, shift: Shift, begin: float) -> tuple[str, ...]:
    """What the agents concerned declared for the first time just before: within the two pieces
    before the begin of the change, or as it began."""
    if shift.of not in ("agent",):
        return ()
    began = window.floats("began")
    names, which = window.texts("agent")
    mine = which == [str(name) for name in names].index(shift.subject)
    found = []
    for column, words in _PROVENANCE.items():
        values, used = window.texts(column)
        for number, value in enumerate(values):
            runs = mine & (used == number)
            if value is None or not runs.any():
                continue
            first = float(began[runs].min())
            is_new = bool((mine & (began < first)).any())
            if is_new and begin - 2 * window.width <= first <= begin + window.width / 2:
                found.append(
                    f"{words} {value[:_MOST_SHOWN]} of {shift.subject} first seen"
                    f" {window.at(first):%Y-%m-%d %H:%M:%S} UTC"
                )
    return tuple(found)
