"""Events emitted by finalisers, callbacks of the collector and at the interpreter's end."""

from __future__ import annotations

import atexit
import gc
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from flightlog.recorder.disk import Disk
from flightlog.trace.messages import Message
from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    all_at_once,
    call,
    check,
    found_in,
    loaded,
    run_as_child,
    run_child,
    until,
)

pytestmark = pytest.mark.crash


class EmitsWhenFreed:
    """Records an event when it is freed; in a cycle, so that only the collector frees it."""

    def __init__(self, recorder: CountingRecorder, run_id: str, seq: int) -> None:
        self.recorder, self.run_id, self.seq = recorder, run_id, seq
        self.cycle = self

    def __del__(self) -> None:
        assert self.recorder.emit(call(self.run_id, self.seq)), self.recorder.last_error


def test_finalisers_that_the_collector_runs_inside_emit_lose_nothing(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path, seal_at_bytes=20_000)
    seen = [0]
    under_way = [0]

    def collecting(phase: str, info: dict[str, Any]) -> None:
        under_way[0] += 1 if phase == "start" else -1
        if phase == "start" and seen[0] < 2_000:
            seen[0] += 1
            recorder.emit(call("collector", seen[0]))

    def work(name: str) -> None:
        for seq in range(60):
            EmitsWhenFreed(recorder, f"freed-{name}", seq)
            weakref.finalize(EmitsWhenFreed, int)  # of a class: never called
            fields = Message("user", f"{name} {seq}"), Message("assistant", f"{name} {seq}")
            recorder.emit(call(name, seq, args="x" * (seq * 40)), messages=fields)

    before = gc.get_threshold()
    gc.callbacks.append(collecting)
    gc.set_threshold(20, 2, 2)
    try:
        all_at_once([lambda name=name: work(name) for name in ("a", "b", "c")])  # type: ignore[misc]
        gc.disable()
        # A thread of the recorder may be collecting, where `collect` does nothing.
        until(lambda: under_way[0] == 0)
        gc.collect()
    finally:
        gc.enable()
        gc.callbacks.remove(collecting)
        gc.set_threshold(*before)
    recorder.close()
    told = recorder.told()
    assert told.dropped == 0, recorder.last_error
    assert sum(run.startswith("freed") for run, _ in told.emitted) == 180
    check(told, found_in(path), record_property, "finalisers")


class Crossing(Disk):
    """The journal's own thread runs a finaliser while another thread is inside `emit`.

    Attributes:
        recorder: what the finaliser records with.
        is_crossing: the journal's thread has begun to sync.
        is_rotating: the other thread makes another journal, and holds the recorder's lock.
        has_recorded: the finaliser came to its end.
        was_late: the other thread gave up waiting for that.
    """

    recorder: CountingRecorder | None = None
    was_late = False

    def __init__(self) -> None:
        self.is_crossing = threading.Event()
        self.is_rotating = threading.Event()
        self.has_recorded = threading.Event()

    def fdatasync(self, descriptor: int) -> None:
        super().fdatasync(descriptor)
        if self.recorder is not None and threading.current_thread() is not threading.main_thread():
            recorder, self.recorder = self.recorder, None
            self.is_crossing.set()
            self.is_rotating.wait(20)
            recorder.emit(call("finaliser", 0))
            self.has_recorded.set()

    def create(self, path: Path, *, append: bool = False) -> int:
        if self.is_crossing.is_set() and not self.is_rotating.is_set():
            self.is_rotating.set()
            self.was_late = not self.has_recorded.wait(20)
        return super().create(path, append=append)


def test_a_finaliser_in_the_journal_s_own_thread_waits_for_no_emit(
    tmp_path: Path, record_property: Record
) -> None:
    path, disk = tmp_path / "store", Crossing()
    recorder = CountingRecorder(path, seal_at_bytes=20_000, sync_interval_s=0.01, disk=disk)
    recorder.emit(call("a", 0))
    disk.recorder = recorder
    assert disk.is_crossing.wait(20)
    for seq in range(1, 40):
        recorder.emit(call("a", seq, args="x" * 1_000))
    assert disk.is_rotating.is_set()
    assert not disk.was_late
    recorder.close()
    check(recorder.told(), found_in(path), record_property, "finaliser in the journal's thread")


def test_a_weak_reference_s_finaliser_records(tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)

    class Thing:
        pass

    for seq in range(100):
        thing = Thing()
        weakref.finalize(thing, recorder.emit, call("finalize", seq))
        del thing
    recorder.close()
    assert len(recorder.acknowledged) == 100
    check(recorder.told(), found_in(path), record_property, "weakref.finalize")


def ends(store: str, told: str) -> None:
    """Records at every stage of the interpreter's end, and closes nothing."""
    recorder = CountingRecorder(Path(store))
    atexit.register(lambda: Path(told).write_text(recorder.told().dump()))
    atexit.register(recorder.emit, call("atexit", 0))
    recorder.emit(call("main", 0))
    weakref.finalize(recorder.__class__, recorder.emit, call("finalize at exit", 0))
    threading.Thread(target=recorder.emit, args=(call("thread", 0),)).start()
    late = EmitsLate(recorder, told)
    globals()["kept"] = late
    sys.modules["kept"] = late  # type: ignore[assignment]


class EmitsLate:
    """Is freed with the modules, when most of the interpreter is gone."""

    def __init__(self, recorder: CountingRecorder, told: str) -> None:
        self.recorder = recorder
        self.told = told
        self.open = open

    def __del__(self) -> None:
        assert sys.is_finalizing()
        kept = (
            self.recorder.emit(call("late", 0)),
            self.recorder.emit(call("late", 1), durable=True),
        )
        assert kept == (True, True), (kept, self.recorder.last_error)
        with self.open(self.told, "w") as file:
            file.write(self.recorder.told().dump())


def test_what_is_recorded_while_the_interpreter_ends_is_there(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "ends", path, tmp_path / "told")
    assert (done.returncode, done.stderr) == (0, "")
    told = loaded((tmp_path / "told").read_text())
    runs = {run for run, _ in told.emitted}
    assert runs == {"atexit", "main", "finalize at exit", "thread", "late"}
    assert told.dropped == 0
    check(told, found_in(path), record_property, "interpreter's end")


if __name__ == "__main__":
    run_as_child(globals())
