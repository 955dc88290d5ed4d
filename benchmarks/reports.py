"""The standard report set over many runs, beside raw DuckDB on the same Parquet and a scan.

The set is four answers, as in the benchmarks of other tools: tool calls per run by side, cost
per run by task and side, p95 of model latency by task and model, stop reasons by side. Ours are
asked over the views (state, units and unknown values as documented), whose runs are kept in
memory first (`Traces.keep_runs`, timed apart); raw DuckDB has the four as
hand-written SQL over the event columns, with the side on every row; the scan only reads and
hashes those columns, which is the limit of the machine.

    python benchmarks/reports.py                                    2,000 and 20,000 runs
    python benchmarks/reports.py --runs 2000 20000 100000           2.2 million events
    python benchmarks/reports.py --runs 450000 --repeat 3           10 million events
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _timing import table

from flightlog.analysis.db import Traces
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import events_schema, messages_schema

CALLS = 10
TASKS = 200
MODELS = ("fast-1", "large-1")
RAW = {
    "tool calls per run": """
        SELECT arm, avg(n), quantile_cont(n, 0.95), max(n) FROM (
            SELECT run_id, arm, count(*) AS n FROM t WHERE kind = 'tool_call' GROUP BY run_id, arm
        ) GROUP BY arm ORDER BY arm""",
    "cost per run": """
        SELECT task, arm, count(*), avg(c), sum(c) FROM (
            SELECT run_id, task, arm, sum(cost_usd) AS c FROM t WHERE kind = 'model_call'
            GROUP BY run_id, task, arm
        ) GROUP BY task, arm ORDER BY task, arm""",
    "latency p95": """
        SELECT task, request_model, quantile_cont(latency_ms, 0.95) FROM t
        WHERE kind = 'model_call' GROUP BY ALL ORDER BY ALL""",
    "stop reasons": """
        SELECT arm, stop_reason, count(*) FROM t WHERE kind = 'run_stopped'
        GROUP BY ALL ORDER BY ALL""",
}
OURS = {
    "tool calls per run": """
        SELECT variant, avg(tool_calls), quantile_cont(tool_calls, 0.95), max(tool_calls)
        FROM runs GROUP BY variant ORDER BY variant""",
    "cost per run": """
        SELECT task_id, variant, count(*), avg(cost_usd), sum(cost_usd) FROM runs
        GROUP BY ALL ORDER BY ALL""",
    "latency p95": """
        SELECT task_id, request_model, quantile_cont(latency_ms, 0.95) FROM model_calls
        WHERE actor = 'agent' GROUP BY ALL ORDER BY ALL""",
    "stop reasons": """
        SELECT variant, stop_reason, count(*) FROM runs GROUP BY ALL ORDER BY ALL""",
}
COLUMNS = (
    "run_id",
    "kind",
    "task",
    "request_model",
    "arm",
    "latency_ms",
    "cost_usd",
    "stop_reason",
)
_ROWS_PER_GROUP = 1 << 17


def write(path: Path, raw: Path, runs: int) -> None:
    """One segment of `runs` runs, and the same events as raw DuckDB would have them."""
    kinds = ("run_started", *["model_call", "tool_call"] * CALLS, "run_stopped")
    rng = np.random.default_rng(runs)
    size = runs * len(kinds)
    run = np.repeat(np.arange(runs), len(kinds))
    kind = np.tile(np.array(kinds), runs)
    task = np.char.add("task-", (run % TASKS).astype(str))
    arm = np.where(run // TASKS % 2, "candidate", "baseline")
    model = np.array(MODELS)[run // TASKS % 2]
    is_model, is_tool = kind == "model_call", kind == "tool_call"
    is_start, is_stop = kind == "run_started", kind == "run_stopped"
    stop = np.where(rng.random(size) < 0.9, "ok", "max_steps")
    columns = {
        "kind": pa.array(kind),
        "run_id": pa.array(np.char.add("run-", np.char.zfill(run.astype(str), 7))),
        "seq": pa.array(np.tile(np.arange(len(kinds)), runs)),
        "task_id": pa.array(task, mask=~is_start),
        "variant": pa.array(arm, mask=~is_start),
        "actor": pa.array(np.full(size, "agent"), mask=~(is_model | is_tool)),
        "outcome": pa.array(np.full(size, "ok"), mask=~(is_model | is_tool)),
        "request_model": pa.array(model, mask=~is_model),
        "input_tokens": pa.array(rng.integers(100, 5_000, size), mask=~is_model),
        "output_tokens": pa.array(rng.integers(10, 500, size), mask=~is_model),
        "cost_usd": pa.array(rng.lognormal(-5, 0.5, size), mask=~is_model),
        "latency_ms": pa.array(rng.lognormal(7, 0.6, size), mask=~(is_model | is_tool)),
        "tool_name": pa.array(np.full(size, "search"), mask=~is_tool),
        "status": pa.array(np.full(size, "completed"), mask=~is_stop),
        "stop_reason": pa.array(stop, mask=~is_stop),
    }
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(size, field.type)
        for field in events_schema()
    ]
    events = pa.Table.from_arrays(arrays, schema=events_schema())
    pq.write_table(events, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)
    named = {"task": pa.array(task), "arm": pa.array(arm)}
    flat = pa.table({name: named.get(name, columns.get(name)) for name in COLUMNS})
    pq.write_table(flat, raw, compression="zstd", row_group_size=_ROWS_PER_GROUP)


def opened(path: Path) -> Traces:
    messages, nothing = messages_schema().empty_table(), events_schema().empty_table()
    return Traces.of_snapshots({"bench": Snapshot((path,), (), nothing, messages, ())})


def seconds(what: Callable[[], object], repeat: int) -> float:
    what()
    found = []
    for _ in range(repeat):
        begun = time.perf_counter()
        what()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def measured(path: Path, raw: Path, repeat: int) -> dict[str, float]:
    connection = duckdb.connect()
    connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet('{raw}')")
    hashed = ", ".join(f"bit_xor(hash({name}))" for name in COLUMNS)
    with opened(path) as traces:
        begun = time.perf_counter()
        traces.keep_runs()
        kept = time.perf_counter() - begun

        def ours() -> list[list[tuple[object, ...]]]:
            return [traces.connection.sql(query).fetchall() for query in OURS.values()]

        def theirs() -> list[list[tuple[object, ...]]]:
            return [connection.sql(query).fetchall() for query in RAW.values()]

        for one, other in zip(ours(), theirs(), strict=True):
            assert _close(one, other), "the answers differ"
        return {
            "keep": kept,
            "ours": seconds(ours, repeat),
            "raw DuckDB": seconds(theirs, repeat),
            "scan": seconds(lambda: connection.sql(f"SELECT {hashed} FROM t").fetchall(), repeat),
            "whole file": seconds(
                lambda: connection.sql(f"SELECT count(*) FROM '{path}'").fetchall(), repeat
            ),
        }


def _close(one: list[tuple[object, ...]], other: list[tuple[object, ...]]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= 1e-6 * max(1.0, abs(a))
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=(2_000, 20_000))
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runs in chosen.runs:
            path, raw = Path(folder) / "ours.parquet", Path(folder) / "raw.parquet"
            writer = multiprocessing.get_context("spawn").Process(
                target=write, args=(path, raw, runs)
            )
            writer.start()
            writer.join()
            found = measured(path, raw, chosen.repeat)
            events = pq.read_metadata(path).num_rows
            rows.append(
                (f"{runs:,}", f"{events:,}", *(f"{found[name]:.3f}" for name in found),
                 f"{found['ours'] / found['raw DuckDB']:.1f}",
                 f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}")
            )  # fmt: skip
    header = (
        "runs",
        "events",
        "keep s",
        "ours s",
        "raw s",
        "scan s",
        "count s",
        "ours / raw",
        "peak MB",
    )
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
