"""Opening and reading a store: what is not as it should be is named, with what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.errors import DamagedError, NewerFormatError, StoreError
from flightlog.recorder.manifest import HISTORY, add_checkpoint, manifest_files, sealing_lock
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import UNLISTED, Store
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.schema import FORMAT_KEY, events_schema, messages_schema

Call = Callable[..., ToolCall]
ignore_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def one_run(path: Path) -> Path:
    with record(path, agent="a") as run:
        run.tool_call(tool_name="t", args="{}", result="r")
    (segment,) = Store.open(path).snapshot().event_files
    return segment


def two_runs(path: Path) -> list[Path]:
    for agent in ("a", "b"):
        with record(path, agent=agent) as run:
            run.tool_call(tool_name="t", args="{}", result="r")
    return list(Store.open(path).snapshot().event_files)


def test_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: the store does not exist"):
        Store.open(tmp_path / "nowhere")


def test_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StoreError, match="the store is a file"):
        Store.open(tmp_path / "f")
    with pytest.raises(StoreError, match="cannot create or write the store"):
        Store.create(tmp_path / "f")


def test_folder_without_format_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="it has no FORMAT file"):
        Store.open(tmp_path)


def test_newer_store_is_refused_by_version(store_path: Path) -> None:
    Store.create(store_path)
    (store_path / "FORMAT").write_text("flightlog 3\n")
    for attempt in (Store.open, Store.create, Recorder):
        with pytest.raises(NewerFormatError, match=r"(?s)format 3 is newer.*pip install"):
            attempt(store_path)


@pytest.mark.parametrize("content", [b"", b"flightlog", b"flightlog x", b"\xff\xfe", b"other 1"])
def test_unreadable_format_is_damage(store_path: Path, content: bytes) -> None:
    Store.create(store_path)
    (store_path / "FORMAT").write_bytes(content)
    with pytest.raises(DamagedError, match="FORMAT"):
        Store.open(store_path)


def test_creating_twice_keeps_everything(store_path: Path) -> None:
    one_run(store_path)
    assert len(Store.create(store_path).snapshot().event_files) == 1


def test_empty_store_has_empty_tables(store_path: Path) -> None:
    snap = Store.create(store_path).snapshot()
    assert snap.unsealed_events.schema == events_schema()
    assert snap.unsealed_messages.schema == messages_schema()
    assert (snap.event_files, snap.message_files, snap.problems) == ((), (), ())


def test_foreign_parquet_is_left_out_and_named(store_path: Path) -> None:
    segment = one_run(store_path)
    foreign = segment.with_name("sales.parquet")
    pq.write_table(pa.table({"x": [1]}), foreign)
    snap = Store.open(store_path).snapshot()
    assert snap.event_files == (segment,)
    assert [(p.path, "not written by flightlog" in p.what) for p in snap.problems] == [
        (foreign, True)
    ]


def test_segment_with_a_wrong_column_is_left_out_and_named(store_path: Path) -> None:
    segment = one_run(store_path)
    wrong = segment.with_name("wrong.parquet")
    schema = pa.schema([("seq", pa.string())], metadata={FORMAT_KEY: b"1"})
    pq.write_table(pa.table({"seq": ["1"]}, schema=schema), wrong)
    snap = Store.open(store_path).snapshot()
    assert snap.event_files == (segment,)
    assert "column seq of type string" in snap.problems[0].what


@pytest.mark.parametrize("size", [0, 3, 2_000])
def test_cut_segment_is_left_out_and_named(store_path: Path, size: int) -> None:
    segment = one_run(store_path)
    os.truncate(segment, size)
    snap = Store.open(store_path).snapshot()
    assert snap.event_files == ()
    assert [p.path for p in snap.problems] == [segment]


def test_segment_of_a_newer_format_is_refused(store_path: Path) -> None:
    segment = one_run(store_path)
    schema = pa.schema([("seq", pa.int64())], metadata={FORMAT_KEY: b"3"})
    pq.write_table(pa.table({"seq": [1]}, schema=schema), segment.with_name("new.parquet"))
    with pytest.raises(NewerFormatError, match=r"new\.parquet: format 3 is newer"):
        Store.open(store_path).snapshot()


def test_segment_copied_from_another_store_is_read_and_told(tmp_path: Path) -> None:
    first, second = one_run(tmp_path / "a"), one_run(tmp_path / "b")
    target = second.with_name(first.name)
    shutil.copy(first, target)
    snap = Store.open(tmp_path / "b").snapshot()
    assert set(snap.event_files) == {second, target}
    assert [(p.path, p.what) for p in snap.problems] == [(target, UNLISTED)]


def test_rows_of_a_changed_segment_are_left_out_and_told(store_path: Path) -> None:
    victim, sound = two_runs(store_path)
    content = bytearray(victim.read_bytes())
    for position in range(0, len(content), 97):
        content[position] ^= 4
        victim.write_bytes(content)
        snap = Store.open(store_path).snapshot()
        assert snap.event_files == (sound,)
        assert [problem.path for problem in snap.problems] == [victim]
        content[position] ^= 4


def test_missing_segment_is_told(store_path: Path) -> None:
    victim, sound = two_runs(store_path)
    victim.unlink()
    snap = Store.open(store_path).snapshot()
    assert snap.event_files == (sound,)
    assert [(p.path, "missing" in p.what) for p in snap.problems] == [(victim, True)]


def test_any_damage_is_an_error_where_reading_is_strict(store_path: Path) -> None:
    victim, sound = two_runs(store_path)
    store = Store.open(store_path)
    assert set(store.snapshot(strict=True).event_files) == {victim, sound}
    victim.unlink()
    with pytest.raises(DamagedError, match="--strict"):
        store.snapshot(strict=True)


def test_lost_manifests_after_a_checkpoint_are_told(store_path: Path) -> None:
    one_run(store_path)
    layout = Store.open(store_path).layout
    with sealing_lock(layout):
        add_checkpoint(layout)
    for path in manifest_files(layout):
        path.unlink()
    found = {problem.path.name for problem in Store.open(store_path).snapshot().problems}
    assert HISTORY in found


def test_nothing_is_twice_when_a_sealing_stopped_before_its_end(
    store_path: Path, call: Call
) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(0))
    store = Store.open(store_path)
    (journal,) = store.layout.journal_files()
    content = journal.read_bytes()
    seal_store(store)
    journal.write_bytes(content)
    snap = store.snapshot()
    assert (len(snap.event_files), snap.unsealed_events.num_rows) == (1, 0)
    assert seal_store(store).sealed_journals == 1
    assert len(list((store_path / "manifest").glob("*.json"))) == 1


def test_missing_and_damaged_blobs_are_told_apart(store_path: Path, call: Call) -> None:
    with Recorder(store_path) as recorder:
        recorder.emit(call(0, result="x" * 20_000))
    store = Store.open(store_path)
    (blob,) = (store_path / "blobs").glob("*/*")
    assert store.blob(blob.name) == "x" * 20_000
    blob.write_text("y")
    with pytest.raises(DamagedError, match="another digest"):
        store.blob(blob.name)
    with pytest.raises(StoreError, match="no blob '0000'"):
        store.blob("0000")


@ignore_fork_warning
def test_read_only_store_is_read_and_not_written(
    tmp_path_factory: pytest.TempPathFactory,
    call: Call,
    in_child: Callable[[Callable[[], None]], int],
) -> None:
    root = tmp_path_factory.mktemp("shared")
    path = root / "store"
    one_run(path)
    with Recorder(path, seal_on_close=False) as recorder:
        recorder.emit(call(0))
    for folder in [path, *path.rglob("*")]:
        folder.chmod(0o555 if folder.is_dir() else 0o444)

    def child() -> None:
        os.chdir(root)
        if os.geteuid() == 0:  # root may write anywhere: become someone who may not
            os.setgid(65534)
            os.setuid(65534)
        snap = Store.open("store").snapshot()
        assert snap.unsealed_events.num_rows == 2
        assert len(snap.event_files) == 1
        with pytest.raises(StoreError, match="cannot be changed"):
            seal_store(Store.open("store"))
        with pytest.raises(StoreError, match="cannot write a journal: Permission denied"):
            Recorder("store")

    try:
        root.chmod(0o755)
        assert in_child(child) == 0
    finally:
        for folder in [path, *path.rglob("*")]:
            folder.chmod(0o755)


@ignore_fork_warning
@pytest.mark.parametrize("moment", ["open", "os.scandir"])
def test_journal_sealed_during_a_snapshot_is_read_once(
    store_path: Path,
    call: Call,
    in_child: Callable[[Callable[[], None]], int],
    moment: str,
) -> None:
    """The sealing happens as the journal is opened, or as the segments are listed."""
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(0), messages=[Message("user", "hi")])

    def child() -> None:
        store = Store.open(store_path)
        sealed = []

        def hook(name: str, arguments: tuple[object, ...]) -> None:
            place = str(arguments[0]) if arguments else ""
            awaited = ".journal" if moment == "open" else "events"
            if name == moment and awaited in place and not sealed:
                sealed.append(True)
                assert seal_store(store).sealed_journals == 1

        sys.addaudithook(hook)
        snap = store.snapshot()
        assert sealed
        assert (len(snap.event_files), len(snap.message_files)) == (1, 1)
        assert (snap.unsealed_events.num_rows, snap.unsealed_messages.num_rows) == (0, 0)

    assert in_child(child) == 0
