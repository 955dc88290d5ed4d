"""Readers beside everything that changes a store: each event exactly once at every read.

FLIGHTLOG_TORTURE_SIZE=full makes 1,200 reads of plain and of encrypted stores.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import FlightlogError, StoreError
from flightlog.recorder.encryption.keys import KEY_VARIABLE, new_key
from flightlog.recorder.encryption.parquet import read_segment
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.erase import erase
from flightlog.recorder.life.rekey import rekey_store
from flightlog.recorder.life.removal import checkpoint_if_many
from flightlog.recorder.life.retain import retain
from flightlog.recorder.manifest import manifest_files, sealing_lock
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.events import Event, RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message
from tests.torture.size import sized
from tests.unit.recorder.store_life import check_sound

READS = {"plain": sized(30, 800), "encrypted": sized(15, 400)}
READERS = 3
WRITERS = 2
EVENTS = 6
KEEP_S = 1.0
MOST_RUNS = 60
"""Runs of a writer that are not old yet: reads take as long as there are events."""
SUBJECTS = 5
CHANGES = ("merged", "retained", "erased", "rekeyed", "checkpointed", "sealed")
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
        again: by reader, how often it was told to read again.
        changes: how many of each kind of change were made.
    """

    def __init__(self) -> None:
        self.acknowledged = Counters(WRITERS)
        self.old_runs = Counters(WRITERS)
        self.reads = Counters(READERS)
        self.again = Counters(READERS)
        self.is_over = Counters(1)
        self.changes = Counters(len(CHANGES))

    def changed(self, what: str) -> None:
        place = CHANGES.index(what)
        self.changes.set(place, self.changes.get(place) + 1)

    def has_all(self, kind: str) -> bool:
        """True when each kind of change was made."""
        wanted = [name for name in CHANGES if kind == "encrypted" or name != "rekeyed"]
        return all(self.changes.get(CHANGES.index(name)) for name in wanted)


def event_of(run_id: str, seq: int, text: str) -> Event:
    at = time.time_ns() // 1000
    if seq == 0:
        run = int(run_id.partition("-")[2])
        return RunStarted(run_id=run_id, seq=0, at=at, data_subject=f"subject-{run % SUBJECTS}")
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
                while run - shared.old_runs.get(writer) > MOST_RUNS and not shared.is_over.get(0):
                    time.sleep(0.02)  # else a busy machine would never come to the end


def change(path: Path, shared: Shared, keys: tuple[str, ...]) -> None:
    """Merges, erases, encrypts anew, removes and checkpoints, over and over."""
    store = Store.open(path)
    number = 0
    seen: deque[tuple[float, list[int]]] = deque()
    while not shared.is_over.get(0):
        number += 1
        compact_store(store)
        shared.changed("merged")
        if number % 3 == 2:
            name = ("data_subject", f"subject-{number % SUBJECTS}")
            erase(store, names=[name], readers_wait_s=600.0)
            shared.changed("erased")
        if keys and number % 3 == 1:
            keys = keys[::-1]
            os.environ[KEY_VARIABLE] = " ".join(keys)
            store = Store.open(path)
            rekey_store(store, wait_s=1.0)  # it holds the lock that writers need
            shared.changed("rekeyed")
        seen.append((time.time(), [shared.acknowledged.get(n) // EVENTS for n in range(WRITERS)]))
        at, runs = seen[0]
        if at < time.time() - KEEP_S:
            seen.popleft()
            for writer in range(WRITERS):
                shared.old_runs.set(writer, runs[writer] + 1)  # one that is being acknowledged
            retain(store, older_than_s=0, now_us=round(at * 1e6))
            shared.changed("retained")
        with sealing_lock(store.layout):
            if checkpoint_if_many(store.layout, many=4):
                shared.changed("checkpointed")
        seal_store(store)
        shared.changed("sealed")


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


def read(path: Path, reader: int, shared: Shared, kind: str, reads: int) -> None:
    """Reads by snapshot and pyarrow, and by DuckDB, by turns."""
    rng = random.Random(1000 + reader)
    number = 0
    while number * READERS < reads or not shared.has_all(kind):
        before = [shared.acknowledged.get(writer) for writer in range(WRITERS)]
        try:
            found = (read_by_views, read_by_snapshot)[number % 2](path, rng.choice([0, 0, 0.05]))
        except StoreError as error:
            # An erasure waits for readers, but not for long; what they get then is no rows.
            if not is_gone(error):
                raise
            shared.again.set(reader, shared.again.get(reader) + 1)
            continue
        old = [shared.old_runs.get(writer) for writer in range(WRITERS)]
        check_read(found, before, old)
        number += 1
        shared.reads.set(reader, number)


def is_gone(error: FlightlogError) -> bool:
    """True for what a reader is told when a file was removed under it."""
    return "Read again" in error.hint or "No such file" in error.what


def read_by_views(path: Path, pause_s: float) -> list[tuple[str, int]]:
    with Traces(path) as traces:
        time.sleep(pause_s)
        query = "SELECT run_id, seq FROM events WHERE kind <> 'gap'"
        rows = traces.table(query).to_pylist()
        assert traces.problems == ()
    return [(row["run_id"], row["seq"]) for row in rows]


def read_by_snapshot(path: Path, pause_s: float) -> list[tuple[str, int]]:
    store, names = Store.open(path), ["run_id", "seq"]
    snap = store.snapshot()
    time.sleep(pause_s)
    assert snap.problems == ()
    tables = [read_segment(store.layout, file, columns=names) for file in snap.event_files]
    tables.append(snap.unsealed_events.select(names))
    return [(row["run_id"], row["seq"]) for table in tables for row in table.to_pylist()]


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


@pytest.mark.parametrize("kind", READS)
def test_each_event_is_read_exactly_once_whatever_happens_to_the_store(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    start_s = time.perf_counter()
    path = tmp_path / "store"
    keys = (new_key().text, new_key().text) if kind == "encrypted" else ()
    monkeypatch.setenv(KEY_VARIABLE, " ".join(keys))
    Store.create(path)
    shared = Shared()
    workers = [child(record, path, writer, shared) for writer in range(WRITERS)]
    workers.append(child(change, path, shared, keys))
    readers = [child(read, path, reader, shared, kind, READS[kind]) for reader in range(READERS)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers]
    shared.is_over.set(0, 1)
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers]
    assert codes == [0] * len(codes)
    reads = sum(shared.reads.get(reader) for reader in range(READERS))
    assert reads >= READS[kind]
    changes = {name: shared.changes.get(place) for place, name in enumerate(CHANGES)}
    events = sum(shared.acknowledged.get(writer) for writer in range(WRITERS))
    again = sum(shared.again.get(reader) for reader in range(READERS))
    told = {"reads": reads, "told to read again": again, "events": events, **changes}
    told |= {"lost": 0, "read twice": 0}
    seconds = time.perf_counter() - start_s
    record_property("figures", ("readers", {**told, "seconds": seconds}))
    store = Store.open(path)
    seal_store(store)
    compact_store(store)
    assert len(manifest_files(store.layout)) < 100
    assert any(shared.old_runs.get(writer) for writer in range(WRITERS))
    check_sound(store)
