"""Metrics of your own: SQL expressions over the views, one value per run or many.

An expression is an analyst's SQL: it is run where `flightlog sql` runs, with
the views to read and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from flightlog.analysis.gate.facts import Chosen, floats, series_by_run
from flightlog.analysis.gate.metrics import Kind, Metric
from flightlog.analysis.sandbox import user_sql_on
from flightlog.analysis.stats.sample import UNKNOWN, Floats, Series
from flightlog.errors import ConfigError, UsageError

_EXAMPLE: Final = "count(*) FILTER (WHERE tool_name = 'search')"


def check_expression(metric: Metric) -> None:
    """Refuses what is no single SQL expression.

    Raises:
        ConfigError: a syntax error, more than one expression or statement, or a whole query.
    """
    text = metric.sql or ""
    hint = f"Write one expression over the columns of {metric.view}, such as {_EXAMPLE}."
    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(f"SELECT\n{text}\n")
        except duckdb.Error as error:
            raise _wrong(metric, f"is no SQL: {_first_line(error)}", hint) from error
        if len(statements) != 1:
            raise _wrong(metric, f"is {len(statements)} statements, not one expression", hint)
        [(answer,)] = connection.execute(
            "SELECT json_serialize_sql($1)", [f"SELECT\n{text}\n"]
        ).fetchall()
    parsed = json.loads(answer)
    if parsed.get("error"):
        raise _wrong(metric, f"is no SQL: {parsed.get('error_message', '')}", hint)
    node = parsed["statements"][0]["node"]
    if node.get("type") != "SELECT_NODE" or node["from_table"]["type"] != "EMPTY":
        raise _wrong(metric, "is a whole query, not an expression", hint)
    if len(node["select_list"]) != 1:
        raise _wrong(metric, f"is {len(node['select_list'])} expressions, not one", hint)
    if any(node.get(part) for part in ("where_clause", "having", "qualify", "modifiers")):
        raise _wrong(metric, "is more than an expression", hint)


def custom_facts(
    chosen: Chosen, metrics: Sequence[Metric]
) -> tuple[dict[str, Floats], dict[str, Series]]:
    """The values of metrics of your own, for every compared run.

    Raises:
        ConfigError: an expression that fails, or whose values do not fit its kind.
    """
    values: dict[str, Floats] = {}
    series: dict[str, Series] = {}
    for metric in metrics:
        check_expression(metric)
        found = _asked(chosen, metric, _query(metric))
        given = floats(found, "value")
        given = np.where(np.isfinite(given), given, np.nan)
        if metric.kind is Kind.QUANTILE:
            _check_range(metric, given)
            # A null says that the row does not count: nothing about it is unknown.
            counted = ~np.isnan(given)
            series[metric.name] = series_by_run(
                chosen, found.filter(pa.array(counted)), given[counted]
            )
            continue
        of_nothing = _of_nothing(chosen, metric)
        column = np.full(len(chosen.rows), of_nothing)
        place = chosen.place_of(found)
        column[place[place != UNKNOWN]] = given[place != UNKNOWN]
        _check_range(metric, column)
        values[metric.name] = column
    return values, series


def _query(metric: Metric) -> str:
    # `view` is one of the names of views; the expression is the user's, and runs in the sandbox.
    is_grouped = metric.view != "runs" and metric.kind is not Kind.QUANTILE
    group = " GROUP BY store, run_id" if is_grouped else ""
    return f"SELECT store, run_id, (\n{metric.sql}\n)::DOUBLE AS value FROM {metric.view}{group}"  # noqa: S608


def _of_nothing(chosen: Chosen, metric: Metric) -> float:
    """What the expression gives for a run without rows in its view: 0 for a count."""
    if metric.view == "runs":
        return np.nan
    query = f"SELECT (\n{metric.sql}\n)::DOUBLE AS value FROM {metric.view} WHERE false"  # noqa: S608
    found = floats(_asked(chosen, metric, query), "value")
    return float(found[0]) if found.size and np.isfinite(found[0]) else np.nan


def _asked(chosen: Chosen, metric: Metric, query: str) -> pa.Table:
    try:
        return user_sql_on(chosen.traces.snapshots, query).table
    except UsageError as error:
        is_grouping = "GROUP BY" in error.what
        hint = error.hint
        if is_grouping and metric.view == "runs":
            hint = "runs has one row per run: write the column alone, without an aggregate."
        elif is_grouping:
            hint = f"{metric.view} has many rows per run: aggregate them, such as {_EXAMPLE}."
        raise _wrong(metric, f"fails: {_first_line(error.what)}", hint) from error


def _check_range(metric: Metric, values: Floats) -> None:
    known = values[~np.isnan(values)]
    if not known.size:
        return
    low, high = float(known.min()), float(known.max())
    if metric.kind is Kind.POINTS and (low < 0 or high > 1):
        raise _wrong(
            metric,
            f"gives {low if low < 0 else high:g}, which is no share",
            "kind: points needs values from 0 to 1; kind: ratio takes any from 0 up.",
        )
    if low < 0:
        raise _wrong(
            metric,
            f"gives {low:g}, and a ratio of negative values means nothing",
            "Make it 0 or more, such as greatest(0, ...), or abs(...).",
        )


def _wrong(metric: Metric, what: str, hint: str) -> ConfigError:
    return ConfigError(
        f"the expression of metric {metric.name!r} {what}", where=metric.origin, hint=hint
    )


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0]
