"""Trials of an interrupted replay that were finished, read back from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flightlog.analysis.db import Traces
from flightlog.golden.conditions import REPLAYED_WITH, require_same
from flightlog.golden.entries import GoldenEntry
from flightlog.golden.judging.verdicts import (
    grading_costs,
    read_grades,
    read_judgement,
    read_trust,
    with_grading,
)
from flightlog.golden.life.contracts import CONTRACT, contract_text
from flightlog.golden.replay_report import TrialReport
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Recording
from flightlog.replay.divergence import first_divergence
from flightlog.replay.recordings import read_recordings
from flightlog.replay.serve import Miss
from flightlog.trace.vocab import Outcome, ServedHow, StopReason, stop_text

_FINISHED: Final = """
    SELECT r.golden, r.trial, r.run_id
    FROM runs AS r
    JOIN events AS e ON e.run_id = r.run_id AND e.kind = 'evaluation' AND e."name" = 'success'
    WHERE r.origin = 'replay' AND r.session_id = ? AND r.variant = ?
    ORDER BY r.run_id
"""
_LIVE: Final = frozenset({ServedHow.LIVE, ServedHow.LIVE_READ})


def finished_trials(
    store: Path,
    entries: Sequence[GoldenEntry],
    *,
    session_id: str,
    variant: str,
    conditions: str,
) -> dict[tuple[str, int], TrialReport]:
    """The trials of a session that came to their judgement, by golden and trial number.

    Args:
        store: where they were recorded.
        entries: golden tasks that are replayed.
        session_id: of the interrupted replay.
        variant: of the interrupted replay.
        conditions: what the replay is told now, from `conditions_text`.

    Raises:
        GoldenError: they were other ones then, or a golden task has changed since.
    """
    by_name = {entry.name: entry for entry in entries}
    with Traces(store) as traces:
        rows = traces.sql(_FINISHED, [session_id, variant]).fetchall()
    wanted = {
        run_id: (golden, trial)
        for golden, trial, run_id in rows
        if golden in by_name and trial is not None
    }
    if not wanted:
        return {}
    recordings = read_recordings(Store.open(store), list(wanted))
    for one in recordings:
        entry = by_name[wanted[one.run_id][0]]
        where = f"session {session_id}, variant {variant}"
        require_same(
            one, REPLAYED_WITH, conditions, where=where, what="the replay is told otherwise"
        )
        contract = contract_text(entry.golden, entry.recordings)
        what = f"golden task {entry.name!r} was changed"
        require_same(one, CONTRACT, contract, where=where, what=what)
    return {
        wanted[one.run_id]: _report(by_name[wanted[one.run_id][0]], wanted[one.run_id][1], one)
        for one in recordings
    }


def _report(entry: GoldenEntry, number: int, run: Recording) -> TrialReport:
    stopped = run.stopped
    reason = (stopped.stop_reason if stopped else None) or StopReason.CRASHED
    served = Counter(
        call.served_how
        for call in run.tool_calls
        if call.served_how is not None and call.outcome is not Outcome.REPLAY_MISS
    )
    return TrialReport(
        task_id=entry.task.task_id,
        number=number,
        run_id=run.run_id,
        judgement=read_judgement(run),
        stop=stop_text(reason, stopped.stop_tool if stopped else None),
        served=dict(served),
        misses=tuple(
            Miss(call.step or 0, call.tool_name, call.args or "", call.error or "")
            for call in run.tool_calls
            if call.outcome is Outcome.REPLAY_MISS
        ),
        divergence=first_divergence(entry.cassette, run),
        live_tool_calls=sum(served[how] for how in _LIVE),
        cost_usd=with_grading(stopped.used_usd if stopped else None, grading_costs(run)),
        trust=read_trust(run),
        grades=read_grades(run),
    )
