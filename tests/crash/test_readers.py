"""Readers beside everything that changes a store: each event exactly once at every read.

FLIGHTLOG_READS sets how many reads there are (50 by default; 1000 is the full size).
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
import traceback
from collections import Counter, deque
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flightlog.analysis.db import Traces
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.removal import checkpoint_if_many
from flightlog.recorder.life.retain import retain
from flightlog.recorder.manifest import manifest_files, sealing_lock
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.events import Event, RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message
from tests.unit.recorder.store_life import check_sound

READS = int(os.environ.get("FLIGHTLOG_READS", "50"))
READERS = 3
WRITERS = 2
EVENTS = 6
KEEP_S = 1.0
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
_SLOT = struct.Struct("<Q")


class Counters:
    """Numbers that several processes see."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * _SLOT.size)

    def set(self, place: int, value: int) -> None:
        _SLOT.pack_into(self._memory, place * _SLOT.size, value)

    def get(self, place: int) -> int:
        (value,) = _SLOT.unpack_from(self._memory, place * _SLOT.size)
        return int(value)


class Shared:
    """What writers, readers and this process tell each other.

    Attributes:
        acknowledged: by writer, how many events were acknowledged.
        old_runs: by writer, how many runs may have been removed.
        reads: by reader, how many.
    """

    def __init__(self) -> None:
        self.acknowledged = Counters(WRITERS)
        self.old_runs = Counters(WRITERS)
        self.reads = Counters(READERS)
        self.is_over = Counters(1)


def event_of(run_id: str, seq: int, text: str) -> Event:
    at = time.time_ns() // 1000
    if seq == 0:
        return RunStarted(run_id=run_id, seq=0, at=at)
    if seq == EVENTS - 1:
        return RunStopped(run_id=run_id, seq=seq, at=at)
    return ToolCall(run_id=run_id, seq=seq, at=at, tool_name="t", result=text)


def record(path: Path, writer: int, shared: Shared) -> None:
    """Runs of EVENTS events, some with long texts, in one journal after the other."""
    rng = random.Random(writer)
    run = 0
    while not shared.is_over.get(0):
        # Rotation seals beside the recording; closing seals in this process.
        with Recorder(path, seal_at_bytes=40_000) as recorder:
            for _ in range(rng.randrange(1, 8)):
                run_id = f"{writer}-{run}"
                for seq in range(EVENTS):
                    event = event_of(run_id, seq, "x" * rng.choice([5, 500, 20_000]))
                    assert recorder.emit(event, messages=[Message("user", f"{run}")])
                    shared.acknowledged.set(writer, run * EVENTS + seq + 1)
                run += 1
                time.sleep(0.02)  # so that a few thousand events last for all the reads


def change(path: Path, shared: Shared) -> None:
    """Merges, removes and checkpoints, over and over."""
    store = Store.open(path)
    seen: deque[tuple[float, list[int]]] = deque()
    while not shared.is_over.get(0):
        compact_store(store)
        seen.append((time.time(), [shared.acknowledged.get(n) // EVENTS for n in range(WRITERS)]))
        at, runs = seen[0]
        if at < time.time() - KEEP_S:
            seen.popleft()
            for writer in range(WRITERS):
                shared.old_runs.set(writer, runs[writer] + 1)  # one that is being acknowledged
            retain(store, older_than_s=0, now_us=round(at * 1e6))
        with sealing_lock(store.layout):
            checkpoint_if_many(store.layout, many=4)
        seal_store(store)


def check_read(rows: list[tuple[str, int]], before: list[int], old: list[int]) -> None:
    """Each event once; whole runs or none of those that were old; all that was acknowledged."""
    count = Counter(rows)
    doubled = [key for key, times in count.items() if times > 1]
    assert not doubled, f"read twice: {doubled[:5]}"
    by_run: Counter[str] = Counter(run_id for run_id, _ in rows)
    for writer in range(WRITERS):
        for run in range(before[writer] // EVENTS):
            events = by_run.get(f"{writer}-{run}", 0)
            is_removable = run < old[writer]
            assert events == EVENTS or (is_removable and events == 0), (
                f"run {writer}-{run}: {events} events of {EVENTS}, {old[writer]} runs are old"
            )
        rest, last = before[writer] % EVENTS, before[writer] // EVENTS
        lost = [seq for seq in range(rest) if (f"{writer}-{last}", seq) not in count]
        assert not lost, f"acknowledged and lost: {writer}-{last} {lost}"


def read(path: Path, reader: int, shared: Shared) -> None:
    """Reads by snapshot and pyarrow, and by DuckDB, by turns."""
    names = ["run_id", "seq"]
    rng = random.Random(1000 + reader)
    for number in range(READS // READERS + 1):
        before = [shared.acknowledged.get(writer) for writer in range(WRITERS)]
        if number % 2:
            with Traces(path) as traces:
                time.sleep(rng.choice([0, 0, 0.05]))
                query = "SELECT run_id, seq FROM events WHERE kind <> 'gap'"
                found = traces.sql(query).fetchall()
        else:
            snap = Store.open(path).snapshot()
            time.sleep(rng.choice([0, 0, 0.05]))
            tables = [pq.ParquetFile(file).read(columns=names) for file in snap.event_files]
            tables.append(snap.unsealed_events.select(names))
            found = [(row["run_id"], row["seq"]) for table in tables for row in table.to_pylist()]
            assert snap.problems == ()
        old = [shared.old_runs.get(writer) for writer in range(WRITERS)]
        check_read(found, before, old)
        shared.reads.set(reader, number + 1)


def child(body, *args: object) -> int:  # type: ignore[no-untyped-def]
    """Runs a function in another process; its id."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body(*args)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def test_each_event_is_read_exactly_once_whatever_happens_to_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    Store.create(path)
    shared = Shared()
    workers = [child(record, path, writer, shared) for writer in range(WRITERS)]
    workers.append(child(change, path, shared))
    readers = [child(read, path, reader, shared) for reader in range(READERS)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers]
    shared.is_over.set(0, 1)
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
    assert codes == [0] * len(codes)
    assert sum(shared.reads.get(reader) for reader in range(READERS)) >= READS
    store = Store.open(path)
    seal_store(store)
    compact_store(store)
    assert len(manifest_files(store.layout)) < 100
    assert any(shared.old_runs.get(writer) for writer in range(WRITERS))
    check_sound(store)
