"""Comparisons small enough to see through, as open traces.

Fixtures:
    traces_of: function(runs, problems=()) -> Traces. A run is a dict of columns of
        `run_started`, and of these: calls (tool calls), cost_usd, tokens, latency_ms (of each
        model call; a list), passed, validity, tool_name, stop_reason (None: still running). Every
        run has a turn of a simulated user too, which no metric may count.
    pairs_of_runs: function(tasks, trials, **candidate) -> such runs: every run of the baseline
        makes 4 calls; `candidate` overrides the columns of the candidate's runs.
    drifted: verdict of a comparison that drifted, with hostile names throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.selection import Side, Term
from flightlog.analysis.gate.verdict import Verdict
from flightlog.recorder.store import Problem, Snapshot
from flightlog.trace.schema import events_schema, messages_schema

HOSTILE = "<script>alert(1)</script>|`x` ]]> \x1b[31mred\u202e\n# [a](http://evil) @all &amp; \"'"
Run = dict[str, Any]


def _events(number: int, run: Run) -> list[Run]:
    run = {"calls": 4, "cost_usd": 0.01, "tokens": 100, "latency_ms": [100.0], **run}
    run = {"passed": True, "stop_reason": "ok", "run_id": f"run-{number:04d}", **run}
    apart = (
        "calls", "cost_usd", "tokens", "latency_ms", "passed", "stop_reason", "validity",
        "tool_name",
    )  # fmt: skip
    started = {key: value for key, value in run.items() if key not in apart}
    rows: list[Run] = [{"kind": "run_started", **started}]
    rows.append({"kind": "model_call", "actor": "user", "outcome": "ok", "latency_ms": 9e9})
    for latency in run["latency_ms"]:
        rows.append(
            {
                "kind": "model_call", "actor": "agent", "outcome": "ok", "latency_ms": latency,
                "input_tokens": run["tokens"], "output_tokens": run["tokens"] and 0,
                "cost_usd": run["cost_usd"],
            }
        )  # fmt: skip
    name = run.get("tool_name", "search")
    called = {"kind": "tool_call", "actor": "agent", "outcome": "ok", "tool_name": name}
    rows += [called] * run["calls"]
    if run["stop_reason"] is not None:
        status = "completed" if run["stop_reason"] == "ok" else "stopped"
        rows.append({"kind": "run_stopped", "stop_reason": run["stop_reason"], "status": status})
    if "validity" in run:
        rows.append({"kind": "evaluation", "name": "validity", "detail": run["validity"]})
    if run["passed"] is not None:
        rows.append({"kind": "evaluation", "name": "success", "passed": run["passed"]})
    return [{**row, "run_id": run["run_id"], "seq": seq} for seq, row in enumerate(rows)]


def build_traces(runs: Sequence[Run], problems: Sequence[Problem] = ()) -> Traces:
    rows = [row for number, run in enumerate(runs) for row in _events(number, run)]
    events = pa.Table.from_pylist(rows, schema=events_schema())
    messages = messages_schema().empty_table()
    return Traces.of_snapshots({"store": Snapshot((), (), events, messages, tuple(problems))})


def build_runs(tasks: int, trials: int, **candidate: Any) -> list[Run]:
    return [
        {
            "suite": "demo", "task_id": f"task-{task:02d}", "task_digest": "v1", "trial": trial,
            "variant": variant, "session_id": "s",
            **(candidate if variant == "candidate" else {}),
        }
        for task in range(tasks)
        for trial in range(trials)
        for variant in ("baseline", "candidate")
    ]  # fmt: skip


@pytest.fixture
def traces_of() -> Iterator[Callable[..., Traces]]:
    opened: list[Traces] = []

    def build(runs: Sequence[Run], problems: Sequence[Problem] = ()) -> Traces:
        opened.append(build_traces(runs, problems))
        return opened[-1]

    yield build
    for traces in opened:
        traces.close()


@pytest.fixture(scope="session")
def pairs_of_runs() -> Callable[..., list[Run]]:
    return build_runs


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def drifted() -> Verdict:
    """12 tasks x 2 trials, 4 -> 8 calls, three storms, and a hostile text wherever one fits."""
    runs = build_runs(12, 2, calls=8, variant=HOSTILE)
    for run in runs:
        run.update(suite=HOSTILE, session_id=None)
    for number, run in enumerate(runs[1:6:2]):
        run.update(calls=60, run_id=f"{number}{HOSTILE}")
    runs.append({**runs[0], "task_id": HOSTILE, "run_id": "lost"})
    runs.append({**runs[1], "run_id": HOSTILE, "stop_reason": "replay_miss"})
    problems = [Problem(Path("journal/x"), HOSTILE)]
    with build_traces(runs, problems) as traces:
        return compare(traces, "baseline", Side(HOSTILE, (Term("variant", HOSTILE),)))
