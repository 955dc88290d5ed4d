"""Which columns a source of runs fills, measured on the rows of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flightlog.analysis.db import Traces

ALL, SOME, NONE, NO_ROWS = "●", "◐", "·", "-"

COLUMNS: Final[Sequence[tuple[str, str, str]]] = (
    # view, column, what counts as filled
    ("runs", "agent", "agent"),
    ("runs", "model", "model"),
    ("runs", "task_id", "nullif(task_id, '')"),
    ("runs", "conversation_id", "conversation_id"),
    ("runs", "duration_ms", "nullif(duration_ms, 0)"),
    ("runs", "stop_reason", "stop_reason"),
    ("runs", "answer", "answer"),
    ("runs", "success", "success"),
    ("runs", "toolset_digest", "toolset_digest"),
    ("model_calls", "provider", "provider"),
    ("model_calls", "request_model", "request_model"),
    ("model_calls", "response_model", "response_model"),
    ("model_calls", "response_id", "response_id"),
    ("model_calls", "prompt_messages", "nullif(prompt_messages, 0)"),
    ("model_calls", "output_digest", "output_digest"),
    ("model_calls", "finish_reason", "finish_reason"),
    ("model_calls", "input_tokens", "input_tokens"),
    ("model_calls", "output_tokens", "output_tokens"),
    ("model_calls", "cache_read_tokens", "cache_read_tokens"),
    ("model_calls", "cache_write_tokens", "cache_write_tokens"),
    ("model_calls", "reasoning_tokens", "reasoning_tokens"),
    ("model_calls", "cost_usd", "cost_usd"),
    ("model_calls", "latency_ms", "latency_ms"),
    ("model_calls", "time_to_first_token_ms", "time_to_first_token_ms"),
    ("tool_calls", "tool_call_id", "tool_call_id"),
    ("tool_calls", "args", "args"),
    ("tool_calls", "result", "coalesce(result, error)"),
    ("tool_calls", "error", "CASE WHEN outcome = 'ok' THEN 'none' ELSE error END"),
    ("tool_calls", "effect", "nullif(effect, 'unknown')"),
    ("tool_calls", "latency_ms", "latency_ms"),
)

_ROWS: Final = {
    "runs": "runs",
    "model_calls": "model_calls WHERE actor = 'agent' AND outcome = 'ok'",
    "tool_calls": "tool_calls WHERE actor = 'agent'",
}


@dataclass(frozen=True)
class Filled:
    """What one source fills.

    Attributes:
        runs: how many it was measured on.
        marks: by view and column.
    """

    runs: int
    marks: Mapping[tuple[str, str], str]


def filled_in(store: Path) -> Filled:
    """Which columns the runs of a store fill."""
    marks = {}
    with Traces(store) as traces:
        [runs] = traces.rows("SELECT count(*) AS n FROM runs")
        for view, rows in _ROWS.items():
            counted = ", ".join(
                f"count({sql}) AS {name}" for table, name, sql in COLUMNS if table == view
            )
            [found] = traces.rows(f"SELECT count(*) AS n, {counted} FROM {rows}")
            for table, name, _ in COLUMNS:
                if table == view:
                    marks[view, name] = _mark(found[name], found["n"])
    return Filled(runs["n"], marks)


def _mark(count: int, of: int) -> str:
    if not of:
        return NO_ROWS
    if not count:
        return NONE
    return ALL if count == of else SOME


def table(sources: Mapping[str, Filled]) -> list[str]:
    """A Markdown table: columns of the views down, sources across."""
    head = ["column", *sources]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for view, name, _ in COLUMNS:
        marks = (found.marks[view, name] for found in sources.values())
        lines.append(f"| `{view}.{name}` | {' | '.join(marks)} |")
    return lines
