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
