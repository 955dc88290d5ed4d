"""What the compared runs did, as the arrays of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.analysis.db import Traces
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.stats.sample import UNKNOWN, Bools, Counts, Floats, Ints, Series
from flightlog.trace.vocab import StopReason

_VALUES = {
    "tool_calls_per_run": "tool_calls",
    "tool_failures": "failed_share",
    "tokens_per_request": "tokens_per_request",
    "cost_usd": "cost_usd",
    "usd_per_mtok": "usd_per_mtok",
    "steps": "steps",
    "retries": "retried_share",
    "model_calls": "model_calls",
    "tokens": "tokens",
}
"""Metric, or part of the cost -> column of gate/runs.sql."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The compared runs, so that other tables can be joined to them.

    Attributes:
        traces: the stores.
        table: the selected runs.
        rows: those that are compared, in the order of the sample.
    """

    traces: Traces
    table: pa.Table
    rows: Ints

    def place_of(self, other: pa.Table) -> Ints:
        """Row of the sample that each row of another table belongs to, by store and run; UNKNOWN
        for runs that are not compared."""
        several = len(self.traces.stores) > 1
        mine = run_key(self.table, several).combine_chunks()
        found = pc.index_in(run_key(other, several), value_set=mine)
        row_of = np.full(len(self.table) + 1, UNKNOWN)
        row_of[self.rows] = np.arange(len(self.rows))
        places: Ints = row_of[found.fill_null(len(self.table)).to_numpy()]
        return places


def values_of(chosen: Chosen) -> dict[str, Floats]:
    """The values of each run, by metric; NaN unknown."""
    table, rows = chosen.table, chosen.rows
    values = {name: amounts(table, column)[rows] for name, column in _VALUES.items()}
    values["success"] = floats(table, "success")[rows]
    return values


def series_of(chosen: Chosen) -> dict[str, Series]:
    """The latencies of model calls, of tool calls and of the runs."""
    duration = amounts(chosen.table, "duration_ms")[chosen.rows]
    place, known = np.arange(len(duration)), ~np.isnan(duration)
    return {
        "latency_p95": _series(chosen, "calls.sql"),
        "tool_latency_p95": _series(chosen, "tool_latencies.sql"),
        "run_latency_p95": Series(place[known], duration[known], place[~known]),
    }


def _series(chosen: Chosen, query: str) -> Series:
    calls = chosen.traces.table(sql_text("gate", query))
    return series_by_run(chosen, calls, amounts(calls, "latency_ms"))


def series_by_run(chosen: Chosen, table: pa.Table, values: Floats) -> Series:
    """Many values per run, in an order that only the data decides."""
    run, known = chosen.place_of(table), ~np.isnan(values)
    ours, unknown = (run != UNKNOWN) & known, (run != UNKNOWN) & ~known
    order = np.lexsort((values[ours], run[ours]))
    return Series(run[ours][order], values[ours][order], run[unknown])


def tool_counts(chosen: Chosen) -> Counts:
    """How often each run called each tool."""
    called = chosen.traces.table(sql_text("gate", "tools.sql"))
    run = chosen.place_of(called)
    codes, names = coded(called, "tool_name")
    ours = (run != UNKNOWN) & (codes != UNKNOWN)
    table = np.zeros((len(chosen.rows), len(names)))
    np.add.at(table, (run[ours], codes[ours]), floats(called, "calls")[ours])
    used = np.flatnonzero(table.sum(axis=0))
    return Counts(tuple(names[number] for number in used.tolist()), table[:, used])


def stop_counts(chosen: Chosen) -> Counts:
    """For which reason each run ended, `ok` first; unknown where the source does not say."""
    codes, names = coded(chosen.table, "stop_reason")
    bad = sorted(set(names) - {StopReason.OK})
    place = {name: number for number, name in enumerate([StopReason.OK.value, *bad])}
    renumber = np.array([*(place[name] for name in names), UNKNOWN])
    stop = renumber[codes][chosen.rows]
    return one_hot(stop, tuple(place))


def one_hot(codes: Ints, names: tuple[str, ...]) -> Counts:
    """Counts of one thing per run, from its number in `names`; UNKNOWN is NaN throughout."""
    table = np.zeros((codes.size, len(names)))
    known = codes != UNKNOWN
    table[np.flatnonzero(known), codes[known]] = 1.0
    table[~known] = np.nan
    return Counts(names, table)


def bad_stops(stops: Counts) -> tuple[Floats, Counts]:
    """1 for a run that ended for another reason than the first, and the counts of these reasons."""
    bad = stops.table[:, 1:]
    return bad.sum(axis=1) + 0.0 * stops.table[:, 0], Counts(stops.names[1:], bad)


def run_key(table: pa.Table, several: bool) -> pa.ChunkedArray:  # noqa: FBT001
    """What names a run: its id, with its store before it where there are several."""
    if not several:
        return table.column("run_id")
    return pc.binary_join_element_wise(table.column("store"), table.column("run_id"), "\n")


def coded(table: pa.Table, name: str) -> tuple[Ints, list[str]]:
    """A text column as numbers into its sorted distinct values; UNKNOWN for null."""
    column = table.column(name).combine_chunks()
    names = sorted(pc.unique(column.drop_null()).to_pylist())
    codes = pc.index_in(column, value_set=pa.array(names, column.type)).fill_null(UNKNOWN)
    return codes.to_numpy(zero_copy_only=False).astype(np.int64), names


def floats(table: pa.Table, name: str) -> Floats:
    """A column of numbers; NaN for null."""
    values: Floats = table.column(name).to_numpy().astype(np.float64)
    return values


def amounts(table: pa.Table, name: str) -> Floats:
    """A column of amounts; NaN for what cannot be one: null, negative or infinite."""
    values = floats(table, name)
    return np.where(np.isfinite(values) & (values >= 0), values, np.nan)


def bools(table: pa.Table, name: str) -> Bools:
    """A column of truths without nulls."""
    values: Bools = table.column(name).to_numpy().astype(np.bool_)
    return values


def equals(table: pa.Table, name: str, value: str) -> Bools:
    """Where a text column holds this value."""
    is_it: Bools = pc.is_in(table.column(name), value_set=pa.array([value])).to_numpy()
    return is_it
