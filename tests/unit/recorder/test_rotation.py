"""A recorder that goes on for long seals what is finished, beside itself."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.recorder.disk import Disk
from flightlog.recorder.frames import FrameType
from flightlog.recorder.journal import Journal, JournalLimits
from flightlog.recorder.layout import Layout, create_layout, open_layout
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import Gap, RunStarted, RunStopped, ToolCall, encode_event

BIG = "x" * 2_000
ignore_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def record_calls(recorder: Recorder, run_id: str, calls: int) -> None:
    assert recorder.emit(RunStarted(run_id=run_id, seq=0, at=1, max_tool_calls=99))
    for seq in range(1, calls + 1):
        assert recorder.emit(ToolCall(run_id=run_id, seq=seq, at=seq, step=seq, result=BIG))


def runs_of(store: Path) -> list[tuple[object, ...]]:
    with Traces(store) as traces:
        rows = traces.rows("SELECT run_id, stop_reason, tool_calls FROM runs ORDER BY run_id")
    return [tuple(row.values()) for row in rows]


def test_a_journal_that_is_large_enough_is_sealed_while_the_recording_goes_on(
    store_path: Path,
) -> None:
    recorder = Recorder(store_path, seal_at_bytes=20_000)
    record_calls(recorder, "a", 50)
    for journal in list(recorder._retired):
        journal.join()  # which starts the sealing
    recorder._sealer.wait()
    assert list(store_path.glob("events/*/*.parquet"))
    assert runs_of(store_path) == [("a", None, 50)]
    recorder.close()
    assert not list(store_path.glob("journal/*"))
    assert len(list(store_path.glob("events/*/*.parquet"))) > 3
    assert verify_store(Store.open(store_path)).ok


def test_a_journal_that_is_old_enough_is_sealed_with_the_next_event(store_path: Path) -> None:
    with Recorder(store_path, seal_after_s=0.0, sync_interval_s=0.001) as recorder:
        record_calls(recorder, "a", 1)
        first = recorder._journal
        assert first is not None
        while not first.is_due:
            threading.Event().wait(0.001)
        record_calls(recorder, "b", 1)
        assert recorder._journal is not first


def test_a_run_over_several_journals_ends_once(store_path: Path) -> None:
    with Recorder(store_path, seal_at_bytes=20_000) as recorder:
        record_calls(recorder, "a", 50)
        assert recorder.emit(RunStopped(run_id="a", seq=51, at=51, stop_reason="ok"))
        record_calls(recorder, "b", 20)
        assert recorder.emit(RunStopped(run_id="b", seq=21, at=21, stop_reason="ok"))
    assert runs_of(store_path) == [("a", "ok", 50), ("b", "ok", 20)]


def test_an_idle_run_of_a_living_writer_has_not_crashed(store_path: Path) -> None:
    with Recorder(store_path, seal_at_bytes=20_000) as recorder:
        record_calls(recorder, "idle", 1)
        record_calls(recorder, "busy", 50)
        recorder._sealer.wait()
        seal_store(Store.open(store_path))
        assert runs_of(store_path) == [("busy", None, 50), ("idle", None, 1)]


@ignore_fork_warning
def test_a_killed_writer_of_several_journals_leaves_crashed_runs_with_all_they_spent(
    store_path: Path, in_child: Callable[[Callable[[], None]], int]
) -> None:
    def record_and_die() -> None:
        recorder = Recorder(store_path, seal_at_bytes=20_000)
        record_calls(recorder, "idle", 3)
        record_calls(recorder, "busy", 50)
        recorder._sealer.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(record_and_die) == -signal.SIGKILL
    expected = [("busy", "crashed", 50), ("idle", "crashed", 3)]
    assert runs_of(store_path) == expected
    seal_store(Store.open(store_path))
    assert runs_of(store_path) == expected
    with Traces(store_path) as traces:
        spent = traces.rows(
            "SELECT allowed, used FROM budgets WHERE budget = 'max_tool_calls' ORDER BY run_id"
        )
    assert [tuple(row.values()) for row in spent] == [(99.0, 50.0), (99.0, 3.0)]


def test_durable_events_are_synced_in_the_journal_that_has_them(store_path: Path) -> None:
    disk = _CountingDisk()
    with Recorder(
        store_path, seal_at_bytes=1, sync_interval_s=3600, disk=disk, seal_on_close=False
    ) as recorder:
        for seq in range(5):  # each event makes its journal due
            before = disk.syncs
            assert recorder.emit(ToolCall(run_id="a", seq=seq), durable=True)
            assert disk.syncs > before


def test_a_recorder_that_cannot_begin_a_journal_goes_on_in_its_old_one(store_path: Path) -> None:
    disk = _FullDisk()
    with Recorder(store_path, seal_at_bytes=20_000, disk=disk) as recorder:
        first = recorder._journal
        disk.is_full = True
        record_calls(recorder, "a", 50)
        assert "No space left" in str(recorder.last_error)
        assert recorder._journal is first
        disk.is_full = False
        record_calls(recorder, "b", 100)
        assert recorder._journal is not first
    assert [run[2] for run in runs_of(store_path)] == [50, 100]


def test_a_sealing_that_is_done_again_ends_crashed_runs_where_they_were(store_path: Path) -> None:
    write_journal(store_path, calls=3)
    write_journal(store_path, calls=0, open_runs=["run"])
    disk = _DiskThatDies("00000001.json")
    with pytest.raises(OSError, match="dead"):  # the segments are there, no manifest lists them
        seal_store(Store(open_layout(store_path, disk=disk)))
    seal_store(Store.open(store_path))
    with Traces(store_path) as traces:
        rows = traces.rows("SELECT seq, used_tool_calls FROM events WHERE stop_reason = 'crashed'")
    assert [tuple(row.values()) for row in rows] == [(3, 3)]


def test_a_journal_whose_header_is_damaged_still_ends_its_runs_with_all_they_spent(
    store_path: Path,
) -> None:
    layout, limits = create_layout(store_path), JournalLimits()
    first = Journal(layout, limits)
    for seq in range(3):
        first.append(FrameType.EVENT, encode_event(ToolCall(run_id="run", seq=seq, step=seq)))
    second = Journal(layout, limits, open_runs=["run"])
    first.close()
    seal_store(Store(layout))
    second.append(FrameType.EVENT, encode_event(ToolCall(run_id="run", seq=3, step=3)))
    second.close()
    content = bytearray(second.path.read_bytes())
    content[40] ^= 1
    second.path.write_bytes(content)
    seal_store(Store(layout))
    with Traces(store_path) as traces:
        rows = traces.rows("SELECT seq, used_tool_calls FROM events WHERE stop_reason = 'crashed'")
    assert [tuple(row.values()) for row in rows] == [(4, 4)]


def test_a_writer_that_goes_on_in_another_journal_during_a_sealing_has_not_crashed(
    store_path: Path,
) -> None:
    write_journal(store_path, calls=3)
    layout, limits = create_layout(store_path), JournalLimits()
    living = Journal(layout, limits)
    living.append(FrameType.EVENT, encode_event(ToolCall(run_id="long", seq=0)))
    following: list[Journal] = []

    def rotate() -> None:
        following.append(Journal(layout, limits, open_runs=["long"]))
        living.close()

    seal_store(Store(open_layout(store_path, disk=_DiskThatCalls(rotate))))
    following[0].append(FrameType.EVENT, encode_event(ToolCall(run_id="long", seq=1)))
    assert runs_of(store_path) == [("long", None, 2), ("run", "crashed", 3)]
    following[0].close()


def test_a_writer_that_goes_on_in_another_journal_during_a_read_has_not_crashed(
    store_path: Path,
) -> None:
    layout, limits = create_layout(store_path), JournalLimits()
    living = Journal(layout, limits)
    living.append(FrameType.EVENT, encode_event(ToolCall(run_id="long", seq=0)))
    following: list[Journal] = []

    def rotate() -> None:
        following.append(Journal(layout, limits, open_runs=["long"]))
        following[0].append(FrameType.EVENT, encode_event(ToolCall(run_id="long", seq=1)))
        living.close()

    rows = Store(_LayoutThatCalls(store_path, rotate)).snapshot().unsealed_events
    assert sorted(rows.column("seq").to_pylist()) == [0, 1]
    assert rows.column("stop_reason").null_count == rows.num_rows
    following[0].close()


def test_a_run_of_which_nothing_is_left_has_no_end_either(store_path: Path) -> None:
    write_journal(store_path, calls=1, open_runs=["lost"])
    assert runs_of(store_path) == [("run", "crashed", 1)]
    seal_store(Store.open(store_path))
    assert runs_of(store_path) == [("run", "crashed", 1)]


def write_journal(store: Path, *, calls: int, open_runs: Sequence[str] = ()) -> None:
    """A journal whose writer is dead, with calls of `run` and a gap."""
    journal = Journal(create_layout(store), JournalLimits(), open_runs=open_runs)
    for seq in range(calls):
        event = ToolCall(run_id="run", seq=seq, at=seq, step=seq)
        journal.append(FrameType.EVENT, encode_event(event))
    journal.append(FrameType.EVENT, encode_event(Gap(run_id="", seq=calls, dropped_events=1)))
    journal.close()


@ignore_fork_warning
def test_a_child_forked_after_a_rotation_has_a_journal_of_its_own(
    store_path: Path, in_child: Callable[[Callable[[], None]], int]
) -> None:
    with Recorder(store_path, seal_at_bytes=20_000) as recorder:
        record_calls(recorder, "parent", 30)

        def child() -> None:
            record_calls(recorder, "child", 30)
            recorder.emit(RunStopped(run_id="child", seq=31, stop_reason="ok"))
            recorder.close()

        assert in_child(child) == 0
        recorder.emit(RunStopped(run_id="parent", seq=31, stop_reason="ok"))
    assert runs_of(store_path) == [("child", "ok", 30), ("parent", "ok", 30)]


class _CountingDisk(Disk):
    """Counts the syncs."""

    def __init__(self) -> None:
        self.syncs = 0

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self.syncs += 1
        os.fdatasync(descriptor)


class _DiskThatDies(Disk):
    """Does not give a file its name.

    Args:
        name: of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def rename(self, source: Path, target: Path) -> None:
        if target.name == self.name:
            raise OSError(errno.EIO, "dead")
        super().rename(source, target)


class _DiskThatCalls(Disk):
    """Calls a function once, before the first file gets its name.

    Args:
        then: the function.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self.calls = [then]

    def rename(self, source: Path, target: Path) -> None:
        while self.calls:
            self.calls.pop()()
        super().rename(source, target)


class _LayoutThatCalls(Layout):
    """Calls a function once, after the journals were listed.

    Args:
        root: the store's folder.
        then: the function.
    """

    def __init__(self, root: Path, then: Callable[[], None]) -> None:
        super().__init__(root)
        object.__setattr__(self, "calls", [then])

    def journal_files(self) -> list[Path]:
        found = super().journal_files()
        calls: list[Callable[[], None]] = self.calls  # type: ignore[attr-defined]
        while calls:
            calls.pop()()
        return found


class _FullDisk(Disk):
    """Has no space for new files when told so."""

    is_full = False

    def create(self, path: Path, *, append: bool = False) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path, append=append)
