"""Forks in the middle of a recording: each process has its own journal, no event is doubled."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.recorder.journal_reader import is_alive
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.ids import new_id
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
CHILDREN = 10


def record(recorder: CountingRecorder, run_id: str, events: int = 20) -> None:
    for seq in range(events):
        recorder.emit(call(run_id, seq), durable=seq % 10 == 9)


def test_children_forked_while_threads_record_have_journals_of_their_own(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    told = Told([], [])
    with CountingRecorder(path, seal_at_bytes=50_000) as recorder:
        is_over = threading.Event()

        def work(name: str) -> None:
            seq = 0
            while not is_over.is_set():
                recorder.emit(call(name, seq))
                seq += 1

        threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for number in range(CHILDREN):

            def child(run_id: str = f"child-{number}") -> Told:
                recorder.forget()
                record(recorder, run_id)
                recorder.close()
                return recorder.told()

            told += in_fork(child)
        is_over.set()
        for thread in threads:
            thread.join()
        told += recorder.told()
    check(told, found_in(path), record_property, "fork while threads record")
    assert told.dropped == 0


class ForksWhenRead(list[Message]):
    """A list of messages that forks when it is read, as a signal handler inside `emit` may."""

    def __init__(self, recorder: CountingRecorder) -> None:
        super().__init__([Message("user", "outer")])
        self.recorder = recorder
        self.child: int | None = None

    def __iter__(self) -> Iterator[Message]:
        if self.child is None:
            self.child = os.fork()
            if self.child == 0:
                copied = self.recorder.emitted[-1]
                self.recorder.forget()
                self.recorder.emitted.append(copied)
        return super().__iter__()


def test_a_fork_inside_emit_doubles_nothing(tmp_path: Path, record_property: Record) -> None:
    """The child refuses its copy of the event, which is the parent's, and then records."""
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    for number in range(CHILDREN):
        messages = ForksWhenRead(recorder)
        recorder.emit(call("parent", number), messages=messages)
        if messages.child == 0:
            try:
                record(recorder, f"child-{number}")
                recorder.close()
                Path(f"{tmp_path}/told-{number}").write_text(recorder.told().dump())
            finally:
                os._exit(0)
        os.waitpid(messages.child or 0, 0)
    recorder.close()
    told = recorder.told()
    assert told.dropped == 0
    for number in range(CHILDREN):
        told += loaded(Path(f"{tmp_path}/told-{number}").read_text())
    assert told.dropped == CHILDREN
    check(told, found_in(path), record_property, "fork inside emit")


def test_a_child_that_executes_another_program_keeps_nothing_of_the_journal(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    record(recorder, "parent")
    told = recorder.told()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(reader, 0)
            os.execv(sys.executable, [sys.executable, "-c", "input()"])
        finally:
            os._exit(1)
    spawned = subprocess.Popen([sys.executable, "-c", "input()"], stdin=reader)
    [journal] = Store.open(path).layout.journal_files()
    recorder.close()
    assert not is_alive(journal)
    assert seal_store(Store.open(path)).sealed_journals == 1
    os.write(writer, b"\n\n")
    os.close(writer)
    os.close(reader)
    os.waitpid(child, 0)
    spawned.wait()
    check(told, found_in(path), record_property, "fork and exec")


def fork_in_c() -> int:
    """A fork that Python does not know of: none of its handlers runs."""
    return int(ctypes.PyDLL(None).fork())


def ids_in_c(told: str) -> None:
    """Writes an id of each of some children that it forks in C at once, and of itself."""
    new_id()
    for number in range(CHILDREN):
        if fork_in_c() == 0:
            Path(f"{told}-{number}").write_text(new_id())
            os._exit(0)
    for _ in range(CHILDREN):
        os.wait()
    Path(f"{told}-parent").write_text(new_id())


def test_children_forked_in_c_have_ids_of_their_own(tmp_path: Path) -> None:
    done = run_child(__name__, "ids_in_c", tmp_path / "told")
    assert (done.returncode, done.stderr) == (0, "")
    ids = [file.read_text() for file in tmp_path.glob("told-*")]
    assert len(set(ids)) == len(ids) == CHILDREN + 1


def child_in_c(store: str, told: str) -> None:
    """Records, forks in C, records in both, and ends both."""
    recorder = CountingRecorder(Path(store))
    record(recorder, "parent")
    parent = os.getpid()
    for number in range(3):
        if fork_in_c() == 0:
            recorder.forget()
            record(recorder, f"child-{number}")
            if number == 1:
                recorder.close()
            if number == 2 and os.fork() == 0:
                Path(f"{told}-{os.getpid()}").write_text(recorder.told().dump())
                recorder.forget()
                record(recorder, "grandchild")
            Path(f"{told}-{os.getpid()}").write_text(recorder.told().dump())
            os._exit(0)
    for number in range(20, 40):
        recorder.emit(call("parent", number), durable=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    assert os.getpid() == parent
    recorder.close()
    Path(f"{told}-{parent}").write_text(recorder.told().dump())


def test_a_child_forked_in_c_has_a_journal_of_its_own(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "child_in_c", path, tmp_path / "told")
    assert (done.returncode, done.stderr) == (0, "")

    told = Told([], [])
    for file in tmp_path.glob("told-*"):
        told += loaded(file.read_text())
    check(told, found_in(path), record_property, "fork in C")
    assert told.dropped == 0
    assert {run for run, _ in told.emitted} == {
        "parent",
        "child-0",
        "child-1",
        "child-2",
        "grandchild",
    }


def idle_child_in_c(store: str) -> None:
    """A child forked in C ends as a Python program does; the parent's journal stays its own."""
    recorder = CountingRecorder(Path(store))
    record(recorder, "parent")
    [journal] = Store.open(Path(store)).layout.journal_files()
    if fork_in_c() == 0:
        sys.exit(0)
    os.wait()
    assert is_alive(journal)
    record(recorder, "parent again")
    recorder.close()
    print(recorder.told().dump())


def test_the_end_of_a_child_forked_in_c_does_not_free_its_parents_journal(
    tmp_path: Path, record_property: Record
) -> None:

    path = tmp_path / "store"
    done = run_child(__name__, "idle_child_in_c", path)
    assert (done.returncode, done.stderr) == (0, "")
    check(loaded(done.stdout), found_in(path), record_property, "idle child forked in C")


if __name__ == "__main__":
    run_as_child(globals())
