"""What is recorded is its owner's alone, and stays within the store."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import StoreError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import ToolCall

Call = Callable[..., ToolCall]


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A process that would let everybody read and write its files."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def recorded(store_path: Path, call: Call) -> Path:
    with Recorder(store_path) as recorder:
        recorder.emit(call(0, result="x" * 20_000))
        recorder.control.breakers  # noqa: B018  # makes the shared state
    Recorder(store_path, seal_on_close=False).close()
    return store_path


@pytest.mark.usefixtures("open_umask")
def test_files_are_readable_and_folders_open_for_their_owner_alone(
    store_path: Path, call: Call
) -> None:
    with Recorder(store_path / "below" / "store") as recorder:
        recorder.emit(call(0, result="x" * 20_000))
    recorder = Recorder(store_path / "below" / "store")
    recorder.emit(call(1))
    paths = [store_path, *store_path.rglob("*")]
    modes = {path.relative_to(store_path): stat.S_IMODE(path.stat().st_mode) for path in paths}
    recorder.close()
    folders = {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()}
    assert folders == {0o700}, modes
    assert {mode for path, mode in modes.items() if not (store_path / path).is_dir()} == {0o600}


def test_a_store_that_everybody_may_write_to_is_refused(recorded: Path) -> None:
    for folder in (recorded, recorded / "events", recorded / "control"):
        folder.chmod(0o777)
        for attempt in (Store.open, Store.create, Recorder, Traces):
            with pytest.raises(StoreError, match=r"everybody may write.*(?s:.)*chmod -R go-w"):
                attempt(recorded)
        folder.chmod(0o700)
    Store.open(recorded)


def test_a_folder_of_the_store_that_is_a_link_is_refused(recorded: Path, tmp_path: Path) -> None:
    (recorded / "blobs").rename(tmp_path / "elsewhere")
    (recorded / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a symbolic link"):
        Store.open(recorded)


def test_the_store_as_a_whole_may_be_a_link(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(recorded)
    assert verify_store(Store.open(tmp_path / "link")).ok


def test_links_in_a_store_are_told_and_not_followed(recorded: Path, tmp_path: Path) -> None:
    (segment,) = recorded.glob("events/*/*.parquet")
    outside = tmp_path / "outside.parquet"
    outside.write_bytes(segment.read_bytes())
    (segment.parent / "other.parquet").symlink_to(outside)
    with Traces(recorded) as traces:
        assert traces.rows("SELECT count(*) AS n FROM events") == [{"n": 2}]
    report = verify_store(Store.open(recorded))
    assert not report.ok
    assert "not followed" in report.problems[0].what


def test_a_journal_is_not_written_through_a_link(recorded: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    for name in ("x.journal", "x.new"):
        (recorded / "journal" / name).symlink_to(target)
    with Recorder(recorded) as recorder:
        recorder.emit(ToolCall(run_id="r", seq=0))
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "digest", ["../../FORMAT", "/etc/passwd", "a" * 31, "A" * 32, "a" * 32 + "\n", "", "..", "\0"]
)
def test_no_recorded_text_becomes_a_path(recorded: Path, digest: str) -> None:
    with pytest.raises(StoreError, match="not a digest"):
        Store.open(recorded).blob(digest)


@pytest.mark.parametrize("run_id", ["../../evil", "/abs", "a/b", "..", "\0", "x" * 5000, "🙂"])
def test_ids_never_become_paths(store_path: Path, run_id: str) -> None:
    with Recorder(store_path) as recorder:
        assert recorder.emit(ToolCall(run_id=run_id, seq=0, tool_name=run_id))
    names = {path.name for path in store_path.parent.rglob("*")}
    assert not any("evil" in name or "xxx" in name or "🙂" in name for name in names)
    with Traces(store_path) as traces:
        assert [row["run_id"] for row in traces.rows("SELECT run_id FROM tool_calls")] == [run_id]
