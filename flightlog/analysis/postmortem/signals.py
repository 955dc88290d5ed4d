"""The changes of a window: everything that was different for a while, or from some time on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from flightlog.analysis.postmortem.kinds import (
    CACHE_POINTS,
    LEVELS,
    SHARES,
    STRENGTH,
    SURGE_FACTOR,
    SURGE_POINTS,
    SURGE_RUNS,
    SURGE_SHARE,
    Kind,
)
from flightlog.analysis.postmortem.scan import Change, scan_level, scan_share
from flightlog.analysis.stats.sample import Bools, Floats, Ints
from flightlog.analysis.window import Window

_FEWEST_RUNS: Final = 20
_MOST_SUBJECTS: Final = 50
_MOST_OVER: Final = 0.5
_MOST_FROM_BEGIN: Final = 0.4
_LATE: Final = 0.9
_MOST_GOING_ON: Final = 0.85
_BAD_ALL_ALONG: Final = 0.5
_WITNESSES: Final = 10
"""Units that others have to have, for one agent to be named as the only one concerned."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One change, and what it is about.

    Attributes:
        kind: what changed.
        subject: tool, model, tenant or agent that it is about.
        of: what the subject is: tool, model, tenant, agent or task.
        agents: agents that it concerns.
        detail: stop reason, tool and reason of a refusal, or model changed to.
        change: when, and how much.
        series: what was scanned, over the pieces of time: hits and units of a share; sums,
            sums of squares and units of a level.
        direction: 1 where more is worse, -1 where less is.
        refused: of refusals, the tool and the reason.
    """

    kind: Kind
    subject: str
    of: str
    agents: tuple[str, ...]
    detail: str
    change: Change
    series: tuple[Floats, ...]
    direction: int = 1
    refused: tuple[str, str] = ("", "")

    @property
    def is_level(self) -> bool:
        """True when inside and outside are means of logarithms."""
        return self.kind in LEVELS

    def is_told_without(self, first: int, end: int) -> bool:
        """True when it would be found too if some pieces of time had not been."""
        kept = np.ones(len(self.series[0]))
        kept[first:end] = 0
        series = [one * kept for one in self.series]
        scan = scan_share if len(series) == 2 else scan_level
        change = scan(*series, direction=self.direction)
        return change is not None and _is_told(self.kind, change)

    @property
    def factor(self) -> float:
        """How many times the rest: of a level, or of a share that the rest has too."""
        if self.is_level:
            return float(np.exp(self.change.inside - self.change.outside))
        return self.change.inside / max(self.change.outside, 1e-9)


def shifts_of(window: Window, left_out: Ints) -> list[Shift]:
    """All changes that are large and sure enough, in no particular order.

    Args:
        window: the runs.
        left_out: runs that are told of on their own.
    """
    found = [*_of_tools(window, left_out), *_of_models(window, left_out)]
    kept = np.ones(window.runs, dtype=np.bool_)
    kept[left_out] = False
    found += _of_agents(window, kept)
    found += _of_refusals(window, kept, left_out)
    for column, of in (("tenant", "tenant"), ("agent", "agent")):
        found += _surges(window, kept, column, of)
    return found


def _units(window: Window, name: str, left_out: Ints) -> pa.Table:
    return window.ask(
        "postmortem",
        name,
        begin=window.begin,
        width=window.width,
        pieces=window.pieces,
        left_out=left_out.tolist(),
    )


class _Pieces:
    """A table by subject, agent and piece of time, to be taken as arrays over the pieces."""

    def __init__(self, table: pa.Table, by: str, pieces: int) -> None:
        self._by = np.array(table.column(by).to_pylist(), dtype=object)
        self._agent = np.array(table.column("agent").to_pylist(), dtype=object)
        self._piece = table.column("piece").to_numpy().astype(np.int64)
        self._values = {
            name: table.column(name).to_numpy().astype(np.float64)
            for name in table.column_names
            if name not in (by, "agent", "piece", "reason", "tool")
        }
        self._pieces = pieces
        weights: dict[object, float] = {}
        counted = self._values.get("units", np.ones(len(self._by)))
        for name, weight in zip(self._by, counted, strict=True):
            weights[name] = weights.get(name, 0.0) + weight
        known = [name for name in weights if name is not None]
        self.subjects = sorted(known, key=lambda name: (-weights[name], str(name)))[:_MOST_SUBJECTS]

    def of(self, subject: object, name: str, agent: object = None) -> Floats:
        rows = self._by == subject
        if agent is not None:
            rows &= self._agent == agent
        found = np.bincount(
            self._piece[rows], weights=self._values[name][rows], minlength=self._pieces
        )
        return found.astype(np.float64)

    def agents(self, subject: object) -> list[str]:
        return sorted({str(one) for one in self._agent[self._by == subject] if one is not None})


def _of_tools(window: Window, left_out: Ints) -> Iterator[Shift]:
    table = _Pieces(_units(window, "tool_units", left_out), "tool", window.pieces)
    for tool in table.subjects:
        for kind, hits in ((Kind.TOOL_FAILING, "failing"), (Kind.TOOL_INVALID, "invalid")):
            yield from _shared(table, tool, kind, hits, "tool")
        yield from _timed(table, tool, Kind.TOOL_SLOW, "tool")


def _of_models(window: Window, left_out: Ints) -> Iterator[Shift]:
    table = _Pieces(_units(window, "model_units", left_out), "model", window.pieces)
    for model in table.subjects:
        yield from _shared(table, model, Kind.MODEL_FAILING, "failing", "model")
        yield from _timed(table, model, Kind.MODEL_SLOW, "model")


def _shared(table: _Pieces, subject: object, kind: Kind, hits: str, of: str) -> Iterator[Shift]:
    series = (table.of(subject, hits), table.of(subject, "units"))
    change = scan_share(*series) or _all_along(*series)
    if change is None or not _is_told(kind, change):
        return
    within = slice(change.first, change.end)

    def concerns(agent: str) -> tuple[float, float]:
        units, bad = table.of(subject, "units", agent), table.of(subject, hits, agent)
        inside = float(units[within].sum())
        return inside, float(bad[within].sum()) / inside if inside else 0.0

    agents = _concerned(table.agents(subject), concerns, change)
    yield Shift(kind, str(subject), of, agents, "", change, series)


def _all_along(hits: Floats, units: Floats) -> Change | None:
    """What is so bad through the whole window that there is nothing to compare it with."""
    total = float(units.sum())
    if total < _FEWEST_RUNS or hits.sum() < _BAD_ALL_ALONG * total:
        return None
    share = float(hits.sum()) / total
    return Change(0, len(units), len(units), share, 0.0, total, 0.0, total * share)


def _timed(table: _Pieces, subject: object, kind: Kind, of: str) -> Iterator[Shift]:
    names = ("latency", "latency_squared", "timed")
    series = (table.of(subject, names[0]), table.of(subject, names[1]), table.of(subject, names[2]))
    change = scan_level(*series)
    if change is None or not _is_told(kind, change):
        return
    within = slice(change.first, change.end)

    def concerns(agent: str) -> tuple[float, float]:
        units, sums = table.of(subject, "timed", agent), table.of(subject, "latency", agent)
        inside = float(units[within].sum())
        return inside, float(sums[within].sum()) / inside if inside else change.outside

    agents = _concerned(table.agents(subject), concerns, change)
    yield Shift(kind, str(subject), of, agents, "", change, series)


def _concerned(
    agents: list[str], concerns: Callable[[str], tuple[float, float]], change: Change
) -> tuple[str, ...]:
    """All agents that use the subject; only those that saw the change where others did not."""
    half = (change.inside + change.outside) / 2
    seen = {agent: concerns(agent) for agent in agents}
    known = {agent: value for agent, (units, value) in seen.items() if units >= _WITNESSES}
    hit = [agent for agent, value in known.items() if value >= half]
    if hit and len(hit) < len(known):
        return tuple(hit)
    return tuple(agents)


def _of_agents(window: Window, kept: Bools) -> Iterator[Shift]:
    names, which = window.texts("agent")
    shares, levels = run_shares(window), run_levels(window)
    for number, name in enumerate(names):
        mine = kept & (which == number)
        if mine.sum() < _FEWEST_RUNS:
            continue
        agent = str(name)
        for (kind, detail), (hit, known) in shares.items():
            counts = _counts(window, hit, known & mine)
            change = scan_share(*counts)
            if change is not None and _is_told(kind, change):
                yield Shift(kind, agent, "agent", (agent,), detail, change, counts)
        for kind, (values, direction) in levels.items():
            sums = _sums(window, values, mine)
            change = scan_level(*sums, direction=direction)
            if change is not None and _is_told(kind, change):
                yield Shift(kind, agent, "agent", (agent,), "", change, sums, direction)


def run_shares(window: Window) -> dict[tuple[Kind, str], tuple[Bools, Bools]]:
    """Kind and detail -> which runs it is true of, and of which it is known."""
    every = np.ones(window.runs, dtype=np.bool_)
    judged = ~np.isnan(window.floats("success"))
    found = {
        (Kind.RETRIES, ""): (window.floats("retries") > 0, every),
        (Kind.LOOPS, ""): (window.floats("most_repeated") >= 3, every),
        (Kind.DUPLICATE_WRITES, ""): (window.floats("most_written") >= 2, every),
        (Kind.IN_DOUBT, ""): (window.floats("doubtful_writes") > 0, every),
        (Kind.TRUNCATED, ""): (window.bools("was_truncated"), every),
        (Kind.POLICY_LOST, ""): (window.bools("lost_policy"), every),
        (Kind.USER_RETRIES, ""): (window.bools("is_rerun"), every),
        (Kind.FAILURES, ""): (judged & (window.floats("success") == 0), judged),
    }
    reasons, which = window.texts("stop_reason")
    has_had_time = _has_had_time(window)
    for number, reason in enumerate(reasons):
        if reason != "ok":
            known = has_had_time if reason == "none" else every
            found[Kind.STOPS, str(reason)] = (which == number, known)
    models, used = window.texts("model")
    if 1 < len(models) <= _MOST_SUBJECTS:
        for number, model in enumerate(models):
            if model is not None:
                found[Kind.MODEL_CHANGED, model] = (used == number, every)
    return found


def _has_had_time(window: Window) -> Bools:
    """Runs that began so early that they would have an end by now, if they were to have one."""
    ended, lasted = window.floats("ended"), window.floats("duration_ms")
    if np.isnan(ended).all() or np.isnan(lasted).all():
        return np.ones(window.runs, dtype=np.bool_)
    longest = 2 * float(np.nanquantile(lasted, 0.99)) / 1000
    found: Bools = window.floats("began") + longest < np.nanmax(ended)
    return found


def run_levels(window: Window) -> dict[Kind, tuple[Floats, int]]:
    """Kind -> value of each run (NaN unknown), and the direction that is worse."""
    answered = window.floats("answered")
    first, largest = window.floats("first_prompt"), window.floats("largest_prompt")
    return {
        Kind.CALLS: (np.log1p(window.floats("new_calls")), 1),
        Kind.COST: (_logged(window.floats("usd")), 1),
        Kind.PROMPT_START: (_logged(first), 1),
        Kind.PROMPT_GROWTH: (_logged(_ratio(largest - first, answered - 1)), 1),
        Kind.OUTPUT: (_logged(_ratio(window.floats("output_tokens"), answered)), 1),
        Kind.DURATION: (_logged(window.floats("duration_ms")), 1),
        Kind.CACHE_LOST: (
            _ratio(window.floats("cached_tokens"), window.floats("input_tokens")),
            -1,
        ),
    }


def _logged(values: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    found: Floats = np.where(np.isfinite(logs), logs, np.nan)
    return found


def _ratio(over: Floats, under: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(under > 0, over / under, np.nan)
    return found


def _counts(window: Window, hit: Bools, known: Bools) -> tuple[Floats, Floats]:
    units = np.bincount(window.piece[known], minlength=window.pieces).astype(np.float64)
    hits = np.bincount(window.piece[known & hit], minlength=window.pieces).astype(np.float64)
    return hits, units


def _sums(window: Window, values: Floats, mine: Bools) -> tuple[Floats, Floats, Floats]:
    known = mine & ~np.isnan(values)
    piece, value = window.piece[known], values[known]
    # A few extreme values must not decide what a mean is.
    if value.size:
        low, high = np.quantile(value, [0.005, 0.995])
        value = np.clip(value, low, high)
    counts = [
        np.bincount(piece, weights=weights, minlength=window.pieces).astype(np.float64)
        for weights in (value, value * value, np.ones_like(value))
    ]
    return counts[0], counts[1], counts[2]


def _of_refusals(window: Window, kept: Bools, left_out: Ints) -> Iterator[Shift]:
    table = _units(window, "refusal_units", left_out)
    names, which = window.texts("agent")
    rows: dict[tuple[str, str, str], Floats] = {}
    for row in table.to_pylist():
        key = (str(row["agent"]), str(row["tool"]), str(row["reason"]))
        counts = rows.setdefault(key, np.zeros(window.pieces))
        counts[row["piece"]] += row["refused"]
    largest = sorted(rows, key=lambda key: (-rows[key].sum(), key))[:_MOST_SUBJECTS]
    for agent, tool, reason in largest:
        number = [str(name) for name in names].index(agent)
        units = _counts(window, kept, kept & (which == number))[1]
        series = (np.minimum(rows[agent, tool, reason], units), units)
        change = scan_share(*series)
        if change is not None and _is_told(Kind.REFUSED, change):
            detail = f"{tool}: {reason}"
            yield Shift(
                Kind.REFUSED, agent, "agent", (agent,), detail, change, series,
                refused=(tool, reason),
            )  # fmt: skip


def _surges(window: Window, kept: Bools, column: str, of: str) -> Iterator[Shift]:
    """Subjects that started far more of the runs than usual."""
    names, which = window.texts(column)
    if len(names) < 2:
        return
    counted = np.bincount(which[kept], minlength=len(names))
    agents, agent_of = window.texts("agent")
    for number in np.argsort(-counted, kind="stable")[:_MOST_SUBJECTS]:
        if names[number] is None:
            continue
        hits, units = _counts(window, which == number, kept)
        change = scan_share(hits, units)
        if change is None or not _is_told(Kind.SURGE, change):
            continue
        # Of the runs of the others, so that a subject's own surge is not its measure.
        usual = change.outside / max(1 - change.outside, 1e-9)
        others = change.n_inside * (1 - change.inside)
        excess = change.n_inside * change.inside - usual * others
        is_large = excess >= max(SURGE_RUNS, SURGE_SHARE * kept.sum())
        if is_large and change.inside * change.n_inside >= SURGE_FACTOR * usual * others:
            within = kept & (which == number)
            within &= (window.piece >= change.first) & (window.piece < change.end)
            of_agents = sorted({str(agents[one]) for one in agent_of[within]})
            name = str(names[number])
            yield Shift(
                Kind.SURGE, name, of, tuple(of_agents), f"{excess:.0f}", change, (hits, units)
            )


def _most_inside(change: Change) -> float:
    """Share of the units that can be a change: what goes on to the end may be the larger part."""
    if change.first == 0:
        return _MOST_FROM_BEGIN
    # The last pieces can be nearly empty: runs that are still going on.
    return _MOST_GOING_ON if change.end >= _LATE * change.pieces else _MOST_OVER


def _is_told(kind: Kind, change: Change) -> bool:
    if change.strength < STRENGTH:
        return False
    if change.n_outside and change.n_inside > _most_inside(change) * (
        change.n_inside + change.n_outside
    ):
        return False  # what was usual, and became less
    if kind is Kind.CACHE_LOST:
        return change.outside - change.inside >= CACHE_POINTS
    if kind in LEVELS:
        return change.inside - change.outside >= math.log(LEVELS[kind].least)
    if kind is Kind.SURGE:
        return change.inside - change.outside >= SURGE_POINTS
    least = SHARES[kind]
    return (
        change.inside - change.outside >= least.least
        and change.inside >= least.factor * change.outside
    )
