"""How fast journals become Parquet on one core: `python benchmarks/seal_throughput.py`.

CPU seconds, not wall time. Beside it its lower bound, in the same rounds: pyarrow writing
the very same rows, which are already in memory, with the same settings.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks._events import tool_call_fields
from benchmarks._timing import table
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter

GOAL = 100_000
EVENTS_PER_RUN = 20


def recorded(folder: Path, events: int) -> Path:
    """A store with one journal that is not sealed."""
    rng = random.Random(7)
    rows = [tool_call_fields(rng, step) for step in range(2_000)]
    with Recorder(folder / "store", seal_on_close=False, seal_at_bytes=1 << 40) as recorder:
        for first in range(0, events, EVENTS_PER_RUN):
            run = RunWriter(recorder, f"{first:036}", clock=SystemClock())
            run.started(agent="bench")
            for at in range(EVENTS_PER_RUN - 2):
                run.tool_call(**rows[(first + at) % len(rows)])
            run.stopped(stop_reason="ok")
    return folder / "store"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"sealed": [], "pyarrow alone": []}
    with tempfile.TemporaryDirectory() as name:
        original = recorded(Path(name), options.events)
        for number in range(options.rounds + 1):
            copy = Path(shutil.copytree(original, Path(name) / f"copy-{number}"))
            start = time.process_time()
            seal_store(Store.open(copy))
            sealed = time.process_time() - start
            (segment,) = copy.glob("events/*/*.parquet")
            rows = pq.ParquetFile(segment).read()
            start = time.process_time()
            pq.write_table(rows, Path(name) / "alone.parquet", compression="zstd")
            alone = time.process_time() - start
            if number:  # the first round warms up
                seconds["sealed"].append(sealed)
                seconds["pyarrow alone"].append(alone)
            shutil.rmtree(copy)
    lines = []
    for what, values in seconds.items():
        median = statistics.median(values)
        lines.append((what, f"{options.events / median:,.0f}", f"{median:.2f}"))
    print(table(lines, header=("", "events/s", "CPU s")))
    print(f"goal: {GOAL:,} events/s on one core")


if __name__ == "__main__":
    main()
