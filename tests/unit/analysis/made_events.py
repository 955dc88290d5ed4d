"""Events written down by hand, as traces to be asked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from flightlog.analysis.db import Traces
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import events_schema, messages_schema

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def traces_of(events: Iterable[dict[str, Any]]) -> Traces:
    """Traces over events; `s` is their time in seconds since BEGIN."""
    rows = [
        {**event, "at": BEGIN + timedelta(seconds=event["s"])} if "s" in event else event
        for event in events
    ]
    for row in rows:
        row.pop("s", None)
    table = pa.Table.from_pylist(rows, schema=events_schema())
    empty = messages_schema().empty_table()
    return Traces.of_snapshots({"made": Snapshot((), (), table, empty, ())})


class Run:
    """One run, event by event; a second passes with each."""

    def __init__(self, run_id: str, *, s: float = 0.0, agent: str = "a", **started: Any) -> None:
        self.run_id, self.s, self.seq = run_id, s, 0
        self.begun = s
        self.events: list[dict[str, Any]] = []
        self._add("run_started", agent=agent, **started)

    def tool(self, name: str, outcome: str = "ok", *, step: int = 1, **more: Any) -> Run:
        """A tool call; equal arguments are equal calls."""
        args = more.pop("args", self.seq)
        return self._add(
            "tool_call",
            tool_name=name,
            outcome=outcome,
            step=step,
            actor="agent",
            attempt=more.pop("attempt", 1),
            effect=more.pop("effect", "read"),
            args_digest=f"{name}/{args}",
            result_digest=f"{name}/{args}/{more.pop('told', outcome)}",
            **more,
        )

    def model(self, *, step: int = 1, usd: float | None = 0.0, **more: Any) -> Run:
        """A model call."""
        return self._add(
            "model_call",
            step=step,
            actor="agent",
            attempt=1,
            outcome=more.pop("outcome", "ok"),
            request_model=more.pop("model", "m"),
            cost_usd=usd,
            **more,
        )

    def stop(self, reason: str = "ok", **more: Any) -> Run:
        """The end."""
        status = "completed" if reason == "ok" else "stopped"
        lasted = (self.s - self.begun) * 1000
        return self._add(
            "run_stopped", stop_reason=reason, status=status, duration_ms=lasted, **more
        )

    def judged(self, *, passed: bool) -> Run:
        """A judgement."""
        return self._add("evaluation", name="success", passed=passed)

    def _add(self, kind: str, **fields: Any) -> Run:
        event = {"kind": kind, "run_id": self.run_id, "seq": self.seq, "s": self.s, **fields}
        self.events.append(event)
        self.seq += 1
        self.s += 1
        return self


def traces_of_runs(*runs: Run) -> Traces:
    """Traces over these runs."""
    return traces_of([event for run in runs for event in run.events])
