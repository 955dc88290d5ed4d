"""Merging: fewer files, the same rows, each chain as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq

from flightlog.recorder.lease import Lease
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.removal import checkpoint_if_many
from flightlog.recorder.manifest import (
    HISTORY,
    manifest_files,
    sealing_lock,
    store_state,
)
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from tests.unit.recorder.store_life import (
    all_events,
    all_messages,
    check_has_all_it_names,
    check_sound,
    texts_of,
    write_run,
    write_store,
)


def test_merged_segments_hold_the_same_rows_in_fewer_files(store_path: Path) -> None:
    store = write_store(store_path, journals=6)
    before = all_events(store)
    digests = {row["digest"]: row for row in all_messages(store)}
    report = compact_store(store)
    assert (report.merged, report.made) == (12, 2)
    snap = store.snapshot()
    assert (len(snap.event_files), len(snap.message_files)) == (1, 1)
    assert texts_of(all_events(store)) == texts_of(before)
    messages = all_messages(store)
    assert {row["digest"]: row for row in messages} == digests
    assert len(messages) == len(digests)
    assert report.duplicates > 0
    check_sound(store)
    check_has_all_it_names(store)
    assert not list(store_path.glob("events/*/0*.parquet"))


def test_the_rows_of_a_journal_stay_together_and_in_order(store_path: Path) -> None:
    store = write_store(store_path, journals=3)
    compact_store(store)
    (entry,) = [e for e in store_state(store.layout).live.values() if e.path.startswith("events")]
    assert len(entry.parts) == 3
    seqs = pq.ParquetFile(store_path / entry.path).read(columns=["run_id", "seq"]).to_pylist()
    runs = [row["run_id"] for row in seqs if row["seq"] == 0]
    assert runs == sorted(runs)
    assert [part.rows for part in entry.parts] == [12, 12, 12]


def test_merging_again_merges_what_came_since(store_path: Path) -> None:
    write_store(store_path)
    store = Store.open(store_path)
    compact_store(store)
    assert compact_store(store).merged == 0
    with Recorder(store_path) as recorder:
        write_run(recorder, "new-bob", "bob")
    report = compact_store(store)
    assert report.merged == 4
    check_sound(store)
    assert len(store.snapshot().event_files) == 1


def test_segments_of_half_the_target_and_other_days_stay(store_path: Path) -> None:
    store = write_store(store_path)
    (smallest, *_) = sorted(e.bytes for e in store_state(store.layout).live.values())
    assert compact_store(store, target_bytes=smallest).merged == 0
    days = {entry.path.rsplit("/", 1)[0] for entry in store_state(store.layout).live.values()}
    assert len(days) == 2


def test_dry_run_changes_nothing(store_path: Path) -> None:
    store = write_store(store_path)
    before = {path: path.read_bytes() for path in store_path.rglob("*") if path.is_file()}
    report = compact_store(store, is_dry_run=True)
    assert (report.merged, report.made) == (8, 2)
    assert {path: path.read_bytes() for path in store_path.rglob("*") if path.is_file()} == before


def test_damaged_segment_is_left_alone_and_told(store_path: Path) -> None:
    store = write_store(store_path, journals=3)
    victim = sorted(store_path.glob("events/*/*.parquet"))[1]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    report = compact_store(store)
    assert [problem.path for problem in report.problems] == [victim]
    assert "not merged" in report.problems[0].what
    assert victim.read_bytes() == content
    assert len(store.snapshot().event_files) == 1


def test_old_files_stay_until_their_reader_is_done(store_path: Path) -> None:
    store = write_store(store_path)
    snap = store.snapshot()
    report = compact_store(store)
    assert report.waiting == 8
    assert all(path.exists() for path in snap.event_files)
    assert len(store.snapshot().event_files) == 1
    check_sound(store)
    del snap
    seal_store(store)
    assert len(list(store_path.glob("*/date=*/*.parquet"))) == 2
    check_sound(store)


def test_many_manifests_become_history_and_bring_no_old_file_back(store_path: Path) -> None:
    store = write_store(store_path)
    before = texts_of(all_events(store))
    lease = Lease(store.layout)
    compact_store(store)
    with sealing_lock(store.layout):
        assert not checkpoint_if_many(store.layout)
        assert checkpoint_if_many(store.layout, many=6)
    assert len(manifest_files(store.layout)) == 1
    assert len((store_path / "manifest" / HISTORY).read_bytes().splitlines()) == 6
    assert len(list(store_path.glob("*/date=*/*.parquet"))) == 10
    assert texts_of(all_events(store)) == before
    check_sound(store)
    lease.release()
    compact_store(store)
    assert len(list(store_path.glob("*/date=*/*.parquet"))) == 2
    assert texts_of(all_events(store)) == before
    check_sound(store)


def test_store_of_an_older_format_is_merged(tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "samples" / "format-1"
    store = Store.open(shutil.copytree(sample, tmp_path / "store"))
    seal_store(store)
    before = all_events_of_any_format(store)
    compact_store(store)
    assert all_events_of_any_format(store) == before
    assert len(store.snapshot().event_files) <= 2
    check_sound(store)


def all_events_of_any_format(store: Store) -> list[str]:
    rows = [
        {name: value for name, value in row.items() if value is not None and name != "salt"}
        for path in store.snapshot().event_files
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return sorted(map(str, rows))
