"""One run from start to stop, as data and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from flightlog.analysis.tables import console
from flightlog.analysis.timeline_text import rendered
from flightlog.errors import UnknownNameError, UsageError, nearest

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

NEWEST = "last"
_LISTED = 5
_NEAREST_AMONG = 2_000

_MATCHING = """
SELECT DISTINCT run_id
FROM events
WHERE run_id <> '' AND starts_with(run_id, $text)
ORDER BY (run_id <> $text), run_id
LIMIT $listed
"""
_BY_SOURCE_ID = "SELECT DISTINCT run_id FROM runs WHERE source_run_id = $text ORDER BY 1 LIMIT 2"
_NEWEST = """
SELECT run_id FROM runs ORDER BY started_at DESC NULLS LAST, run_id DESC, store LIMIT $listed
"""
_RUN = "SELECT * FROM runs WHERE run_id = $run_id AND store = $store"
_BUDGETS = """
SELECT scope, budget, unit, allowed, used, share, is_hit
FROM budgets WHERE run_id = $run_id AND store = $store
ORDER BY scope <> 'run', scope, list_position(
    ['max_steps', 'max_seconds', 'max_tool_calls', 'max_usd', 'max_tokens'], budget
)
"""
# A judge of a later process numbers its events from 0 again.
_EVENTS = """
SELECT * FROM events WHERE run_id = $run_id AND store = $store
ORDER BY kind = 'evaluation', CASE WHEN kind = 'evaluation' THEN "at" END, seq
"""
_MESSAGES = """
SELECT seq, direction, role, text, tool_requests, tool_name
FROM messages WHERE run_id = $run_id AND store = $store
ORDER BY seq, position
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a run with the messages that came with it.

    Attributes:
        kind: kind of the event.
        fields: its columns that are known (not null).
        sent: in a model call, the messages sent for the first time.
        answer: in a model call, the answer.
        is_in_doubt: in a tool intent, True when no outcome followed.
    """

    kind: str
    fields: Mapping[str, Any]
    sent: tuple[Mapping[str, Any], ...] = ()
    answer: Mapping[str, Any] | None = None
    is_in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole run.

    Attributes:
        run: its row of the view runs.
        budgets: its rows of the view budgets: scope, budget, unit, allowed, used, share, is_hit.
        entries: its events in order, evaluations last.
    """

    run: Mapping[str, Any]
    budgets: tuple[Mapping[str, Any], ...]
    entries: tuple[Entry, ...]


def resolve_run(traces: Traces, text: str) -> str:
    """The id of the run that a person means.

    Args:
        traces: the stores to look in.
        text: `last` (the run that started last), a run id, a unique start of one, or
            the whole id that an imported run had at its source.

    Raises:
        UnknownNameError: no run is meant; the hint names the nearest.
        UsageError: several runs start so.
    """
    newest = [row["run_id"] for row in traces.rows(_NEWEST, {"listed": _NEAREST_AMONG})]
    if not newest:
        raise UnknownNameError("the store has no runs", where=", ".join(traces.stores))
    if text == NEWEST:
        return str(newest[0])
    found = []
    if text:
        rows = traces.rows(_MATCHING, {"text": text, "listed": _LISTED + 1})
        found = [row["run_id"] for row in rows]
        found = found or [row["run_id"] for row in traces.rows(_BY_SOURCE_ID, {"text": text})]
    if not found:
        # Ids that do not resemble it would only be noise.
        near = nearest(text, newest)
        places = " ".join(f"--store {store}" for store in traces.stores)
        hint = f"List them with: flightlog runs {places}"
        raise UnknownNameError.of("run", text, near, where=", ".join(traces.stores), hint=hint)
    if len(found) > 1 and found[0] != text:
        shown = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
        raise UsageError(f"several runs start with {text!r}: {shown}", hint="give more of the id")
    return str(found[0])


def timeline(traces: Traces, run_id: str, *, store: str | None = None) -> Timeline:
    """The whole run.

    Args:
        traces: the stores to look in.
        run_id: the full id.
        store: needed only when several stores hold that run.

    Raises:
        UnknownNameError: no such run.
        UsageError: several stores hold it and `store` is None.
    """
    stores = [
        row["store"]
        for row in traces.rows(
            "SELECT DISTINCT store FROM events WHERE run_id = $run_id ORDER BY 1",
            {"run_id": run_id},
        )
        if store in (None, row["store"])
    ]
    if not stores:
        raise UnknownNameError(f"unknown run {run_id!r}", hint="list runs: flightlog runs")
    if len(stores) > 1:
        raise UsageError(f"run {run_id!r} is in several stores: {', '.join(stores)}")
    key = {"run_id": run_id, "store": stores[0]}
    events = traces.rows(_EVENTS, key)
    messages: dict[int, list[Mapping[str, Any]]] = {}
    for row in traces.rows(_MESSAGES, key):
        messages.setdefault(row["seq"], []).append(row)
    outcomes = {_attempt(row) for row in events if row["kind"] == "tool_call"}
    entries = tuple(_entry(row, messages.get(row["seq"], []), outcomes) for row in events)
    return Timeline(traces.rows(_RUN, key)[0], tuple(traces.rows(_BUDGETS, key)), entries)


def print_timeline(shown: Timeline, *, full: bool = False, file: IO[str] | None = None) -> None:
    """Prints a run for a person to read.

    Args:
        shown: from `timeline`.
        full: do not cut arguments, results and messages; one line each otherwise.
        file: where to; None is standard output.
    """
    console(file=file).print(rendered(shown, full=full))


def _entry(
    row: Mapping[str, Any],
    messages: list[Mapping[str, Any]],
    outcomes: set[tuple[Any, ...]],
) -> Entry:
    kind = row["kind"]
    fields = {name: value for name, value in row.items() if value is not None and name != "kind"}
    if kind != "model_call":
        is_in_doubt = kind == "tool_intent" and _attempt(row) not in outcomes
        return Entry(kind, fields, is_in_doubt=is_in_doubt)
    answers = [message for message in messages if message["direction"] == "output"]
    sent = tuple(message for message in messages if message["direction"] == "input")
    return Entry(kind, fields, sent, answers[0] if answers else None)


def _attempt(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("step", "call_ix", "tool_name", "args_digest", "attempt"))
