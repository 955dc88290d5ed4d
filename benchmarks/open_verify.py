"""Time to open and to verify a large store: `python benchmarks/open_verify.py`.

`--events 10000000` is the full size (some 3 GB of disk, several minutes to record). The
lower bound of verifying is reading the same bytes through SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._timing import table
from benchmarks.seal_throughput import recorded
from flightlog.analysis.db import Traces
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store

EVENTS_PER_JOURNAL = 500_000


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for _ in range(0, options.events, EVENTS_PER_JOURNAL):
            store = recorded(Path(name), min(EVENTS_PER_JOURNAL, options.events))
            seal_store(Store.open(store))
        size = sum(path.stat().st_size for path in store.rglob("*.parquet"))
        opened = Store.open(store)
        cases: dict[str, Callable[[], object]] = {
            "SHA-256 over the segments": lambda: hash_all(store),
            "verify": lambda: verify_store(opened),
            "open": lambda: open_store(store),
            "open and count stop reasons": lambda: count(store),
        }
        lines = [(what, f"{seconds_of(case):.2f}") for what, case in cases.items()]
    print(f"{options.events:,} events, {size / 2**20:,.0f} MiB sealed")
    print(table(lines, header=("", "s")))


if __name__ == "__main__":
    main()
