"""How often a postmortem names the true cause of a made incident first, and what it costs.

Each of 16 kinds of incident is put into two days of made-up traffic (`_traffic.py`), with the
subject, time and size that the seed draws; healthy windows are searched too. A finding counts
when its kind and its subject are those of the incident.

    python benchmarks/postmortem.py                  20 seeds of each kind, 100 healthy windows
    python benchmarks/postmortem.py --seeds 2        for a look
    python benchmarks/postmortem.py --time 2000 20000 100000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from _timing import table
from _traffic import CAUSES, INCIDENTS, NONE, Traffic, incident

from flightlog.analysis.db import Traces
from flightlog.analysis.postmortem import postmortem
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import events_schema, messages_schema

HOURS = 48.0
HEALTHY = "healthy"
HEALTHY_SEEDS = 10_000


def judged(task: tuple[str, int, int]) -> tuple[str, bool, bool, str]:
    """Kind, whether the true cause is first, whether it is among the causes, and what was told."""
    kind, seed, runs = task
    wrong = NONE if kind == HEALTHY else incident(kind, seed, HOURS)
    seed += HEALTHY_SEEDS if kind == HEALTHY else 0
    with Traffic(seed, runs, HOURS, wrong).traces() as traces:
        found = postmortem(traces)
    causes = [(one.kind, one.subject) for one in found.findings if one.caused_by is None]
    told = ", ".join(f"{name} {subject}" for name, subject in causes) or "nothing"
    if kind == HEALTHY:
        return kind, not causes, not causes, told
    is_true = [name in CAUSES[kind] and subject == wrong.subject for name, subject in causes]
    return kind, bool(is_true) and is_true[0], any(is_true), f"{wrong.subject}: {told}"


def accuracy(seeds: int, healthy: int, runs: int) -> None:
    tasks = [(kind, seed, runs) for kind in INCIDENTS for seed in range(seeds)]
    tasks += [(HEALTHY, seed, runs) for seed in range(healthy)]
    rows: dict[str, list[int]] = {kind: [0, 0, 0] for kind in (*INCIDENTS, HEALTHY)}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for kind, is_first, is_found, told in pool.imap(judged, tasks):
            rows[kind][0] += 1
            rows[kind][1] += is_first
            rows[kind][2] += is_found
            if not is_first:
                print(f"missed: {kind}, {told}")
    shown = [
        (kind, str(count), str(first), str(found))
        for kind, (count, first, found) in rows.items()
        if kind != HEALTHY
    ]
    count = sum(rows[kind][0] for kind in INCIDENTS)
    first = sum(rows[kind][1] for kind in INCIDENTS)
    among = sum(rows[kind][2] for kind in INCIDENTS)
    shown.append(("all", str(count), str(first), str(among)))
    print(table(shown, header=("incident", "windows", "true cause first", "among the causes")))
    print(f"\ntrue cause first in {first / count:.1%} of {count} windows of {runs:,} runs")
    windows, fine, _ = rows[HEALTHY]
    print(f"healthy windows with a finding: {windows - fine} of {windows}")


def timed(sizes: list[int], repeat: int) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runs in sizes:
            path = Path(folder) / f"{runs}.parquet"
            writer = multiprocessing.get_context("spawn").Process(target=written, args=(path, runs))
            writer.start()
            writer.join()
            seconds, events = [], pq.read_metadata(path).num_rows
            for _ in range(repeat):
                begun = time.perf_counter()
                with opened(path) as traces:
                    found = postmortem(traces)
                seconds.append(time.perf_counter() - begun)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append(
                (f"{runs:,}", f"{events:,}", f"{statistics.median(seconds):.2f}",
                 f"{peak:,.0f}", found.findings[0].kind if found.findings else "nothing")
            )  # fmt: skip
    header = ("runs", "events", "seconds (median)", "peak MB", "first finding")
    print(table(rows, header=header))


def written(path: Path, runs: int) -> None:
    events = Traffic(1, runs, HOURS, incident("flaky_tool", 3, HOURS)).build()
    pq.write_table(events, path, compression="zstd")


def opened(path: Path) -> Traces:
    messages, nothing = messages_schema().empty_table(), events_schema().empty_table()
    return Traces.of_snapshots({"made": Snapshot((path,), (), nothing, messages, ())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--healthy", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3_000, help="runs of a window")
    parser.add_argument("--time", type=int, nargs="+", help="runs of the windows that are timed")
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.time:
        timed(chosen.time, chosen.repeat)
    else:
        accuracy(chosen.seeds, chosen.healthy, chosen.runs)


if __name__ == "__main__":
    main()
