"""The list of runs, newest first."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import pyarrow as pa
from rich.text import Text

from flightlog.analysis.tables import console, result_table, table_width
from flightlog.errors import UnknownNameError

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

_LIST = """
SELECT
    run_id, started_at, agent, tenant, model, variant, task_id AS task, trial, status,
    coalesce(
        CASE WHEN stop_tool IS NULL THEN stop_reason
            ELSE concat(stop_reason, ':', stop_tool) END,
        source_stop_reason
    ) AS stop,
    success, steps, tool_calls, cost_usd, round(duration_ms / 1000, 2) AS seconds, store
FROM runs
WHERE ($variant::VARCHAR IS NULL OR variant = $variant)
    AND ($model::VARCHAR IS NULL OR model = $model)
    AND ($agent::VARCHAR IS NULL OR agent = $agent)
    AND ($suite::VARCHAR IS NULL OR suite = $suite)
    AND ($tenant::VARCHAR IS NULL OR tenant = $tenant)
    AND ($task::VARCHAR IS NULL OR task_id = $task)
    AND ($session::VARCHAR IS NULL OR session_id = $session)
    AND ($stop_reason::VARCHAR IS NULL OR stop_reason = $stop_reason
        OR source_stop_reason = $stop_reason
        OR concat(stop_reason, ':', stop_tool) = $stop_reason)
ORDER BY started_at DESC NULLS LAST, run_id DESC, store
LIMIT $limit
"""
_KNOWN = """
SELECT DISTINCT
    unnest([
        variant, model, agent, suite, tenant, task_id, session_id, stop_reason, source_stop_reason
    ]) AS value,
    unnest([
        'variant', 'model', 'agent', 'suite', 'tenant', 'task', 'session', 'stop_reason',
        'stop_reason'
    ]) AS name
FROM runs
"""

FILTERS = ("variant", "model", "agent", "suite", "tenant", "task", "session", "stop_reason")
_MAX_CHARS = 40
_DROPPED_FIRST = (
    "agent", "seconds", "status", "trial", "model_calls", "steps", "started_at", "model",
    "tool_calls", "variant", "tenant", "cost_usd", "task",
)  # fmt: skip


def list_runs(
    traces: Traces,
    *,
    limit: int | None = 20,
    **filters: str | None,
) -> pa.Table:
    """The newest runs.

    Args:
        traces: the stores to look in.
        limit: at most this many; None for all.
        filters: one of FILTERS each: only runs of this variant, model, agent, suite,
            tenant, task or session. `stop_reason`: only runs that ended so: our reason,
            `reason:tool`, or the source's own word.

    Returns:
        One row per run, newest first: run_id, started_at (UTC), agent, tenant, model, variant,
        task, trial, status, stop, success, steps, tool_calls, cost_usd (USD),
        seconds, store. Null is unknown.

    Raises:
        UnknownNameError: no run has a value that was asked for, or a filter that is none;
            the hint names the nearest.
    """
    for name in filters:
        if name not in FILTERS:
            raise UnknownNameError.of("filter", name, FILTERS)
    filters = dict.fromkeys(FILTERS) | filters
    found = traces.table(_LIST, {**filters, "limit": limit})
    if found.num_rows == 0:
        _require_known(traces, filters)
    return found


def print_runs(
    traces: Traces,
    file: IO[str] | None = None,
    /,
    *,
    limit: int | None = 20,
    **filters: str | None,
) -> None:
    """Prints the newest runs; arguments as in `list_runs`.

    Columns without a value are left out, and on a narrow terminal the less telling ones.
    """
    found = list_runs(traces, limit=None if limit is None else limit + 1, **filters)
    is_cut = limit is not None and found.num_rows > limit
    found = found.slice(0, limit)
    if found.num_rows == 0:
        console(file=file).print("no runs")
        return
    empty = [name for name in found.column_names if found[name].null_count == found.num_rows]
    if len(traces.stores) == 1:
        empty.append("store")
    screen = console(file=file)
    shown = found.drop_columns(empty)
    for name in _DROPPED_FIRST:
        if name in shown.column_names and table_width(shown, max_chars=_MAX_CHARS) > screen.width:
            shown = shown.drop_columns([name])
    screen.print(result_table(shown, max_chars=_MAX_CHARS))
    if is_cut:
        screen.print(Text(f"the newest {limit:,}; --limit shows more", style="dim"))


def _require_known(traces: Traces, filters: dict[str, str | None]) -> None:
    rows = traces.rows(_KNOWN)
    for name, wanted in filters.items():
        known = {row["value"] for row in rows if row["name"] == name and row["value"] is not None}
        plain = wanted.partition(":")[0] if wanted and name == "stop_reason" else wanted
        if wanted is not None and not known & {wanted, plain}:
            raise UnknownNameError.of(name.replace("_", " "), wanted, known)
