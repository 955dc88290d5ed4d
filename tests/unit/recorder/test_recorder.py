"""The recorder: what `emit` returned True for can be read back, whatever happens around it."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.errors import StoreError
from flightlog.recorder.disk import Disk
from flightlog.recorder.journal_reader import is_alive
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Snapshot, Store
from flightlog.trace.canonical import digest_of
from flightlog.trace.events import ToolCall, ToolIntent
from flightlog.trace.messages import Message, ToolRequest

Call = Callable[..., ToolCall]
ignore_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def unsealed(path: Path) -> Recorder:
    return Recorder(path, seal_on_close=False)


def snapshot(path: Path) -> Snapshot:
    return Store.open(path).snapshot()


def seqs(path: Path, run_id: str = "run") -> list[int]:
    rows = snapshot(path).unsealed_events.select(["run_id", "seq", "kind"]).to_pylist()
    return [r["seq"] for r in rows if r["run_id"] == run_id and r["kind"] == "tool_call"]


def test_recording_loads_nothing_heavy() -> None:
    code = (
        "import sys, flightlog.recorder.recorder, flightlog.recorder.record;"
        "print([m for m in ('pyarrow','duckdb','numpy','polars','click') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_event_is_read_back_while_its_writer_lives(store_path: Path, call: Call) -> None:
    with unsealed(store_path) as recorder:
        assert recorder.emit(call(0, args='{"q":"ä\\u0000\\n"}'))
        rows = snapshot(store_path).unsealed_events.to_pylist()
        assert [(r["kind"], r["args"], r["effect"]) for r in rows] == [
            ("tool_call", '{"q":"ä\\u0000\\n"}', "unknown")
        ]


def test_journal_is_private_and_locked_by_its_writer(store_path: Path) -> None:
    recorder = unsealed(store_path)
    (journal,) = (store_path / "journal").iterdir()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.parent.stat().st_mode) == 0o700
    assert is_alive(journal)
    recorder.close()
    assert not is_alive(journal)


def test_message_body_is_stored_once(store_path: Path, call: Call) -> None:
    system, user = Message("system", "be brief"), Message("user", "hi")
    answer = Message("assistant", None, (ToolRequest("c1", "search", "{}"),))
    with unsealed(store_path) as recorder:
        recorder.emit(call(0), messages=[system, user])
        recorder.emit(call(1), messages=[system, user, answer, answer])
    rows = snapshot(store_path).unsealed_messages.to_pylist()
    assert [r["digest"] for r in rows] == [system.digest, user.digest, answer.digest]
    assert rows[2]["tool_requests"] == '[{"id":"c1","name":"search","arguments":"{}"}]'


def test_long_result_goes_into_a_blob(store_path: Path, call: Call) -> None:
    text = "ä" * 10_000
    with unsealed(store_path) as recorder:
        recorder.emit(call(0, result="short"))
        assert recorder.emit(call(1, result=text), durable=True)
        assert recorder.emit(call(2, result=text))
    rows = snapshot(store_path).unsealed_events.select(["result", "result_blob"]).to_pylist()
    digest = digest_of(text)
    assert [(r["result"], r["result_blob"]) for r in rows[:3]] == [
        ("short", None),
        (None, digest),
        (None, digest),
    ]
    assert Store.open(store_path).blob(digest) == text


def test_lone_surrogates_are_replaced_not_raised(store_path: Path, call: Call) -> None:
    with unsealed(store_path) as recorder:
        assert recorder.emit(
            call(0, args="a\ud800b", result="\udfff" * 20_000), messages=[Message("user", "\ud800")]
        )
    snap = snapshot(store_path)
    row = snap.unsealed_events.to_pylist()[0]
    assert row["args"].startswith("a\ufffd")
    assert "\ufffd" in Store.open(store_path).blob(row["result_blob"])
    assert "\ufffd" in snap.unsealed_messages.to_pylist()[0]["text"]


class FullDisk(Disk):
    """A disk that is full while `is_full`."""

    is_full = False

    def write(self, descriptor: int, content: bytes | memoryview) -> int:  # type: ignore[override]
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, content)


def test_event_that_cannot_be_written_is_counted_and_becomes_a_gap(
    store_path: Path, call: Call
) -> None:
    disk = FullDisk()
    with Recorder(store_path, seal_on_close=False, disk=disk) as recorder:
        disk.is_full = True
        assert recorder.emit(call(0)) is False
        assert recorder.emit(call(1)) is False
        assert recorder.dropped_events == 2
        disk.is_full = False
        assert recorder.emit(call(2))
        assert recorder.emit(call(3))
    rows = snapshot(store_path).unsealed_events.to_pylist()
    assert [(r["kind"], r["dropped_events"]) for r in rows[:3]] == [
        ("gap", 2),
        ("tool_call", None),
        ("tool_call", None),
    ]
    assert "No space left" in rows[0]["detail"]


def test_drop_before_close_is_written_as_a_gap(store_path: Path, call: Call) -> None:
    disk = FullDisk()
    with Recorder(store_path, seal_on_close=False, disk=disk) as recorder:
        disk.is_full = True
        recorder.emit(call(0))
        disk.is_full = False
    rows = snapshot(store_path).unsealed_events.to_pylist()
    assert [(r["kind"], r["dropped_events"]) for r in rows] == [("gap", 1)]


def test_value_of_a_wrong_type_costs_the_value_not_the_event(store_path: Path, call: Call) -> None:
    with unsealed(store_path) as recorder:
        recorder.emit(call(0))
        recorder.emit(call(1, latency_ms="fast", step=2**64 - 1, cost_usd=0.5))
    snap = snapshot(store_path)
    row = snap.unsealed_events.to_pylist()[1]
    assert (row["seq"], row["latency_ms"], row["step"], row["cost_usd"]) == (1, None, None, 0.5)
    assert [p for p in snap.problems if "latency_ms holds 'fast'" in p.what]
    assert [p for p in snap.problems if "step holds" in p.what]
    report = seal_store(Store.open(store_path))
    assert len(report.problems) == 2
    (aside,) = (store_path / "quarantine").iterdir()
    assert b'"latency_ms":"fast"' in aside.read_bytes()
    assert [p.path for p in snapshot(store_path).problems] == [aside]


def test_journal_that_cannot_be_synced_is_replaced(store_path: Path, call: Call) -> None:
    with Recorder(store_path, seal_on_close=False, sync_interval_s=3600) as recorder:
        assert recorder.emit(call(0, result="x" * 20_000))
        for blob in (store_path / "blobs").glob("*/*"):
            blob.unlink()  # the sync, which starts with the blobs, now fails
        assert recorder.emit(call(1), durable=True) is False
        assert recorder.emit(call(2), durable=True) is True
        assert recorder.dropped_events == 0
        assert "FileNotFoundError" in (recorder.last_error or "")
        assert len(list((store_path / "journal").iterdir())) == 2
    assert seqs(store_path) == [0, 1, 2]


def test_closed_recorder_drops_and_counts(store_path: Path, call: Call) -> None:
    recorder = unsealed(store_path)
    recorder.close()
    recorder.close()
    assert recorder.emit(call(0)) is False
    assert recorder.emit(call(1), durable=True) is False
    assert recorder.dropped_events == 2


class EmitsWhenRead(list[Message]):
    """A message list that emits an event when it is read: a deterministic signal handler."""

    def __init__(self, emit: Callable[[], bool]) -> None:
        super().__init__([Message("user", "outer")])
        self.emit = emit
        self.answers: list[bool] = []

    def __iter__(self) -> Iterator[Message]:
        self.answers.append(self.emit())
        return super().__iter__()


@pytest.mark.parametrize("durable", [False, True])
def test_event_emitted_inside_emit_is_parked_and_written(
    store_path: Path, call: Call, durable: bool
) -> None:
    with unsealed(store_path) as recorder:
        messages = EmitsWhenRead(lambda: recorder.emit(call(1), durable=durable))
        assert recorder.emit(call(0), messages=messages)
        assert messages.answers == [not durable]
        assert sorted(seqs(store_path)) == [0, 1]
        assert recorder.dropped_events == 0


def test_signal_handlers_that_record_neither_deadlock_nor_lose(
    store_path: Path, call: Call
) -> None:
    numbers = itertools.count()  # atomic: on a slow machine handlers interrupt each other
    with unsealed(store_path) as recorder:

        def handler(signum: int, frame: object) -> None:
            assert recorder.emit(call(next(numbers), run_id="handler"))

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        try:
            for seq in range(20_000):
                assert recorder.emit(call(seq))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seqs(store_path) == list(range(20_000))
        assert sorted(seqs(store_path, "handler")) == list(range(next(numbers)))
        assert snapshot(store_path).problems == ()


def test_exception_out_of_a_signal_handler_leaves_a_sound_journal(
    store_path: Path, call: Call
) -> None:
    kept: list[int] = []
    with unsealed(store_path) as recorder:

        def handler(signum: int, frame: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, handler)
        try:
            for seq in range(3_000):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.000_02 * (seq % 5 + 1))
                    for _ in range(3):
                        kept += [seq] if recorder.emit(call(seq)) else []
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        found = seqs(store_path)
        assert snapshot(store_path).problems == ()
        assert recorder.dropped_events == 0
    for seq in set(kept):
        assert found.count(seq) >= kept.count(seq)
        assert found.count(seq) <= 3


def test_threads_share_a_recorder(store_path: Path, call: Call) -> None:
    with unsealed(store_path) as recorder:

        def work(name: str) -> None:
            for seq in range(200):
                assert recorder.emit(call(seq, run_id=name), durable=seq % 50 == 0)

        threads = [threading.Thread(target=work, args=(f"run-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in range(8):
            assert seqs(store_path, f"run-{number}") == list(range(200))


@ignore_fork_warning
def test_forked_child_writes_a_journal_of_its_own(
    store_path: Path, call: Call, in_child: Callable[[Callable[[], None]], int]
) -> None:
    with unsealed(store_path) as recorder:
        recorder.emit(call(0))

        def child() -> None:
            assert all(recorder.emit(call(seq, run_id="child"), durable=True) for seq in range(5))

        assert in_child(child) == 0
        recorder.emit(call(1))
        assert seqs(store_path) == [0, 1]
        assert seqs(store_path, "child") == list(range(5))
        assert len(list((store_path / "journal").iterdir())) == 2


@ignore_fork_warning
def test_living_child_does_not_keep_its_dead_parents_journal_alive(
    store_path: Path, call: Call
) -> None:
    recorder = unsealed(store_path)
    recorder.emit(call(0))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    recorder.close()  # perhaps before the child has run at all
    (journal,) = (store_path / "journal").iterdir()
    alive = is_alive(journal)
    os.close(writer)
    os.waitpid(child, 0)
    os.close(reader)
    assert not alive


@ignore_fork_warning
def test_four_processes_share_a_store(store_path: Path, call: Call) -> None:
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with Recorder(store_path) as recorder:
                    for seq in range(300):
                        assert recorder.emit(call(seq, run_id=f"run-{number}"))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    snap = snapshot(store_path)
    assert snap.problems == ()
    assert len(snap.event_files) == 4
    assert snap.unsealed_events.num_rows == 0


@ignore_fork_warning
def test_full_disk_drops_counts_and_writes_a_gap_once_there_is_space(
    store_path: Path, call: Call, in_child: Callable[[Callable[[], None]], int]
) -> None:
    def child() -> None:
        with unsealed(store_path) as recorder:
            (journal,) = (store_path / "journal").iterdir()
            resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
            kept = 0
            while recorder.emit(call(kept, args="x" * 500)):
                kept += 1
            intent = ToolIntent(run_id="run", seq=99, tool_name="pay", args="y" * 500)
            assert recorder.emit(intent, durable=True) is False
            assert recorder.dropped_events == 2
            assert (kept, journal.stat().st_size <= 3_000) == (4, True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            assert recorder.emit(call(kept))

    assert in_child(child) == 0
    snap = snapshot(store_path)
    rows = snap.unsealed_events.to_pylist()
    assert [r["kind"] for r in rows] == [*["tool_call"] * 4, "gap", "tool_call", "run_stopped"]
    assert rows[4]["dropped_events"] == 2
    assert "File too large" in rows[4]["detail"]
    assert snap.problems == ()


def test_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match=r"not a flightlog store and holds other things"):
        Recorder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_recorder_that_was_never_closed_frees_its_journal(store_path: Path, call: Call) -> None:
    recorder = unsealed(store_path)
    recorder.emit(call(0))
    (journal,) = (store_path / "journal").iterdir()
    del recorder
    assert not is_alive(journal)


def test_close_seals(store_path: Path, call: Call) -> None:
    with Recorder(store_path) as recorder:
        recorder.emit(call(0), messages=[Message("user", "hi")])
    assert list((store_path / "journal").iterdir()) == []
    snap = snapshot(store_path)
    assert (len(snap.event_files), len(snap.message_files)) == (1, 1)


def test_recorder_without_events_leaves_no_segment(store_path: Path) -> None:
    Recorder(store_path).close()
    assert list((store_path / "journal").iterdir()) == []
    assert snapshot(store_path).event_files == ()
