"""Daemon threads, which the interpreter's end stops wherever they are, also inside `emit`."""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading
from pathlib import Path

import pytest

from flightlog.recorder.disk import Disk
from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    Told,
    call,
    check,
    found_in,
    run_as_child,
    run_child,
)

pytestmark = pytest.mark.crash
THREADS = 4


def ends_with_daemons(store: str, counts: str) -> None:
    """Threads record until they are stopped, and note what was acknowledged."""
    recorder = CountingRecorder(Path(store))
    with Path(counts).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 8 * THREADS)
    enough = threading.Barrier(THREADS + 1)

    def work(thread: int) -> None:
        for seq in range(1_000_000):
            if not recorder.emit(call(f"{thread}", seq), durable=seq % 16 == 15):
                break
            struct.pack_into("<q", shared, 8 * thread, seq + 1)
            if seq == 50:
                enough.wait()

    for thread in range(THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    enough.wait()


def test_what_daemon_threads_recorded_until_the_end_is_there(
    tmp_path: Path, record_property: Record
) -> None:
    path, counts = tmp_path / "store", tmp_path / "counts"
    counts.write_bytes(bytes(8 * THREADS))
    done = run_child(__name__, "ends_with_daemons", path, counts)
    assert (done.returncode, done.stderr) == (0, "")
    acknowledged = struct.unpack(f"<{THREADS}q", counts.read_bytes())
    assert all(number >= 50 for number in acknowledged)
    found = found_in(path)
    keys = [(f"{thread}", seq) for thread, n in enumerate(acknowledged) for seq in range(n)]
    # The event that a thread was stopped in is there or not.
    stopped = [(f"{thread}", n) for thread, n in enumerate(acknowledged)]
    emitted = keys + [key for key in stopped if key in found.calls]
    check(Told(emitted, keys), found, record_property, "daemon threads")


class StopsInWrite(Disk):
    """Its writes of one thread do not come back before the interpreter's end."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.reader, self.writer = os.pipe()

    def write(self, descriptor: int, content: bytes | memoryview) -> int:  # type: ignore[override]
        written = os.write(descriptor, content)
        if threading.current_thread().name == "stuck":
            self.is_reached.set()
            os.read(self.reader, 1)
        return written

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        if threading.current_thread().name == "syncing":
            self.is_reached.set()
            os.read(self.reader, 1)
        os.fdatasync(descriptor)


class EmitsLate:
    """Is freed with the modules, after threads were stopped."""

    def __init__(self, recorder: CountingRecorder) -> None:
        self.recorder = recorder

    def __del__(self) -> None:
        assert sys.is_finalizing()
        kept = [self.recorder.emit(call("late", seq), durable=seq == 1) for seq in range(3)]
        self.recorder.close()
        assert kept == [True] * 3, (kept, self.recorder.last_error)


def ends_with_a_stuck_thread(store: str, name: str) -> None:
    """A daemon thread has the recorder's lock, or that of the sync, and never gives it back."""
    disk = StopsInWrite()
    recorder = CountingRecorder(Path(store), disk=disk, sync_interval_s=3_600)
    recorder.emit(call("main", 0), durable=True)
    threading.Thread(
        target=recorder.emit,
        args=(call("thread", 0),),
        kwargs={"durable": name == "syncing"},
        name=name,
        daemon=True,
    ).start()
    disk.is_reached.wait()
    sys.modules["kept"] = EmitsLate(recorder)  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["stuck", "syncing"])
def test_a_lock_that_a_stopped_thread_holds_does_not_stop_the_end(
    tmp_path: Path, record_property: Record, name: str
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "ends_with_a_stuck_thread", path, name)
    assert (done.returncode, done.stderr) == (0, "")
    keys = [("main", 0), ("thread", 0), ("late", 0), ("late", 1), ("late", 2)]
    told = Told(keys, [key for key in keys if key != ("thread", 0)])
    check(told, found_in(path), record_property, f"daemon thread that is {name}")


if __name__ == "__main__":
    run_as_child(globals())
