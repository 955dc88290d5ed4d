"""Descriptors: none left, closed by the application, or the standard ones missing."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

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
LONG = "x" * 50_000
"""Becomes a blob, which needs a descriptor."""


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """All that this process may have are open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    try:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_a_recorder_goes_on_in_its_journal_while_no_descriptor_is_left(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"

    def work() -> Told:
        recorder = CountingRecorder(path, seal_at_bytes=3_000, sync_interval_s=3_600)
        recorder.emit(call("before", 0))
        with no_descriptors_left():
            for seq in range(50):  # the journal is due, and no other can be opened
                assert recorder.emit(call("none left", seq))
            assert recorder.emit(call("blob", 0, result=LONG)) is False
            # Its folder, which was never synced, cannot be opened.
            assert recorder.emit(call("durable", 0), durable=True) is False
        assert "Too many open files" in str(recorder.last_error)
        assert recorder.emit(call("durable", 1), durable=True)
        for seq in range(50):
            assert recorder.emit(call("after", seq, result=LONG))
        recorder.close()
        return recorder.told()

    told = in_fork(work)
    assert told.dropped == 1
    check(told, found_in(path), record_property, "no descriptor left")


def test_a_forked_child_that_gets_no_descriptor_counts_until_it_does(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    recorder.emit(call("parent", 0))

    def work() -> Told:
        recorder.forget()
        with no_descriptors_left():
            assert recorder.emit(call("child", 0)) is False
            assert recorder.emit(call("child", 1), durable=True) is False
        assert recorder.emit(call("child", 2), durable=True)
        recorder.close()
        return recorder.told()

    told = in_fork(work)
    recorder.close()
    assert told.dropped == 2
    check(told + recorder.told(), found_in(path), record_property, "child without a descriptor")


@pytest.mark.parametrize("reused", [False, True])
def test_a_journal_whose_descriptor_the_application_closed_is_followed_by_another(
    tmp_path: Path, record_property: Record, reused: bool
) -> None:
    path, own = tmp_path / "store", tmp_path / "own"

    def work() -> Told:
        recorder = CountingRecorder(path, sync_interval_s=3_600)
        recorder.emit(call("before", 0))
        mine = os.open(own, os.O_RDWR | os.O_CREAT)
        journals = [
            int(name)
            for name in os.listdir("/proc/self/fd")  # noqa: PTH208
            if str(path / "journal") in os.path.realpath(f"/proc/self/fd/{name}")
        ]
        assert len(journals) == 1
        assert journals[0] > 2
        if reused:
            os.dup2(mine, journals[0])
            assert recorder.emit(call("taken", 0), durable=True) is False
            recorder.emitted.remove(("taken", 0))  # is in the application's file
        else:
            os.close(journals[0])
        for seq in range(20):
            assert recorder.emit(call("after", seq), durable=True)
        recorder.close()
        if reused:
            os.write(journals[0], b"mine, still open")
        return recorder.told()

    told = in_fork(work)
    assert told.dropped == 0
    what = "reused" if reused else "closed"
    check(told, found_in(path), record_property, f"descriptor {what} by the application")
    assert own.read_bytes().endswith(b"mine, still open") is reused


def without_standard_streams(store: str, told: str) -> None:
    """Records while 0, 1 and 2 are free, writes there as C libraries do, and warns."""
    os.closerange(0, 3)
    recorder = CountingRecorder(Path(store), seals=True, seal_at_bytes=3_000)
    for seq in range(50):
        recorder.emit(call("run", seq), durable=seq % 10 == 0)
        for descriptor in range(3):
            with contextlib.suppress(OSError):
                os.write(descriptor, b"a library says something")
    recorder.close()
    Path(told).write_text(recorder.told().dump())


def test_what_libraries_print_does_not_go_into_a_journal(
    tmp_path: Path, record_property: Record
) -> None:
    path, told = tmp_path / "store", tmp_path / "told"
    done = run_child(__name__, "without_standard_streams", path, told)
    assert done.returncode == 0
    found = found_in(path)
    assert len(found.calls) == 50
    check(loaded(told.read_text()), found, record_property, "no standard streams")


def into_a_closed_pipe(store: str, told: str) -> None:
    """Records, fails and ends while nobody reads what it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    recorder = CountingRecorder(Path(store))
    recorder.emit(call("run", 0))
    with no_descriptors_left():
        recorder.emit(call("run", 1, result=LONG))
    recorder.emit(call("run", 2), durable=True)
    Path(told).write_text(recorder.told().dump())


def test_a_process_whose_output_nobody_reads_records_and_ends(
    tmp_path: Path, record_property: Record
) -> None:
    path, told = tmp_path / "store", tmp_path / "told"
    done = run_child(__name__, "into_a_closed_pipe", path, told)
    assert done.returncode == 0
    check(loaded(told.read_text()), found_in(path), record_property, "closed pipe")


if __name__ == "__main__":
    run_as_child(globals())
