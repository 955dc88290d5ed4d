"""Another key, or a first one: the same content, and the old key opens nothing more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import flightlog
from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.encryption.boxes import box_key_id
from flightlog.recorder.encryption.keys import KEY_VARIABLE, StoreKey, new_key
from flightlog.recorder.encryption.parquet import is_encrypted
from flightlog.recorder.lease import Lease
from flightlog.recorder.life.rekey import rekey_store
from flightlog.recorder.manifest import sealing_lock, store_state
from flightlog.recorder.quarantine import read_aside
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import RunStarted, ToolCall
from flightlog.trace.messages import Message

Call = Callable[..., ToolCall]
LONG = "canary " * 4_000


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives keys, or none."""

    def give_keys(*keys: StoreKey) -> None:
        monkeypatch.setenv(KEY_VARIABLE, " ".join(one.text for one in keys))

    return give_keys


def fill(path: Path, call: Call, run_id: str = "run") -> None:
    with Recorder(path) as recorder:
        start = RunStarted(run_id=run_id, seq=0, at=1, agent="canary")
        recorder.emit(start, messages=[Message("user", LONG), Message("system", "canary")])
        recorder.emit(call(1, run_id=run_id, result=LONG + run_id))


def content_of(path: Path) -> list[object]:
    with flightlog.open(path) as traces:
        views = [traces.table(view).to_pylist() for view in ("runs", "tool_calls", "messages")]
    digests = {row["result_blob"] for row in views[1]} - {None}
    return [*views, sorted(Store.open(path).blob(digest) for digest in digests)]


def key_ids(path: Path) -> set[str | None]:
    """The keys of all segments and blobs."""
    store = Store.open(path)
    boxes = {box_key_id(file) for file in store.layout.blob_files()}
    return boxes | {entry.key for entry in store_state(store.layout).live.values()}


def test_plain_store_becomes_encrypted_and_says_the_same(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    for number in range(3):
        fill(store_path, call, f"run-{number}")
    before, key = content_of(store_path), new_key()
    heads = [
        [part.head for part in entry.parts]
        for entry in store_state(Store.open(store_path).layout).live.values()
    ]
    give(key)
    report = rekey_store(Store.open(store_path))
    assert (report.segments, report.blobs, report.left, report.problems) == (6, 4, 0, ())
    assert content_of(store_path) == before
    assert key_ids(store_path) == {key.id}
    verified = verify_store(Store.open(store_path))
    assert (verified.problems, verified.notes) == ((), ())
    after = store_state(Store.open(store_path).layout).live.values()
    assert sorted(heads) == sorted([part.head for part in entry.parts] for entry in after)
    files = [file for file in store_path.rglob("*") if file.is_file()]
    assert not [file for file in files if b"canary" in file.read_bytes()]
    assert all(is_encrypted(file) for file in files if file.suffix == ".parquet")
    give()
    with pytest.raises(StoreKeyError):
        Recorder(store_path)


def test_after_a_change_of_the_key_the_new_one_is_enough_and_the_old_one_is_not(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    old, new = new_key(), new_key()
    give(old)
    fill(store_path, call)
    before = content_of(store_path)
    give(new, old)
    assert content_of(store_path) == before
    assert rekey_store(Store.open(store_path)).key_id == new.id
    give(new)
    assert content_of(store_path) == before
    assert key_ids(store_path) == {new.id}
    fill(store_path, call, "later")
    assert key_ids(store_path) == {new.id}
    give(old)
    with pytest.raises(StoreKeyError, match=new.id):
        content_of(store_path)


def test_a_second_time_does_nothing(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    give(new_key())
    fill(store_path, call)
    before = {path for path in store_path.rglob("*") if path.is_file()}
    report = rekey_store(Store.open(store_path))
    assert (report.segments, report.blobs, report.pieces) == (0, 0, 0)
    assert {path for path in store_path.rglob("*") if path.is_file()} == before


def test_until_the_key_is_changed_writers_go_on_with_the_one_of_the_store(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    old, new = new_key(), new_key()
    give(old)
    fill(store_path, call)
    give(new, old)
    fill(store_path, call, "later")
    assert key_ids(store_path) == {old.id}


def test_the_old_key_is_needed_for_a_change(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    old, new = new_key(), new_key()
    give(old)
    fill(store_path, call)
    give(new)
    with pytest.raises(StoreKeyError, match=old.id):
        rekey_store(Store.open(store_path))
    give(old)
    assert key_ids(store_path) == {old.id}
    give()
    with pytest.raises(StoreKeyError, match="no key is given"):
        rekey_store(Store.open(store_path))


def test_recorder_that_began_before_the_change_loses_nothing(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    old, new = new_key(), new_key()
    give(old)
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(1, result=LONG + "1"))
        give(new, old)
        rekey_store(Store.open(store_path))
        recorder.emit(call(2, result=LONG + "2"))
        assert recorder.dropped_events == 0
    assert content_of(store_path)[-1] == [LONG + "1", LONG + "2"]
    assert any("1 blobs" in note for note in verify_store(Store.open(store_path)).notes)
    seal_store(Store.open(store_path))
    rekey_store(Store.open(store_path))
    give(new)
    assert content_of(store_path)[-1] == [LONG + "1", LONG + "2"]
    assert key_ids(store_path) == {new.id}


def test_readers_keep_the_files_that_they_read(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    old, new = new_key(), new_key()
    give(old)
    fill(store_path, call)
    give(new, old)
    files = [path for path in store_path.rglob("*") if path.parent.name.startswith("date=")]
    lease = Lease(Store.open(store_path).layout)
    report = rekey_store(Store.open(store_path), wait_s=0)
    assert report.left == len(files) + report.blobs
    assert all(path.exists() for path in files)
    lease.release()
    assert rekey_store(Store.open(store_path), wait_s=0).left == 0
    assert not any(path.exists() for path in files)
    give(new)
    assert verify_store(Store.open(store_path)).notes == ()


def test_pieces_that_were_put_aside_get_the_key_too(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(1, result="canary"))
        recorder.emit(call(2))
    (journal,) = (store_path / "journal").iterdir()
    content = bytearray(journal.read_bytes())
    content[content.index(b"canary")] = ord("k")
    journal.write_bytes(content)
    seal_store(Store.open(store_path))
    (piece,) = (store_path / "quarantine").iterdir()
    before = piece.read_bytes()
    assert b"kanary" in before
    give(new_key())
    assert rekey_store(Store.open(store_path)).pieces == 1
    assert b"kanary" not in piece.read_bytes()
    assert read_aside(Store.open(store_path).layout, piece) == before


def test_damaged_segment_is_named_and_stays(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    fill(store_path, call)
    segment = next((store_path / "events").rglob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-1])
    give(new_key())
    with pytest.raises(DamagedError) as caught:
        rekey_store(Store.open(store_path))
    assert str(segment) in caught.value.where
    assert segment.exists()


def test_damaged_blob_is_named_and_the_others_are_done(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    fill(store_path, call)
    damaged, *others = Store.open(store_path).layout.blob_files()
    damaged.write_bytes(b"other")
    give(new_key())
    report = rekey_store(Store.open(store_path))
    assert [problem.path for problem in report.problems] == [damaged]
    assert report.blobs == len(others)
    assert damaged.read_bytes() == b"other"


def test_only_one_at_a_time_changes_the_key(
    store_path: Path, call: Call, give: Callable[..., None], in_child: Callable[..., int]
) -> None:
    fill(store_path, call)
    give(new_key())

    def rekey_under_the_lock() -> None:
        layout = Store.open(store_path).layout
        with sealing_lock(layout):
            assert not layout.encryption_file.exists()

    assert in_child(rekey_under_the_lock) == 0
    assert rekey_store(Store.open(store_path)).segments == 2
