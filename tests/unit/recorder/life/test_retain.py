"""Retention: whole old runs go with what only they needed; living and pinned ones stay."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from flightlog.errors import DamagedError, UsageError
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.dropped import DROPPED_SUFFIX, dropped_rows, heads_of
from flightlog.recorder.life.erase import erase
from flightlog.recorder.life.pins import add_pins, pins_of
from flightlog.recorder.life.retain import RetainReport, live_bytes, retain
from flightlog.recorder.manifest import SegmentEntry, store_state
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.events import Evaluation, Gap, RunStarted, RunStopped, StateChanged
from flightlog.trace.run_writer import RunWriter
from tests.unit.recorder.store_life import (
    all_events,
    all_messages,
    check_has_all_it_names,
    check_sound,
    events_of,
    everything_in,
    texts_of,
    write_run,
    write_store,
)

DAY_US = 86_400_000_000


def run_ids(store: Store) -> set[str]:
    return set(all_events(store).column("run_id").to_pylist())


def events_entries(store: Store) -> list[SegmentEntry]:
    live = store_state(store.layout).live
    return [entry for path, entry in sorted(live.items()) if path.startswith("events/")]


def retain_in(store: Store, days: float, **options: object) -> RetainReport:
    """Retention of one day, asked for some days from now."""
    now_us = time.time_ns() // 1000 + round(days * DAY_US)
    return retain(store, older_than_s=86_400, now_us=now_us, **options)  # type: ignore[arg-type]


def test_runs_go_once_they_are_older_than_asked(store_path: Path) -> None:
    store = write_store(store_path)
    before = texts_of(all_events(store))
    report = retain_in(store, 0.9)
    assert (report.runs, report.events) == (0, 0)
    assert texts_of(all_events(store)) == before
    size = live_bytes(store.layout)
    report = retain_in(store, 1.1)
    assert (report.runs, report.events) == (12, 48)
    assert report.bytes == size - report.left_bytes > 0
    assert list(store_path.glob("*/date=*/*")) == []
    assert list(store_path.glob("blobs/*/*")) == []
    assert all_events(store).num_rows == len(all_messages(store)) == 0
    check_sound(store)


@pytest.mark.parametrize("is_merged", [False, True])
def test_pinned_runs_stay_whole_and_the_chains_of_their_journals_hold(
    store_path: Path, is_merged: bool
) -> None:
    store = write_store(store_path)
    if is_merged:
        compact_store(store)
    kept = events_of(store, "bob")
    add_pins(store.layout, [run for run in run_ids(store) if run.startswith("0-")], Path("goldens"))
    bobs = {run for run in run_ids(store) if run.endswith("-bob")}
    report = retain_in(store, 2, pinned=bobs)
    assert run_ids(store) == bobs | {"0-0-alice", "0-2-alice"}
    assert (report.runs, report.pinned) == (4, 8)
    assert events_of(store, "bob") == kept
    assert sum(part.dropped for entry in events_entries(store) for part in entry.parts) == 16
    check_sound(store)
    check_has_all_it_names(store)
    assert len(store.snapshot().problems) == 0


def test_dropped_rows_keep_their_place_however_often_rows_are_dropped(store_path: Path) -> None:
    """Dropping in several goes, with merging between, leaves the same chain as at once."""
    store = write_store(store_path, journals=2, runs=4)
    at_once = Store.open(shutil.copytree(store_path, store_path.with_name("at-once")))
    runs = sorted(run_ids(store))
    stay = {runs[1], runs[6]}
    retain_in(at_once, 2, pinned=stay)
    retain_in(store, 2, pinned=stay | {runs[0], runs[3], runs[4]})
    compact_store(store)
    retain_in(store, 2, pinned=stay | {runs[3]})
    retain_in(store, 2, pinned=stay)
    compact_store(store)
    compact_store(at_once)
    check_sound(store)
    assert texts_of(all_events(store)) == texts_of(all_events(at_once))
    ((one,), (other,)) = events_entries(store), events_entries(at_once)
    assert one.parts == other.parts
    assert list(dropped_rows(store.layout, one)) == list(dropped_rows(at_once.layout, other))
    assert len(list(store_path.glob(f"events/*/*{DROPPED_SUFFIX}"))) == 1


def test_a_changed_commitment_of_a_dropped_row_is_found(store_path: Path) -> None:
    store = write_store(store_path, journals=2, runs=2)
    retain_in(store, 2, pinned={"0-0-alice"})
    (entry,) = events_entries(store)
    assert heads_of(store.layout, entry) == [entry.parts[0].head]
    file = next(store_path.glob(f"events/*/*{DROPPED_SUFFIX}"))
    commitment = next(dropped_rows(store.layout, entry)).commitment
    content = file.read_bytes()
    assert commitment in content
    file.write_bytes(content.replace(commitment, bytes(32)))
    with contextlib.suppress(DamagedError):  # where the page's checksum tells
        assert heads_of(store.layout, entry) != [entry.parts[0].head]


def test_runs_of_living_processes_stay(store_path: Path) -> None:
    """Also the part of such a run that is sealed already."""
    write_store(store_path, journals=1, runs=1)
    recorder = Recorder(store_path, seal_at_bytes=1)
    run = RunWriter.with_system_clock(recorder, "long")
    run.started(agent="a")
    run.tool_call(tool_name="t", result="x")
    store = Store.open(store_path)
    seal_store(store)
    report = retain_in(store, 2)
    assert (report.runs, run_ids(store)) == (1, {"long"})
    run.stopped(stop_reason="ok")
    recorder.close()
    assert Counter(all_events(store).column("kind").to_pylist())["run_stopped"] == 1
    check_sound(store)


def test_a_judged_run_is_as_old_as_its_judgement_and_crashed_ones_go(store_path: Path) -> None:
    with Recorder(store_path) as recorder:
        recorder.emit(RunStarted(run_id="crashed", seq=0, at=5))
        recorder.emit(RunStarted(run_id="judged", seq=0, at=5))
        recorder.emit(RunStopped(run_id="judged", seq=1, at=5))
        later_us = time.time_ns() // 1000 + 3 * DAY_US
        recorder.emit(Evaluation(run_id="judged", seq=2, at=later_us, passed=True))
    store = Store.open(store_path)
    retain_in(store, 2)
    assert run_ids(store) == {"judged"}
    check_sound(store)


def test_a_clock_that_was_wrong_makes_no_run_old(store_path: Path) -> None:
    """Nor does an import of old traces: their journal is young."""
    with Recorder(store_path) as recorder:
        recorder.emit(RunStarted(run_id="r", seq=0, at=1_000_000))
    store = Store.open(store_path)
    assert retain(store, older_than_s=3600).runs == 0
    assert run_ids(store) == {"r"}


def test_events_of_no_run_go_by_their_own_age(store_path: Path) -> None:
    with Recorder(store_path) as recorder:
        recorder.emit(Gap(run_id="", seq=0, at=5, dropped_events=3))
        young_us = time.time_ns() // 1000 + 3 * DAY_US
        recorder.emit(StateChanged(run_id="", seq=young_us, at=young_us, subject="kill_switch"))
    store = Store.open(store_path)
    report = retain_in(store, 2)
    assert (report.runs, report.events) == (0, 1)
    assert all_events(store).column("kind").to_pylist() == ["state_changed"]
    check_sound(store)


def test_messages_and_blobs_that_others_need_stay(store_path: Path) -> None:
    store = write_store(store_path, journals=3)
    compact_store(store)
    kept = {run for run in run_ids(store) if run.startswith("2-")}
    retain_in(store, 2, pinned=kept)
    check_has_all_it_names(store)
    named = {"system", "task", "user", "assistant"}
    assert {row["role"] for row in all_messages(store)} == named
    texts = [row["text"] or "" for row in all_messages(store)]
    assert not any("asks-0-" in text for text in texts)


def test_the_oldest_runs_go_until_the_store_is_small_enough(store_path: Path) -> None:
    store = write_store(store_path, journals=8)
    size = live_bytes(store.layout)
    report = retain(store, max_bytes=size * 2 // 3)
    assert report.left_bytes == live_bytes(store.layout) <= size * 2 // 3
    assert report.left_bytes >= size // 3
    left = sorted(run_ids(store))
    assert left[0][0] > "0"
    assert left[-1].startswith("7-2")
    check_sound(store)
    check_has_all_it_names(store)
    assert retain(store, max_bytes=size).runs == 0
    assert retain(store, max_bytes=0).left_bytes == 0
    assert run_ids(store) == set()


def test_dry_run_changes_nothing_and_tells_the_pins(store_path: Path) -> None:
    store = write_store(store_path)
    add_pins(store.layout, ["0-0-alice"], Path("goldens"))
    before = everything_in(store_path)
    report = retain_in(store, 2, is_dry_run=True)
    assert (report.runs, report.events, report.pinned) == (11, 44, 1)
    assert [pin.run_id for _, pin in report.pins] == ["0-0-alice"]
    assert everything_in(store_path) == before
    assert retain(store, max_bytes=10, is_dry_run=True).runs > 1


def test_an_erased_run_can_be_removed_later(store_path: Path) -> None:
    store = write_store(store_path, journals=2)
    erase(store, names=[("data_subject", "canary-alice")])
    bobs = {run for run in run_ids(store) if run.endswith("-bob")}
    retain_in(store, 2, pinned=bobs)
    assert run_ids(store) == bobs
    check_sound(store)


def test_store_of_an_older_format_is_retained_in_part(tmp_path: Path) -> None:
    sample = Path(__file__).parents[1] / "samples" / "format-1"
    store = Store.open(shutil.copytree(sample, tmp_path / "store"))
    seal_store(store)
    report = retain_in(store, 9999, pinned={"sample-1"})
    assert report.runs == 3
    assert run_ids(store) == {"sample-1"}
    check_sound(store)
    check_has_all_it_names(store)


def test_damaged_store_is_refused(store_path: Path) -> None:
    store = write_store(store_path, journals=2)
    add_pins(store.layout, ["0-0-alice"], Path("goldens"))
    manifest = max(store_path.glob("manifest/*.json"))
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with pytest.raises(DamagedError, match="manifests are damaged"):
        retain_in(store, 2)
    next(iter(pins_of(store.layout))).write_bytes(b"{")
    with pytest.raises(DamagedError, match="pin cannot be read"):
        retain_in(store, 2)


def test_no_limit_is_a_mistake(store_path: Path) -> None:
    store = write_store(store_path, journals=1)
    with pytest.raises(UsageError, match="no limit"):
        retain(store)


def test_a_journal_without_rows_left_leaves_no_commitments(store_path: Path) -> None:
    store = write_store(store_path, journals=2)
    compact_store(store)
    retain_in(store, 2, pinned={"1-0-bob"})
    (entry,) = events_entries(store)
    assert [part.rows for part in entry.parts] == [4]
    assert len(list(dropped_rows(store.layout, entry))) == 8
    write_run_after(store_path)
    check_sound(store)


def write_run_after(path: Path) -> None:
    with Recorder(path) as recorder:
        write_run(recorder, "after-bob", "bob")
