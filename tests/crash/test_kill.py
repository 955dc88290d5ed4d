"""Real processes, killed with SIGKILL while they record: nothing acknowledged is lost.

FLIGHTLOG_KILLS sets how many are killed (20 by default).
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.schema import events_schema

KILLS = int(os.environ.get("FLIGHTLOG_KILLS", "20"))
THREADS = 2
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
_SLOT = struct.Struct("<QQ")


class Acknowledged:
    """Per thread: the run and how many of its events `emit` has returned True for.

    In memory shared with the child, so that it survives the kill to the last event.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, THREADS * _SLOT.size)

    def set(self, thread: int, run: int, events: int) -> None:
        _SLOT.pack_into(self._memory, thread * _SLOT.size, run, events)

    def get(self, thread: int) -> tuple[int, int]:
        run, events = _SLOT.unpack_from(self._memory, thread * _SLOT.size)
        return run, events


def record_until_killed(path: Path, acknowledged: Acknowledged, pipe: int, seed: int) -> None:
    """Runs of 30 events each, on every thread, for ever."""
    recorder = Recorder(path, sync_interval_s=0.01)

    def work(thread: int) -> None:
        rng = random.Random(seed * THREADS + thread)
        run = 0
        while True:
            run_id = f"{seed}-{thread}-{run}"
            for seq in range(30):
                if seq == 0:
                    kept = recorder.emit(RunStarted(run_id=run_id, seq=0))
                elif seq == 29:
                    kept = recorder.emit(RunStopped(run_id=run_id, seq=29), durable=True)
                else:
                    size = rng.choice([10, 500, 9_000, 20_000])
                    event = ToolCall(run_id=run_id, seq=seq, tool_name="t", result="x" * size)
                    body = Message("user", f"{rng.random()} " + "y" * rng.choice([10, 6_000]))
                    kept = recorder.emit(event, messages=[body])
                assert kept
                acknowledged.set(thread, run, seq + 1)
                os.write(pipe, b".")
            run += 1

    for thread in range(1, THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)


def kill_one(path: Path, seed: int) -> list[tuple[int, int]]:
    """Starts a recording child, kills it at a random event; what it had acknowledged."""
    acknowledged = Acknowledged()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            record_until_killed(path, acknowledged, writer, seed)
        finally:
            os._exit(1)
    os.close(writer)
    wanted = random.Random(seed).randrange(1, 400)
    while wanted > 0:
        wanted -= len(os.read(reader, wanted))
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    os.close(reader)
    return [acknowledged.get(thread) for thread in range(THREADS)]


def all_events(store: Store) -> pa.Table:
    snap = store.snapshot()
    sealed = [
        pq.ParquetFile(path).read(columns=events_schema().names).cast(events_schema())
        for path in snap.event_files
    ]
    return pa.concat_tables([*sealed, snap.unsealed_events])


def check(store: Store, acknowledged: list[list[tuple[int, int]]]) -> None:
    table = all_events(store)
    rows = table.select(["run_id", "seq", "stop_reason"]).to_pylist()
    count = Counter((row["run_id"], row["seq"]) for row in rows)
    assert set(count.values()) == {1}, "an event was read twice"
    ends = {r["run_id"]: r for r in rows if r["seq"] > 0 and r["stop_reason"] == "crashed"}
    for seed, threads in enumerate(acknowledged):
        for thread, (last_run, events) in enumerate(threads):
            for run in range(last_run + 1):
                run_id = f"{seed}-{thread}-{run}"
                expected = events if run == last_run else 30
                lost = [seq for seq in range(expected) if (run_id, seq) not in count]
                assert not lost, f"run {run_id}: acknowledged and lost: {lost}"
                # At most one more than was acknowledged can have been written.
                is_complete = (run_id, 29) in count and run_id not in ends
                if expected:
                    assert is_complete or run_id in ends


def test_no_acknowledged_event_is_lost_or_doubled_by_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "store"
    acknowledged = [kill_one(path, seed) for seed in range(KILLS)]
    assert sum(events for threads in acknowledged for _, events in threads) > 0
    store = Store.open(path)
    assert len(store.layout.journal_files()) == KILLS
    check(store, acknowledged)
    before = sorted(map(str, all_events(store).to_pylist()))
    report = seal_store(store)
    assert report.sealed_journals == KILLS
    check(store, acknowledged)
    assert sorted(map(str, all_events(store).to_pylist())) == before
    assert verify_store(store).ok


def test_reader_beside_recording_and_sealing_sees_everything_once(tmp_path: Path) -> None:
    """While a child records and seals journal after journal, each snapshot is whole."""
    path = tmp_path / "store"
    store = Store.create(path)
    acknowledged = Acknowledged()
    child = os.fork()
    if child == 0:
        try:
            for run in range(60):
                with Recorder(path) as recorder:
                    for seq in range(5):
                        event = ToolCall(run_id=f"{run}", seq=seq, tool_name="t")
                        recorder.emit(event, messages=[Message("user", f"{run}-{seq}")])
                        acknowledged.set(0, run, seq + 1)
        finally:
            os._exit(0)
    status, snapshots = (0, 0), 0
    while status == (0, 0):
        status = os.waitpid(child, os.WNOHANG)
        run, events = acknowledged.get(0)
        table = all_events(store)
        keys = [
            (row["run_id"], row["seq"])
            for row in table.select(["run_id", "seq", "kind"]).to_pylist()
            if row["kind"] == "tool_call"
        ]
        assert len(keys) == len(set(keys))
        assert len(keys) >= 5 * run + events
        snapshots += 1
    assert snapshots > 5
    assert len(keys) == 300
    assert store.snapshot().problems == ()


def test_sealing_killed_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    acknowledged = [kill_one(path, seed) for seed in range(3)]
    store = Store.open(path)
    rng = random.Random(1)
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            # The default action of the alarm ends the process in the middle of what it does.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.000_1, 0.03))
            try:
                seal_store(store)
            finally:
                os._exit(0)
        rng.random()
        os.waitpid(child, 0)
        check(store, acknowledged)
    seal_store(store)
    check(store, acknowledged)
    assert store.layout.journal_files() == []
    assert verify_store(store).ok
