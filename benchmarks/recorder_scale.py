"""Memory over many events, and many writers at once: `python benchmarks/recorder_scale.py`.

`--events 1000000` is the full size. Memory is the resident set of the recording process,
after each tenth; the writers are processes on one store, and what they acknowledged is
counted again in the sealed store.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

from benchmarks._events import step_messages, tool_call_fields
from benchmarks._timing import table
from flightlog.analysis.db import Traces
from flightlog.recorder.recorder import Recorder
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter

EVENTS_PER_RUN = 20
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


def writers(folder: Path, events: int, processes: int) -> None:
    context = multiprocessing.get_context("spawn")
    lines = []
    for number in (1, processes):
        each = events // number
        children = [
            context.Process(target=write, args=(folder, each, 100 * number + one))
            for one in range(number)
        ]
        start = time.perf_counter()
        for child in children:
            child.start()
        for child in children:
            child.join()
        seconds = time.perf_counter() - start
        lines.append((str(number), f"{each * number / seconds:,.0f}"))
    print(table(lines, header=("writers", "events/s")))
    with Traces(folder / "writers") as traces:
        (row,) = traces.rows("SELECT count(*) AS n, count(DISTINCT (run_id, seq)) AS d FROM events")
    print(f"{row['n']:,} events in the store, {row['n'] - row['d']} of them twice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        memory(Path(name), options.events)
        writers(Path(name), options.events, options.writers)


if __name__ == "__main__":
    main()
