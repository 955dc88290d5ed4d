"""Two runs side by side: their tool calls aligned, with the first divergence marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.analysis.reports.page import render_page
from flightlog.analysis.reports.pages.run import store_of
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.terminal import cell_text

MOST_CALLS: Final = 1_000
MOST_CHARS: Final = 300
_COMPARED: Final = (
    "agent", "agent_version", "model", "suite", "task_id", "task_digest", "system_digest",
    "toolset_digest", "config_digest", "stop_reason", "success", "steps", "model_calls",
    "tool_calls", "tool_failures", "refused_calls", "retries", "input_tokens", "output_tokens",
    "cost_usd", "duration_ms",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """What stands side by side.

    Attributes:
        left: call of the first run; None where only the other has one.
        right: call of the second run.
        how: same, changed, left or right.
        is_first: the first divergence.
    """

    left: Mapping[str, Any] | None
    right: Mapping[str, Any] | None
    how: str
    is_first: bool


def diff_page(traces: Traces, left: str, right: str) -> str:
    """The page of two runs.

    Raises:
        UnknownNameError: no such run.
        UsageError: several stores hold one of them.
    """
    runs, calls = [], []
    for run_id in (left, right):
        key = {"store": store_of(traces, run_id), "run_id": run_id}
        [run] = traces.rows("SELECT * FROM runs WHERE store = $store AND run_id = $run_id", key)
        runs.append(run)
        limits = {"most": MOST_CALLS, "chars": MOST_CHARS}
        calls.append(traces.rows(sql_text("reports", "tool_sequence.sql"), {**key, **limits}))
    pairs = aligned(calls[0], calls[1])
    cut = [rows[0]["calls"] - len(rows) if rows else 0 for rows in calls]
    return render_page(
        "diff",
        runs=runs,
        facts=[
            (name.replace("_", " "), cell_text(runs[0][name]), cell_text(runs[1][name]),
             runs[0][name] != runs[1][name])
            for name in _COMPARED
            if runs[0][name] is not None or runs[1][name] is not None
        ],
        pairs=pairs,
        same=sum(pair.how == "same" for pair in pairs),
        cut=cut,
        most=MOST_CALLS,
    )  # fmt: skip


def aligned(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """The calls of two runs side by side, equal ones (tool, arguments) on one line.

    Source: Ratcliff and Obershelp's matching blocks, as in difflib. The first divergence is
    the first line that is not the same in tool, arguments and outcome.
    """
    keys = [[(row["name"], row["args_digest"]) for row in rows] for rows in (left, right)]
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    found: list[tuple[Mapping[str, Any] | None, Mapping[str, Any] | None, str]] = []
    for _, a, b, c, d in matcher.get_opcodes():
        for at in range(max(b - a, d - c)):
            one = left[a + at] if a + at < b else None
            other = right[c + at] if c + at < d else None
            if one is None or other is None:
                found.append((one, other, "right" if one is None else "left"))
                continue
            is_same = keys[0][a + at] == keys[1][c + at] and one["outcome"] == other["outcome"]
            found.append((one, other, "same" if is_same else "changed"))
    first = next((at for at, (_, _, how) in enumerate(found) if how != "same"), None)
    return [Pair(one, other, how, at == first) for at, (one, other, how) in enumerate(found)]
