"""Settling a write that is in doubt: somebody looked, and says whether it was done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.analysis.timeline import resolve_run
from flightlog.errors import UsageError
from flightlog.recorder.recovery import SETTLED_SUBJECT
from flightlog.trace.events import StateChanged

IN_DOUBT: Final = "in_doubt"

_CALL = """
SELECT * FROM writes
WHERE run_id = $run_id AND step IS NOT DISTINCT FROM $step
    AND call_ix IS NOT DISTINCT FROM $call_ix
ORDER BY store, seq
"""
_OPEN = """
SELECT DISTINCT step, call_ix, tool_name FROM writes
WHERE run_id = $run_id AND (state = 'in_doubt' OR settled_at IS NOT NULL)
ORDER BY ALL
"""
_LAST_SEQ = "SELECT max(seq) AS seq FROM events WHERE run_id = $run_id"


@dataclass(frozen=True, slots=True)
class Settling:
    """Settled attempts of one call, as events that are yet to be recorded.

    Attributes:
        changes: the events, one per distinct write.
        writes: rows of the view `writes` that they settle.
    """

    changes: tuple[StateChanged, ...]
    writes: tuple[dict[str, Any], ...]


def settling(
    traces: Traces,
    run: str,
    place: tuple[int | None, int | None],
    *,
    is_done: bool,
    who: str,
    why: str,
) -> Settling:
    """What settles all attempts of a call that are in doubt; one settled earlier is corrected.

    Args:
        run: id of the run, or a unique start of one.
        place: step and place of the call in it; None where its recorder gave none.
        is_done: the write took effect.
        who: looked.
        why: how that is known.

    Raises:
        UnknownNameError: no such run.
        UsageError: the run has no such write in doubt, or it still goes on.
    """
    run_id = resolve_run(traces, run)
    step, call_ix = place
    rows = traces.rows(_CALL, {"run_id": run_id, "step": step, "call_ix": call_ix})
    chosen = [row for row in rows if row["state"] == IN_DOUBT or row["settled_at"] is not None]
    if not chosen:
        _refuse(traces, run_id, place, rows)
    if any(row["run_status"] == "running" for row in chosen):
        raise UsageError(
            f"run {run_id} still goes on, and so may the call",
            hint="Settle its writes once it has ended.",
        )
    [last] = traces.rows(_LAST_SEQ, {"run_id": run_id})
    now_us = time.time_ns() // 1000
    calls = {(row["tool_name"], row["tool_call_id"]): row for row in chosen}
    changes = [
        StateChanged(
            run_id=run_id,
            seq=last["seq"] + number,
            at=now_us,
            step=step,
            subject=SETTLED_SUBJECT,
            call_ix=call_ix,
            tool_name=row["tool_name"],
            tool_call_id=row["tool_call_id"],
            state_from=row["state"],
            state_to="done" if is_done else "not_done",
            detail=f"by {who}: {why}",
        )
        for number, row in enumerate(calls.values(), 1)
    ]
    return Settling(tuple(changes), tuple(chosen))


def _refuse(
    traces: Traces, run_id: str, place: tuple[int | None, int | None], rows: list[dict[str, Any]]
) -> None:
    state = f"is {rows[-1]['state']}: {rows[-1]['why']}" if rows else "is not there"
    waiting = [
        f"{_shown(row['step'])} {_shown(row['call_ix'])} ({row['tool_name']})"
        for row in traces.rows(_OPEN, {"run_id": run_id})
    ]
    listed = f"In doubt in this run, step and call: {', '.join(waiting)}." if waiting else ""
    raise UsageError(
        f"write {_shown(place[0])} {_shown(place[1])} of run {run_id} {state}",
        hint=listed or "No write of this run is in doubt.",
    )


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)
