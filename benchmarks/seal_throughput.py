"""How fast journals become Parquet on one core: `python benchmarks/seal_throughput.py`.

Measured is `seal_store` as a whole: reading and checking one journal of runs of 18 tool calls
of about 1 KB with texts that are all different, decoding, encoding again, salts and the chain,
Parquet with zstd, its SHA-256, all syncs, the manifest. CPU seconds of all threads (user and
system) and not wall time, since a sealing waits for the disk. Beside it two lower bounds, in
the same rounds: pyarrow writing the very same rows, which are in memory, with the same
compression; and SHA-256 over the journal. With one round to warm up.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks._events import distinct_call_fields
from benchmarks._timing import load, table
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter

GOAL = 100_000
EVENTS_PER_RUN = 20


def recorded(folder: Path, events: int, *, seed: int = 7) -> Path:
    """A store with one journal that is not sealed, beside what is sealed in it."""
    rng = random.Random(seed)
    with Recorder(folder / "store", seal_on_close=False, seal_at_bytes=1 << 40) as recorder:
        for first in range(0, events, EVENTS_PER_RUN):
            run = RunWriter(recorder, f"{seed:06}-{first:029}", clock=SystemClock())
            run.started(agent="bench")
            for step in range(EVENTS_PER_RUN - 2):
                run.tool_call(**distinct_call_fields(rng, step))
            run.stopped(stop_reason="ok")
    return folder / "store"


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="400,000 events, 9 rounds")
    options = parser.parse_args()
    events, rounds = (400_000, 9) if options.full else (options.events, options.rounds)
    seconds: dict[str, list[float]] = {}

    def timed(what: str, case: Callable[[], object]) -> None:
        start = time.process_time()
        case()
        seconds.setdefault(what, []).append(time.process_time() - start)

    with tempfile.TemporaryDirectory() as name:
        original = recorded(Path(name), events)
        for number in range(rounds + 1):
            copy = Path(shutil.copytree(original, Path(name) / f"copy-{number}"))
            (journal,) = (copy / "journal").iterdir()
            size = journal.stat().st_size
            timed("SHA-256 over the journal", partial(hash_of, journal))
            timed("seal_store", partial(seal_store, Store.open(copy)))
            (segment,) = copy.glob("events/*/*.parquet")
            sealed_size = segment.stat().st_size
            rows = pq.ParquetFile(segment).read()
            target = Path(name) / "alone.parquet"
            write = partial(pq.write_table, compression="zstd", compression_level=1)
            timed("pyarrow alone", partial(write, rows, target))
            shutil.rmtree(copy)
    lines = []
    for what, (_, *values) in seconds.items():
        rates = [events / value for value in values]
        lines.append((what, f"{statistics.median(rates):,.0f}", f"{max(rates):,.0f}"))
    print(f"{events:,} events, {size / events:.0f} bytes in the journal, ", end="")
    print(f"{sealed_size / events:.0f} sealed; {rounds} rounds\n")
    print(table(lines, header=("events per CPU second", "median", "best")))
    ours = events / statistics.median(seconds["seal_store"][1:])
    print(f"\ngoal {GOAL:,}: {'held' if ours >= GOAL else 'MISSED'} ({ours:,.0f}); {load()}")


if __name__ == "__main__":
    main()
