"""All runs of a window on one page: figures, tables, and a sheet of plots."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.analysis.plots.over_time import plot_over_time
from flightlog.analysis.reports.page import render_page
from flightlog.analysis.terminal import cell_text, number_text
from flightlog.analysis.window import EVERYTHING, Scope

_ROWS: Final = 12
_TABLES: Final = (
    ("Agents", "runs_by_agent", ()),
    ("How runs end", "stop_reasons", ("status", "stop_reason", "stop_tool", "runs", "share")),
    (
        "Tools",
        "tool_errors",
        ("tool_name", "calls", "failed", "timed_out", "invalid_output", "refused", "error_share"),
    ),
    (
        "What is spent on whom, around which tool",
        "cost_by_tenant_and_tool",
        ("owner", "tool_name", "runs", "tool_calls", "cost_usd", "share"),
    ),
    (
        "Retries",
        "retry_amplification",
        ("kind", "name", "asked", "attempts", "amplification", "retried_ok_share"),
    ),
    (
        "Dearest runs",
        "dearest_runs",
        ("run_id", "began", "task_id", "stop_reason", "tool_calls", "cost_usd", "duration_ms"),
    ),
    (
        "Slowest runs",
        "slowest_runs",
        ("run_id", "began", "task_id", "stop_reason", "tool_calls", "cost_usd", "duration_ms"),
    ),
)


def overview_page(traces: Traces, *, scope: Scope = EVERYTHING, by: str = "agent") -> str:
    """The page of all runs of a scope.

    Args:
        traces: the stores.
        scope: which runs.
        by: what tells runs apart in the plots: agent, model, tenant or variant.

    Raises:
        UsageError: no run to show.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = plot_over_time(
            traces, "overview", Path(folder) / "overview.png", by=by, scope=scope
        )
        data = base64.b64encode(picture.read_bytes()).decode()
    asked = {key: value for key, value in scope.narrowing().items() if value is not None}
    tables = []
    for title, name, columns in _TABLES:
        rows = _by_agent(traces, asked) if not columns else traces.ask(name, **asked).to_pylist()
        if rows:
            shown = columns or tuple(rows[0])
            cells = [[_text(column, row[column]) for column in shown] for row in rows[:_ROWS]]
            heads = [column.replace("_", " ") for column in shown]
            tables.append((title, heads, cells, len(rows)))
    return render_page(
        "overview", tiles=_tiles(traces, asked), tables=tables, picture=data, rows=_ROWS
    )


def _by_agent(traces: Traces, asked: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    costs = {
        row["agent"]: row for row in traces.ask("cost_per_run", by="agent", **asked).to_pylist()
    }
    for row in traces.ask("success_rate", by="agent", **asked).to_pylist():
        cost = costs.get(row["agent"], {})
        found.append(
            {
                "agent": row["agent"],
                "runs": row["runs"],
                "success_share": row["rate"],
                "cost_usd": cost.get("sum"),
                "p50_usd": cost.get("p50"),
                "p95_usd": cost.get("p95"),
            }
        )
    return sorted(found, key=lambda row: (-row["runs"], str(row["agent"])))


def _tiles(traces: Traces, asked: dict[str, Any]) -> list[tuple[str, str]]:
    [rate] = traces.ask("success_rate", **asked).to_pylist()
    [cost] = traces.ask("cost_per_run", **asked).to_pylist()
    [calls] = traces.ask("tool_calls_per_run", **asked).to_pylist()
    latency = {row["measure"]: row for row in traces.ask("latency_quantiles", **asked).to_pylist()}
    run = latency.get("run", {})
    found = [("runs", f"{rate['runs']:,}")]
    if rate["rate"] is not None:
        judged = rate["successes"] + rate["failures"]
        found.append(("success", f"{rate['rate']:.1%} of {judged:,} judged"))
    if cost["n"]:
        found.append(("cost", f"${cost['sum']:,.2f}"))
        found.append(("per run", f"${cost['p50']:.4g} median, ${cost['p95']:.4g} p95"))
    found.append(("tool calls", f"{calls['sum']:,}, {number_text(calls['p95'])} p95 a run"))
    if run.get("p95") is not None:
        found.append(("duration p95", f"{run['p95'] / 1000:.3g} s"))
    return found


def _text(column: str, value: Any) -> str:
    if value is not None and (column == "share" or column.endswith("_share")):
        return f"{value:.1%}"
    return cell_text(value, max_chars=120)
