"""Verification: every changed, missing or foreign byte is found and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.errors import NewerFormatError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.recorder.verify import VerifyReport, verify_store
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import Message

Call = Callable[..., ToolCall]


@pytest.fixture
def store(store_path: Path, call: Call) -> Store:
    """A store of three sealed journals with two events each, a message and a blob."""
    for number in range(3):
        with Recorder(store_path) as recorder:
            recorder.emit(
                call(0, run_id=f"run-{number}", result="x" * 20_000),
                messages=[Message("user", "hi")],
            )
    return Store.open(store_path)


def test_sound_store_is_ok(store: Store) -> None:
    assert verify_store(store) == VerifyReport(6, 6, True, (), ())


def test_unsealed_events_count(store: Store, call: Call) -> None:
    with Recorder(store.path) as recorder:
        recorder.emit(call(0))
        report = verify_store(store)
        assert (report.events, report.unsealed_events) == (7, 1)


def test_any_changed_byte_of_a_segment_is_found(store: Store) -> None:
    segment = store.snapshot().event_files[0]
    content = segment.read_bytes()
    for position in range(0, len(content), 997):
        changed = bytearray(content)
        changed[position] ^= 1
        segment.write_bytes(changed)
        report = verify_store(store)
        assert not report.ok
        assert segment in {p.path for p in report.problems}
        assert report.events == 4


def test_missing_segment_is_named_with_its_rows(store: Store) -> None:
    segment = store.snapshot().event_files[0]
    segment.unlink()
    (problem,) = verify_store(store).problems
    assert (problem.path, problem.what) == (segment, "the segment is missing (2 rows)")


def test_segment_that_was_not_sealed_here_is_named(store: Store) -> None:
    segment = store.snapshot().event_files[0]
    shutil.copy(segment, segment.with_name("copy.parquet"))
    (problem,) = verify_store(store).problems
    assert "no manifest lists the segment" in problem.what


def test_changed_or_missing_manifest_breaks_the_chain(store: Store) -> None:
    first, second, third = sorted((store.path / "manifest").glob("*.json"))
    content = second.read_text()
    second.write_text(content.replace('"rows": 2', '"rows": 3'))
    assert third in {p.path for p in verify_store(store).problems}
    second.unlink()
    assert third in {p.path for p in verify_store(store).problems}
    second.write_text("{")
    assert second in {p.path for p in verify_store(store).problems}
    second.write_text(content)
    assert verify_store(store).ok
    first.unlink()
    assert not verify_store(store).ok


def test_newer_manifest_is_refused(store: Store) -> None:
    last = sorted((store.path / "manifest").glob("*.json"))[-1]
    last.write_text(last.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(NewerFormatError):
        verify_store(store)


def test_changed_blob_is_named(store: Store) -> None:
    (blob,) = (store.path / "blobs").glob("*/*")
    blob.write_text("y")
    (problem,) = verify_store(store).problems
    assert problem.path == blob
