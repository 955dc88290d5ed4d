"""Real processes, killed with SIGKILL while they record, and while others seal, merge or erase
beside them: nothing acknowledged is lost, nothing is there twice.

FLIGHTLOG_TORTURE_SIZE=full kills 1,550 of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.recorder.audit import audit_store
from flightlog.recorder.life.erase import erase
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.schema import events_schema
from tests.crash.killed import MODES, RUN_EVENTS, Acknowledged, kill_group, subject
from tests.torture.size import SEED, sized
from tests.unit.recorder.store_life import everything_in

KILLS = {
    "plain": sized(16, 400),
    "durable": sized(8, 300),
    "sealing": sized(6, 300),
    "merging": sized(6, 300),
    "erasing": sized(6, 250),
}
ROUND = sized(8, 10)
"""So many are killed over one store."""
SEALINGS = sized(10, 100)
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
Seen = dict[int, list[tuple[int, int]]]
"""By seed and thread: the last run, and how many of its events were acknowledged."""


def all_events(store: Store) -> pa.Table:
    snap = store.snapshot()
    sealed = [
        pq.ParquetFile(path).read(columns=events_schema().names).cast(events_schema())
        for path in snap.event_files
    ]
    return pa.concat_tables([*sealed, snap.unsealed_events])


def check(store: Store, acknowledged: Seen) -> Counter[str]:
    """Nothing is lost or doubled, and each run has one end; the figures."""
    table = all_events(store)
    rows = table.select(["run_id", "seq", "kind", "stop_reason"]).to_pylist()
    rows = [row for row in rows if row["kind"] != "gap"]
    count = Counter((row["run_id"], row["seq"]) for row in rows)
    assert set(count.values()) <= {1}, "an event was read twice"
    crashed = {row["run_id"] for row in rows if row["stop_reason"] == "crashed"}
    ends = Counter(row["run_id"] for row in rows if row["kind"] == "run_stopped")
    figures = Counter(lost=0, doubled=0, crashed=len(crashed))
    for seed, threads in acknowledged.items():
        for thread, (last_run, events) in enumerate(threads):
            for run in range(last_run + 1):
                run_id = f"{seed}-{thread}-{run}"
                expected = events if run == last_run else RUN_EVENTS
                lost = [seq for seq in range(expected) if (run_id, seq) not in count]
                assert not lost, f"run {run_id}: acknowledged and lost: {lost}"
                figures["acknowledged"] += expected
                assert ends[run_id] == 1 or not expected, "a run without one end"
                # At most one more than was acknowledged can have been written.
                is_complete = (run_id, RUN_EVENTS - 1) in count and run_id not in crashed
                if run < last_run:
                    assert is_complete
                elif expected:
                    assert is_complete or run_id in crashed
    figures["recovered"] = len(rows) - len(crashed)
    assert set(ends) == {row["run_id"] for row in rows}
    return figures


def all_texts(store: Store) -> list[str]:
    return sorted(map(str, all_events(store).to_pylist()))


@pytest.mark.parametrize("mode", MODES)
def test_no_acknowledged_event_is_lost_or_doubled_by_sigkill(
    mode: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    start_s = time.perf_counter()
    figures: Counter[str] = Counter()
    first = SEED * 1_000_000
    for start in range(first, first + KILLS[mode], ROUND):
        path = tmp_path / "store"
        store = Store.create(path)
        acknowledged: Seen = {}
        for seed in range(start, min(start + ROUND, first + KILLS[mode])):
            acknowledged[seed] = kill_group(path, seed, mode)
        before = all_texts(store)
        check(store, acknowledged)
        report = seal_store(store)
        if mode in ("plain", "durable"):
            assert report.sealed_journals == len(acknowledged)
        figures += check(store, acknowledged)
        if mode != "erasing":  # what was begun is gone on with
            assert all_texts(store) == before
        else:
            erase(store, names=[("data_subject", subject(0))])
            check(store, acknowledged)
            assert subject(0).encode() not in everything_in(path)
        assert store.layout.journal_files() == []
        assert verify_store(store).ok
        assert audit_store(store).problems == ()
        figures["kills"] += len(acknowledged)
        shutil.rmtree(path)
    assert figures["acknowledged"] > KILLS[mode]
    figures["kills (" + mode + ")"] = figures["kills"]
    told = {name: figures[name] for name in ("kills", *sorted(set(figures) - {"kills"}))}
    told |= {"lost": 0, "doubled": 0, "seconds": time.perf_counter() - start_s}
    record_property("figures", ("kills", told))


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
    acknowledged = {seed: kill_group(path, seed, "plain") for seed in range(3)}
    store = Store.open(path)
    rng = random.Random(SEED)
    for _ in range(SEALINGS):
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
