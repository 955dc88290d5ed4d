"""How long a drift check takes, from open stores to the verdict and its HTML report.

Stores are made as one sealed Parquet segment, by a process of its own: tasks x 5 trials x 2
variants, and per run 1 start, 5 model calls, 5 tool calls, 1 end and 1 evaluation. Opening and
checking are timed apart.

    python benchmarks/check.py                     2,000 and 20,000 runs, 5 rounds
    python benchmarks/check.py --runs 100000 --calls 10 --repeat 3    2.2 M events
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _timing import rounds, table

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.reports.render import render
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import events_schema, messages_schema

TRIALS = 5


def write_segment(path: Path, runs: int, calls: int) -> None:
    """A segment of `runs` unchanged runs; every column that the check reads is filled."""
    kinds = ("run_started", *["model_call", "tool_call"] * calls, "run_stopped", "evaluation")
    rng = np.random.default_rng(runs)
    tasks = max(1, runs // (2 * TRIALS))
    run = np.repeat(np.arange(runs), len(kinds))
    kind = np.tile(np.array(kinds), runs)
    task, arm = run % tasks, (run // tasks) % 2
    is_model = kind == "model_call"
    is_tool = (kind == "tool_call") & (rng.random(run.size) < 0.8)
    keep = is_model | is_tool | (kind != "tool_call")
    columns = {
        "kind": kind,
        "run_id": np.char.add("run-", np.char.zfill(run.astype(str), 7)),
        "seq": np.tile(np.arange(len(kinds)), runs),
        "suite": masked("bench", kind == "run_started"),
        "task_id": masked(np.char.add("task-", task.astype(str)), kind == "run_started"),
        "variant": masked(np.where(arm, "candidate", "baseline"), kind == "run_started"),
        "session_id": masked("one", kind == "run_started"),
        "actor": masked("agent", is_model | is_tool),
        "outcome": masked("ok", is_model | is_tool),
        "input_tokens": masked(rng.integers(100, 5_000, run.size), is_model),
        "output_tokens": masked(rng.integers(10, 500, run.size), is_model),
        "cost_usd": masked(rng.lognormal(-5, 0.5, run.size), is_model),
        "latency_ms": masked(rng.lognormal(7, 0.6, run.size), is_model | is_tool),
        "tool_name": masked("search", is_tool),
        "status": masked("completed", kind == "run_stopped"),
        "stop_reason": masked("ok", kind == "run_stopped"),
        "name": masked("success", kind == "evaluation"),
        "passed": masked(rng.random(run.size) < 0.7, kind == "evaluation"),
    }
    schema = events_schema()
    arrays = [
        pa.array(columns[field.name]).cast(field.type)
        if field.name in columns
        else pa.nulls(run.size, field.type)
        for field in schema
    ]
    events = pa.Table.from_arrays(arrays, schema=schema).filter(pa.array(keep))
    pq.write_table(events, path, compression="zstd")


def masked(values: np.ndarray | str, rows: np.ndarray) -> pa.Array:
    """An Arrow column with values in `rows` and nulls elsewhere."""
    return pa.array(np.broadcast_to(np.asarray(values), rows.shape), mask=~rows)


def open_segment(path: Path) -> Traces:
    messages = messages_schema().empty_table()
    nothing = events_schema().empty_table()
    return Traces.of_snapshots({"bench": Snapshot((path,), (), nothing, messages, ())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=(2_000, 20_000))
    parser.add_argument("--calls", type=int, default=5, help="model calls, and tool calls, per run")
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runs in chosen.runs:
            path = Path(folder) / f"{runs}.parquet"
            writer = multiprocessing.get_context("spawn").Process(
                target=write_segment, args=(path, runs, chosen.calls)
            )
            writer.start()
            writer.join()
            with open_segment(path) as traces:
                verdict = compare(traces)
                seconds = rounds(
                    {
                        "open": lambda path=path: open_segment(path).close(),
                        "check": lambda traces=traces: compare(traces),
                        "html": lambda verdict=verdict: render(verdict, "html"),
                    },
                    repeat=chosen.repeat,
                )
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            times = (f"{seconds[name]:.2f}" for name in ("open", "check", "html"))
            rows.append(
                (f"{runs:,} runs", *times, f"{verdict.method.labellings:,}", f"{peak:,.0f}")
            )
    print(f"median of {chosen.repeat} rounds\n")
    print(table(rows, header=("store", "open s", "check s", "html s", "labellings", "peak MB")))


if __name__ == "__main__":
    main()
