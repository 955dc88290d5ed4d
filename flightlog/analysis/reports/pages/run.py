"""One run as a page: what happened when, what it cost, what was refused.

The page is bounded whatever the run holds: at most 400 calls and changes, texts of at most
2,000 characters; what is left out says which command shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.analysis.reports.page import render_page
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.terminal import cell_text, number_text
from flightlog.errors import UnknownNameError, UsageError

FIRST: Final = 300
LAST: Final = 100
MOST_CHARS: Final = 2_000
_FOLDER: Final = "reports"
_REFUSED: Final = ("ok", "failed", "timed_out", "invalid_output")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 560.0, 150.0, 56.0, 10.0, 24.0
_FACTS: Final = (
    "agent", "agent_version", "model", "tenant", "suite", "task_id", "variant", "started_at",
    "duration_ms", "steps", "model_calls", "tool_calls", "tool_failures", "refused_calls",
    "retries", "tokens", "cost_usd", "success", "origin", "conversation_id", "session_id",
)  # fmt: skip
_UNITS: Final = {"duration_ms": " ms", "cost_usd": " USD"}


@dataclass(frozen=True, slots=True)
class Row:
    """One call or change on the page.

    Attributes:
        event: its columns.
        left: where its bar begins, in percent of the run's time.
        width: how long it is, in percent.
        tone: ok, bad or refused.
        answer: what the model said; None for tools.
        is_after_gap: True for the first row after what was left out.
    """

    event: Mapping[str, Any]
    left: float
    width: float
    tone: str
    answer: Mapping[str, Any] | None
    is_after_gap: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line over the steps or calls of a run, as SVG.

    Attributes:
        title: what it is.
        points: `x,y` pairs.
        marks: heights of the scale with their values as text.
        limit: height of a limit; None without one.
        end: the last value along x, as text.
    """

    title: str
    points: str
    marks: tuple[tuple[float, str], ...]
    limit: float | None
    end: str


def store_of(traces: Traces, run_id: str) -> str:
    """The store that holds a run.

    Raises:
        UnknownNameError: none does.
        UsageError: several do.
    """
    rows = traces.rows(
        "SELECT DISTINCT store FROM runs WHERE run_id = $id ORDER BY 1", {"id": run_id}
    )
    if not rows:
        raise UnknownNameError(f"unknown run {run_id!r}", hint="list runs: flightlog runs")
    if len(rows) > 1:
        names = ", ".join(row["store"] for row in rows)
        raise UsageError(f"run {run_id!r} is in several stores: {names}", hint="Name one --store.")
    return str(rows[0]["store"])


def run_page(traces: Traces, run_id: str) -> str:
    """The page of one run.

    Raises:
        UnknownNameError: no such run.
        UsageError: several stores hold it.
    """
    store = store_of(traces, run_id)
    key = {"store": store, "run_id": run_id}
    [run] = traces.rows("SELECT * FROM runs WHERE store = $store AND run_id = $run_id", key)
    calls = traces.rows(
        sql_text(_FOLDER, "calls.sql"),
        {**key, "first": FIRST, "last": LAST, "chars": MOST_CHARS},
    )
    models = [row["seq"] for row in calls if row["kind"] == "model_call"]
    answers = {
        row["seq"]: row
        for row in traces.rows(
            sql_text(_FOLDER, "answers.sql"), {**key, "seqs": models, "chars": MOST_CHARS}
        )
    }
    budgets = traces.rows(
        "SELECT * FROM budgets WHERE store = $store AND run_id = $run_id ORDER BY scope, budget",
        key,
    )
    places = calls[0]["places"] if calls else 0
    return render_page(
        "run",
        run=run,
        facts=[
            (name.replace("_", " "), f"{cell_text(run[name])}{_UNITS.get(name, '')}")
            for name in _FACTS
            if run[name] is not None
        ],
        rows=_rows(calls, answers),
        left_out=max(places - len(calls), 0),
        budgets=budgets,
        lines=[line for line in (*_burning(calls, budgets), _prompts(calls)) if line],
        most_chars=MOST_CHARS,
        number=number_text,
        canvas=(_WIDTH, _HEIGHT, _LEFT, _HEIGHT - _BOTTOM),
    )


def _rows(calls: Sequence[Mapping[str, Any]], answers: Mapping[int, Any]) -> list[Row]:
    ends = [row["elapsed_ms"] for row in calls if row["elapsed_ms"] is not None]
    whole = max([*ends, 1e-9])
    found = []
    before = 0
    for row in calls:
        end = row["elapsed_ms"] or 0.0
        lasted = min(row["latency_ms"] or 0.0, end)
        found.append(
            Row(
                row,
                round(100 * (end - lasted) / whole, 2),
                round(max(100 * lasted / whole, 0.4), 2),
                _tone(row),
                answers.get(row["seq"]) if row["kind"] == "model_call" else None,
                row["place"] > before + 1,
            )
        )
        before = row["place"]
    return found


def _tone(row: Mapping[str, Any]) -> str:
    if row["outcome"] is None or row["outcome"] == "ok":
        return "ok"
    return "bad" if row["outcome"] in _REFUSED else "refused"


def _prompts(calls: Sequence[Mapping[str, Any]]) -> Line | None:
    """Size of the prompts, call by call."""
    sizes = [row["input_tokens"] for row in calls if row["input_tokens"] is not None]
    return _line("Prompt size (tokens), by model call", sizes, None) if len(sizes) > 1 else None


def _burning(
    calls: Sequence[Mapping[str, Any]], budgets: Sequence[Mapping[str, Any]]
) -> list[Line | None]:
    """What was spent of each budget that calls spend, call by call, with its limit."""
    found: list[Line | None] = []
    for budget in budgets:
        if budget["scope"] != "run" or budget["budget"] not in ("max_tool_calls", "max_usd"):
            continue
        spent, total = [], 0.0
        for row in calls:
            if budget["budget"] == "max_usd":
                total += row["cost_usd"] or 0.0
            elif row["kind"] == "tool_call":
                total += 1
            spent.append(total)
        title = f"{budget['budget']}: used of {number_text(budget['allowed'])} {budget['unit']}"
        found.append(_line(title, spent, budget["allowed"]) if len(spent) > 1 else None)
    return found


def _line(title: str, values: Sequence[float], limit: float | None) -> Line:
    top = max(*values, limit or 0.0, 1e-9)
    floor, ceiling = _HEIGHT - _BOTTOM, _TOP
    step = (_WIDTH - _LEFT - 12) / (len(values) - 1)

    def height(value: float) -> float:
        return round(floor - (floor - ceiling) * value / top, 2)

    points = " ".join(f"{_LEFT + at * step:.2f},{height(value)}" for at, value in enumerate(values))
    magnitude = 10 ** math.floor(math.log10(top))
    marks = tuple(
        (height(value), number_text(value)) for value in (0.0, magnitude, top) if value <= top
    )
    return Line(
        title, points, marks, None if limit is None else height(limit), f"{len(values):,} calls"
    )
