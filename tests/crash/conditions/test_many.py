"""Many writers on one store: eight processes, many threads, and closing while they record."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.messages import Message
from tests.crash.conditions.counting import (
    FORK_WARNING,
    CountingRecorder,
    Record,
    Told,
    all_at_once,
    call,
    check,
    found_in,
    loaded,
)

pytestmark = [pytest.mark.crash, pytest.mark.filterwarnings(FORK_WARNING)]
PROCESSES = 8
THREADS = 16
EVENTS = 300


def test_eight_processes_record_into_one_store_and_seal_it(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    children = []
    for number in range(PROCESSES):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with CountingRecorder(path, seals=True, seal_at_bytes=60_000) as recorder:
                    for seq in range(EVENTS // 3):
                        same = Message("user", f"question {seq}")
                        recorder.emit(
                            call(f"run-{number}", seq, args="x" * 300),
                            messages=[same],
                            durable=seq % 30 == 0,
                        )
                (tmp_path / f"told-{number}").write_text(recorder.told().dump())
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * PROCESSES
    told = Told([], [])
    for file in tmp_path.glob("told-*"):
        told += loaded(file.read_text())
    assert len(told.acknowledged) == PROCESSES * (EVENTS // 3)
    store = Store.open(path)
    seal_store(store)
    assert store.layout.journal_files() == []
    assert verify_store(store).ok
    check(told, found_in(path), record_property, "8 processes")


def test_many_threads_share_a_recorder_over_many_journals(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path, seals=True, seal_at_bytes=150_000)

    def work(name: str) -> None:
        for seq in range(EVENTS):
            messages = [Message("user", f"{seq}")]
            recorder.emit(call(name, seq), messages=messages, durable=seq % 100 == 0)

    all_at_once([lambda n=n: work(f"thread-{n}") for n in range(THREADS)])  # type: ignore[misc]
    recorder.close()
    told = recorder.told()
    assert len(told.acknowledged) == THREADS * EVENTS
    check(told, found_in(path), record_property, "16 threads")
    assert verify_store(Store.open(path)).ok


def test_a_recorder_closed_while_threads_record_refuses_what_comes_after(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    begun = threading.Barrier(THREADS + 1)

    def work(name: str) -> None:
        for seq in range(100_000):
            if not recorder.emit(call(name, seq), durable=seq % 20 == 0):
                return
            if seq == 10:
                begun.wait()

    threads = [threading.Thread(target=work, args=(f"{n}",)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    begun.wait()
    recorder.close()
    for thread in threads:
        thread.join()
    told = recorder.told()
    assert told.dropped == THREADS
    # A closed recorder has nowhere to write a gap: what came after it is only refused.
    refused = set(told.emitted) - set(told.acknowledged)
    told = Told([key for key in told.emitted if key not in refused], told.acknowledged)
    check(told, found_in(path), record_property, "closed while threads record")


def test_recorders_of_one_process_do_not_disturb_each_other(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    Recorder(path, seal_on_close=False).close()
    recorders = [CountingRecorder(path, seals=True) for _ in range(4)]

    def work(number: int) -> None:
        with recorders[number] as recorder:
            for seq in range(EVENTS):
                recorder.emit(call(f"{number}", seq))

    all_at_once([lambda n=n: work(n) for n in range(len(recorders))])  # type: ignore[misc]
    told = Told([], [])
    for recorder in recorders:
        told += recorder.told()
    check(told, found_in(path), record_property, "4 recorders in a process")
