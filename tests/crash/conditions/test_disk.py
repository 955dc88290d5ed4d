"""Disks that are full, have space again, or are read-only: each drop is in a gap."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import StoreError
from flightlog.recorder.recorder import Recorder
from flightlog.trace.events import ToolIntent
from flightlog.trace.messages import Message
from tests.crash.conditions.counting import (
    FORK_WARNING,
    CountingRecorder,
    Record,
    Told,
    call,
    check,
    found_in,
    in_fork,
    loaded,
    run_as_child,
    run_child,
)

pytestmark = [pytest.mark.crash, pytest.mark.filterwarnings(FORK_WARNING)]
TIMES = 8


def limit_files(size: int = resource.RLIM_INFINITY) -> None:
    """Files of this process may not grow beyond this size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill_and_free(
    recorder: CountingRecorder, fills: Callable[[], None], frees: Callable[[], None]
) -> None:
    """Records while the disk is full and has space again, some times in turn."""
    for time in range(TIMES):
        frees()
        for seq in range(10):
            messages = [Message("user", f"{time} {seq}")]
            recorder.emit(call(f"space-{time}", seq), messages=messages, durable=seq == 5)
        fills()
        for seq in range(30):
            long = "x" * (100 * seq if seq % 2 else 20_000)
            recorder.emit(call(f"full-{time}", seq, result=long), durable=seq % 7 == 0)
        intent = ToolIntent(run_id="intent", seq=time, tool_name="pay", args="y" * 9_000)
        assert Recorder.emit(recorder, intent, durable=True) is False, "the tool would be called"
        recorder.emitted.append(("intent", time))


def test_files_that_may_not_grow_for_a_while(tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "store"

    def work() -> Told:
        recorder = CountingRecorder(path, seal_at_bytes=30_000)

        def fills() -> None:
            sizes = [file.stat().st_size for file in (path / "journal").iterdir()]
            limit_files(max(sizes) + 200)

        fill_and_free(recorder, fills, limit_files)
        limit_files()
        recorder.close()
        return recorder.told()

    told = in_fork(work)
    assert told.dropped >= 2 * TIMES
    check(told, found_in(path), record_property, "files that may not grow")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own of two megabytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "flightlog-test", str(folder)]
    can_mount = shutil.which("mount") is not None
    if not can_mount or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, record_property: Record) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path, filler = disk / "store", disk / "filler"
        recorder = CountingRecorder(path, seal_at_bytes=30_000)

        def fills() -> None:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096):
                    pass

        fill_and_free(recorder, fills, lambda: filler.unlink(missing_ok=True))
        filler.unlink()
        recorder.close()
        told = recorder.told()
        assert told.dropped >= TIMES
        check(told, found_in(path), record_property, "full disk")


def test_a_store_on_a_read_only_file_system_is_refused_and_read(
    tmp_path: Path, record_property: Record
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "store"
        with CountingRecorder(path) as recorder:
            recorder.emit(call("before", 0))
        told = recorder.told()
        remount = ["mount", "-o", "remount,ro", str(disk)]
        subprocess.run(remount, check=True)
        with pytest.raises(StoreError, match="Read-only file system"):
            Recorder(path)
        with Traces(path) as traces:
            assert traces.rows("SELECT count(*) AS calls FROM tool_calls") == [{"calls": 1}]
        check(told, found_in(path), record_property, "read-only file system")


def never_closes(store: str, full_at_exit: str) -> None:
    """The disk is full for the last events, and the recorder is never closed."""
    path = Path(store)
    recorder = CountingRecorder(path)
    recorder.emit(call("kept", 0))
    limit_files(max(file.stat().st_size for file in (path / "journal").iterdir()))
    for seq in range(5):
        assert recorder.emit(call("dropped", seq)) is False
    told = recorder.told().dump()
    if full_at_exit == "no":
        limit_files()
    print(told)


@pytest.mark.parametrize("full_at_exit", ["no", "yes"])
def test_a_gap_that_is_due_at_the_end_of_a_process_is_written_where_it_can(
    tmp_path: Path, record_property: Record, full_at_exit: str
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "never_closes", path, full_at_exit)
    assert (done.returncode, done.stderr) == (0, "")
    told, found = loaded(done.stdout), found_in(path)
    assert told.dropped == 5
    if full_at_exit == "yes":
        assert found.calls == told.acknowledged
        assert found.gaps == 0
    else:
        check(told, found, record_property, "gap at the end")


if __name__ == "__main__":
    run_as_child(globals())
