"""What a call pays for what is shared by the processes on a store.

    python benchmarks/shared_state.py [--calls 2000] [--processes 1 4]

Microseconds per operation, wall time, as each process sees them: median, mean,
99th percentile and the longest, over all processes. All processes work on one file at
the same time and without a pause, which no agent does. The bare insert is
SQLite alone, in the same settings (WAL, synchronous=NORMAL, BEGIN IMMEDIATE).
The windows hold `--rows` entries from the start.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path

from _timing import table

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.breakers import Breakers
from flightlog.control.shared_state import SharedState
from flightlog.control.window_budget import WindowBudget
from flightlog.control.windows import Reservation, Windows

CENT = Decimal("0.01")
BUDGET = WindowBudget(3600, max_tool_calls=10**9, max_usd=10**6, max_tokens=10**12)
POLICY = BreakerPolicy()
PATIENCE_S = 60.0

Operation = Callable[[], object]


def operations(folder: Path) -> dict[str, Operation]:
    """What is measured, by name; each does one."""
    raw = sqlite3.connect(folder / "raw.sqlite", timeout=PATIENCE_S, isolation_level=None)
    raw.execute("PRAGMA synchronous = NORMAL")
    state = SharedState(folder / "control" / "state.sqlite", timeout_s=PATIENCE_S)
    breakers, windows = Breakers(state), Windows(state)

    def insert() -> None:
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("INSERT INTO calls (at, amount) VALUES (?, ?)", (time.time(), 1))
        raw.execute("COMMIT")

    def admit_and_report() -> None:
        breakers.admit("browse", POLICY, time.time())
        breakers.report("browse", POLICY, time.time(), failed=False, is_probe=False)

    def reserve(tenant: str = "a") -> Reservation:
        got = windows.reserve(tenant, BUDGET, time.time(), tool_calls=1, usd=CENT, tokens=100)
        assert isinstance(got, Reservation)
        return got

    return {
        "bare sqlite insert": insert,
        "breaker admit, closed": lambda: breakers.admit("browse", POLICY, time.time()),
        "breaker admit + report": admit_and_report,
        "window reserve": reserve,
        "window reserve + settle": lambda: windows.settle(reserve(), usd=CENT, tokens=50),
    }


def measure(
    folder: Path,
    calls: int,
    barrier: Barrier,
    results: multiprocessing.Queue[dict[str, list[float]]],
) -> None:
    """Does every operation `calls` times, at the same time as the other processes."""
    times: dict[str, list[float]] = {}
    for name, operation in operations(folder).items():
        operation()
        barrier.wait()
        times[name] = []
        for _ in range(calls):
            started = time.perf_counter()
            operation()
            times[name].append((time.perf_counter() - started) * 1e6)
        barrier.wait()
    results.put(times)


def prepare(folder: Path, rows: int) -> None:
    """A file for the bare insert, and windows that already hold rows."""
    raw = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, at REAL, amount INTEGER)")
    raw.close()
    windows = Windows(SharedState(folder / "control" / "state.sqlite"))
    for _ in range(rows + 1):  # one, so that the file is there
        windows.reserve("a", BUDGET, time.time(), tool_calls=1)


def run(processes: int, calls: int, rows: int) -> dict[str, list[float]]:
    """All times of all processes, by operation."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, rows)
        barrier, results = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=measure, args=(folder, calls, barrier, results))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        found = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
    return {name: sorted(us for one in found for us in one[name]) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="+", default=[0, 100_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    lines = []
    for rows in options.rows:
        for processes in options.processes:
            for name, times in run(processes, options.calls, rows).items():
                p99 = times[math.ceil(0.99 * len(times)) - 1]
                figures = (statistics.median(times), statistics.fmean(times), p99, times[-1])
                lines.append(
                    (name, f"{rows:,}", str(processes), *(f"{one:,.1f}" for one in figures))
                )
    header = ("microseconds per operation", "rows", "processes", "p50", "mean", "p99", "max")
    print(table(lines, header=header))


if __name__ == "__main__":
    main()
