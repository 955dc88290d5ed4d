"""Too little memory, and too few threads: what does not fit is counted, all else recorded."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

from flightlog.recorder.recorder import Recorder
from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    call,
    check,
    found_in,
    loaded,
    run_as_child,
    run_child,
)

pytestmark = pytest.mark.crash
LARGE = 12 << 20
LEFT = 2 << 20
NOBODY = 65_534


def used_bytes() -> int:
    """The address space of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def with_little_memory(store: str) -> None:
    """Records small and large events in turn, with too little memory for the large ones."""
    recorder = CountingRecorder(Path(store))
    text = "x" * LARGE
    recorder.emit(call("warm", 0, args="x" * 2_000, result="y" * 20_000))
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes() + LEFT, before[1]))
    with pytest.raises(MemoryError):
        bytes(LARGE)
    for seq in range(4):
        recorder.emit(call("small", seq, args="x" * 2_000), durable=seq % 2 == 0)
        recorder.emit(call("large", seq, args=text, result=text))
    resource.setrlimit(resource.RLIMIT_AS, before)
    recorder.emit(call("after", 0, result=text))
    recorder.close()
    print(recorder.told().dump())


def test_an_event_that_does_not_fit_into_memory_is_counted(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "with_little_memory", path)
    assert (done.returncode, done.stderr) == (0, "")
    told, found = loaded(done.stdout), found_in(path)
    assert {run for run, _ in set(told.emitted) - set(told.acknowledged)} <= {"large"}
    check(told, found, record_property, "too little memory")


def without_threads(store: str) -> None:
    """Opens journals and records where no thread can begin."""
    folder = Path(store)
    Recorder(folder, seal_on_close=False).close()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threading.Thread(target=int).start()
    recorder = CountingRecorder(folder, seal_at_bytes=3_000)
    for seq in range(50):
        recorder.emit(call("run", seq), durable=seq % 10 == 0)
    recorder.close()
    assert len(list((folder / "journal").iterdir())) > 2, "journals take turns all the same"
    print(recorder.told().dump())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody without threads")
def test_a_recorder_without_threads_syncs_each_event(record_property: Record) -> None:

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        done = run_child(__name__, "without_threads", folder / "store")
        assert (done.returncode, done.stderr) == (0, "")
        told = loaded(done.stdout)
        assert len(told.acknowledged) == 50
        check(told, found_in(folder / "store"), record_property, "no threads")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    run_as_child(globals())
