"""Time to open and to verify a large store: `python benchmarks/open_verify.py`.

`--full` is 10,000,000 events (some 3.5 GB of disk; recorded by the recorder itself and sealed,
100,000 a journal). With `--folder` the store is made there, once: a run that was stopped goes
on where it ended, and the store stays. The lower bound of verifying is reading the same bytes
through SHA-256. Each is timed once, cold caches are not forced.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks._timing import load, table
from benchmarks.seal_throughput import recorded
from flightlog.analysis.db import Traces
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store

EVENTS_PER_JOURNAL = 100_000
FULL = 10_000_000


def seconds_of(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def open_store(store: Path) -> None:
    with Traces(store):
        pass


def count(store: Path) -> None:
    with Traces(store) as traces:
        traces.rows("SELECT stop_reason, count(*) FROM runs GROUP BY ALL")


def hash_all(store: Path) -> None:
    for path in sorted(store.rglob("*.parquet")):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def made(folder: Path, events: int) -> Path:
    """A sealed store of so many events; what is there already is kept."""
    store = folder / "store"
    while (have := sealed_events(store)) < events:
        here = recorded(folder, min(EVENTS_PER_JOURNAL, events - have), seed=have)
        seal_store(Store.open(here))
        print(f"{sealed_events(store):,} events", end="\r", flush=True)
    return store


def sealed_events(store: Path) -> int:
    if not store.exists():
        return 0
    seal_store(Store.open(store))  # what a run that was stopped left
    paths = store.glob("events/*/*.parquet")
    return sum(pq.read_metadata(path).num_rows for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} events")
    parser.add_argument("--folder", type=Path, help="where the store is made and kept")
    options = parser.parse_args()
    events = FULL if options.full else options.events
    with tempfile.TemporaryDirectory() as name:
        store = made(options.folder or Path(name), events)
        size = sum(path.stat().st_size for path in store.rglob("*.parquet"))
        opened = Store.open(store)
        cases: dict[str, Callable[[], object]] = {
            "SHA-256 over the segments": lambda: hash_all(store),
            "verify (SHA-256 of segments, manifests)": lambda: verify_store(opened),
            "open": lambda: open_store(store),
            "open and count stop reasons": lambda: count(store),
        }
        lines = [(what, f"{seconds_of(case):.2f}") for what, case in cases.items()]
    print(f"{events:,} events, {size / 2**20:,.0f} MiB sealed\n")
    print(table(lines, header=("", "s")))
    print(load())


if __name__ == "__main__":
    main()
