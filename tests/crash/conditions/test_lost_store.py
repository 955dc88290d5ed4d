"""A store that is removed, moved or replaced under a recorder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flightlog.recorder.recorder import Recorder
from tests.crash.conditions.counting import CountingRecorder, Record, call, check, found_in

pytestmark = pytest.mark.crash


def record(recorder: CountingRecorder, run_id: str, events: int = 10) -> None:
    for seq in range(events):
        recorder.emit(call(run_id, seq))


@pytest.mark.parametrize("returns", ["while it records", "before it is closed"])
def test_events_of_a_removed_store_are_counted_in_the_next(
    tmp_path: Path, record_property: Record, returns: str
) -> None:
    """What was recorded in a removed journal is gone, and its number is told."""
    path = tmp_path / "store"
    recorder = CountingRecorder(path, sync_interval_s=3_600)
    record(recorder, "before")
    shutil.rmtree(path)
    record(recorder, "after")
    assert recorder.emit(call("synced", 0), durable=True) is False
    assert recorder.emit(call("refused", 0)) is False
    Recorder(path, seal_on_close=False).close()
    if returns == "while it records":
        record(recorder, "returned")
    recorder.close()
    told = recorder.told()
    lost = [key for key in told.acknowledged if key[0] in ("before", "after")]
    found = found_in(path)
    assert told.dropped == 22
    assert "was removed" in found.details[0]
    check(told, found, record_property, f"removed store, back {returns}", lost=lost)


def test_a_removal_that_nothing_notices_before_the_end_is_counted(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path, sync_interval_s=3_600)
    record(recorder, "before")
    [journal] = (path / "journal").iterdir()
    journal.unlink()
    record(recorder, "after")
    recorder.close()
    told = recorder.told()
    check(told, found_in(path), record_property, "removed journal", lost=told.acknowledged)


def test_a_recorder_of_a_moved_store_goes_on_in_it_and_begins_in_the_new_one(
    tmp_path: Path, record_property: Record
) -> None:
    path, moved = tmp_path / "store", tmp_path / "moved"
    recorder = CountingRecorder(path, seal_at_bytes=3_000)
    record(recorder, "before")
    path.rename(moved)
    Recorder(path, seal_on_close=False).close()
    record(recorder, "after", 100)
    recorder.close()
    new, old = found_in(path), found_in(moved)
    assert new.calls
    assert old.calls
    check(recorder.told(), found_in(path, moved), record_property, "moved and replaced store")


def test_a_recorder_whose_store_became_something_else_writes_nothing_there(
    tmp_path: Path, record_property: Record
) -> None:
    path, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    recorder = CountingRecorder(path, seal_at_bytes=3_000)
    record(recorder, "before")
    moved = path.rename(tmp_path / "moved")
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("x")
    path.symlink_to(elsewhere)
    record(recorder, "after", 50)
    recorder.close()
    assert [file.name for file in elsewhere.iterdir()] == ["thesis.tex"]
    check(recorder.told(), found_in(moved), record_property, "store replaced by a link")
