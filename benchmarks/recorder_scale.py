"""Memory over many events, and many writers at once: `python benchmarks/recorder_scale.py`.

`--full` is 1,000,000 events. Memory is the resident set of the recording process, after each
tenth; the writers are processes on one store, and what they acknowledged is counted again in
the store. The lower bound of the writers is as many processes that do nothing but `os.write`
as many records of 1 KB, each to a file of its own. Times are wall times with the start of the
processes (some 0.3 s), so small sizes say little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._events import step_messages, tool_call_fields
from benchmarks._timing import load, table
from flightlog.analysis.db import Traces
from flightlog.recorder.recorder import Recorder
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter

EVENTS_PER_RUN = 20
RECORD = b"x" * 1_000
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def record_runs(recorder: Recorder, events: int, seed: int) -> None:
    rng = random.Random(seed)
    steps = [step_messages(rng, step) for step in range(500)]
    calls = [tool_call_fields(rng, step) for step in range(500)]
    for first in range(0, events, EVENTS_PER_RUN):
        run = RunWriter(recorder, f"{seed}-{first:030}", clock=SystemClock())
        run.started(agent="bench")
        for step in range((EVENTS_PER_RUN - 2) // 2):
            request, answer = steps[(first + step) % len(steps)]
            run.model_call(prompt=[request], output=answer, step=step, input_tokens=10)
            run.tool_call(**calls[(first + step) % len(calls)])
        run.stopped(stop_reason="ok")


def memory(folder: Path, events: int) -> None:
    lines, start = [], time.perf_counter()
    with Recorder(folder / "memory", seal_on_close=False) as recorder:
        record_runs(recorder, events // 10, 0)
        first = resident_bytes()
        for tenth in range(2, 11):
            record_runs(recorder, events // 10, tenth)
            used = resident_bytes()
            lines.append((f"{tenth * events // 10:,}", f"{used / 2**20:.1f}"))
    grown = (used - first) / (events * 0.9)
    print(table(lines, header=("events", "MiB")))
    print(
        f"{grown:.2f} bytes per event from the first tenth on; {time.perf_counter() - start:.1f} s"
    )


def write(folder: Path, events: int, seed: int) -> None:
    with Recorder(folder / "writers", seal_on_close=False) as recorder:
        record_runs(recorder, events, seed)
        assert recorder.dropped_events == 0


def write_bare(folder: Path, events: int, seed: int) -> None:
    descriptor = os.open(folder / f"bare-{seed}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(events):
        os.write(descriptor, RECORD)


def seconds_of(what: Callable[[Path, int, int], None], folder: Path, each: int, n: int) -> float:
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=what, args=(folder, each, 100 * n + one)) for one in range(n)
    ]
    start = time.perf_counter()
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert all(child.exitcode == 0 for child in children)
    return time.perf_counter() - start


def writers(folder: Path, events: int, processes: int) -> None:
    lines, recorded = [], 0
    for number in (1, processes):
        each = events // number // EVENTS_PER_RUN * EVENTS_PER_RUN
        count = each * number
        recorded += count
        ours = count / seconds_of(write, folder, each, number)
        bare = count / seconds_of(write_bare, folder, each, number)
        lines.append((str(number), f"{ours:,.0f}", f"{bare:,.0f}", f"{bare / ours:.1f}"))
    print(table(lines, header=("writers", "events/s", "os.write alone/s", "times")))
    with Traces(folder / "writers") as traces:
        (row,) = traces.rows("SELECT count(*) AS n, count(DISTINCT (run_id, seq)) AS d FROM events")
    print(f"{recorded:,} events acknowledged, {recorded - row['d']} lost, ", end="")
    print(f"{row['n'] - row['d']} twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--full", action="store_true", help="1,000,000 events")
    options = parser.parse_args()
    events = 1_000_000 if options.full else options.events
    with tempfile.TemporaryDirectory() as name:
        memory(Path(name), events)
        writers(Path(name), events, options.writers)
    print(load())


if __name__ == "__main__":
    main()
