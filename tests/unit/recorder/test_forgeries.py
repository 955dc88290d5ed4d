"""Attacks that look like the life of a store: false mergings and erasures, foreign parts."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flightlog.errors import DamagedError, StoreError
from flightlog.recorder.audit import Anchor, anchor_of, audit_store
from flightlog.recorder.chain import COMMITMENT, SALT, commitments_of, segment_schema
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.erase import erase
from flightlog.recorder.life.pending import pending_removals
from flightlog.recorder.life.retain import retain
from flightlog.recorder.life.skeleton import erased_rows
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import FORMAT_KEY

CHANGED_ARGS = '{"amount":9}'


@pytest.fixture
def store(store_path: Path) -> Path:
    """Two sealed journals with a run of one person each."""
    return recorded(store_path)


def recorded(path: Path, *, runs: int = 2) -> Path:
    for number in range(runs):
        with Recorder(path) as recorder:
            writer = RunWriter.with_system_clock(recorder, f"run-{number}")
            writer.started(agent="a", data_subject=f"person-{number}")
            writer.tool_call(tool_name="pay", args='{"amount":5}', effect="write")
            writer.stopped(stop_reason="ok", answer="Paid.")
    return path


def segments(store: Path) -> list[Path]:
    return sorted(store.glob("events/*/*.parquet"))


def manifests(store: Path) -> list[Path]:
    return sorted((store / "manifest").glob("*.json"))


def problems(store: Path, anchor: Anchor | None = None) -> list[str]:
    opened = Store.open(store)
    report = verify_store(opened)
    return [p.what for p in (*report.problems, *audit_store(opened, anchor=anchor).problems)]


def append_manifest(store: Path, why: str, **changed: Any) -> None:
    """A manifest that follows the last one, as who knows the format would write it."""
    last = manifests(store)[-1]
    known = json.loads(last.read_text())
    number = known["number"] + 1
    manifest = {
        "format": known["format"],
        "number": number,
        "previous_sha256": hashlib.sha256(last.read_bytes()).hexdigest(),
        "segments": [],
        "why": why,
        "at_us": known["at_us"] + 1,
        **changed,
    }
    (last.parent / f"{number:08d}.json").write_text(json.dumps(manifest))


def entries(store: Path) -> dict[str, Any]:
    read = [json.loads(path.read_text()) for path in manifests(store)]
    return {entry["path"]: entry for manifest in read for entry in manifest["segments"]}


def replaced_by(
    store: Path, why: str, change: Callable[[pa.Table], pa.Table], **part: Any
) -> dict[str, Any]:
    """Puts a changed copy of the first segment in its place, and tells it in a new manifest."""
    old = segments(store)[0]
    new = old.with_name("m-" + "0" * 32 + ".parquet")
    file = pq.ParquetFile(old)
    table, metadata = change(file.read().cast(segment_schema())), file.metadata.metadata
    with pq.ParquetWriter(new, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FORMAT_KEY: metadata[FORMAT_KEY]})
    name = old.relative_to(store).as_posix()
    entry = entries(store)[name]
    content = new.read_bytes()
    entry |= {
        "path": new.relative_to(store).as_posix(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "rows": table.num_rows,
    }
    entry["parts"][0] |= {"rows": table.num_rows, **part}
    old.unlink()
    append_manifest(store, why, segments=[entry], replaced=[name], detail="payloads of 0 events")
    return dict(entry)


def with_old_commitment(table: pa.Table, *, keeps_salt: bool = False) -> pa.Table:
    """The payment has another amount, and the commitment of the true one."""
    is_payment = pc.equal(table.column("kind"), "tool_call").to_pylist()
    sealed = commitments_of(table)
    columns = table.to_pydict()
    for place, chosen in enumerate(is_payment):
        if chosen:
            columns["args"][place] = CHANGED_ARGS
            columns[COMMITMENT][place] = sealed[place]
            if not keeps_salt:
                columns[SALT][place] = None
    return pa.table(columns, schema=segment_schema())


def without_payment(table: pa.Table) -> pa.Table:
    return erased_rows(table, pc.equal(table.column("kind"), "tool_call").combine_chunks())


@pytest.mark.parametrize("why", ["compact", "rekey", "erase", "retain", "seal"])
@pytest.mark.parametrize("keeps_salt", [False, True])
@pytest.mark.parametrize("erased", [0, 1])
def test_a_changed_event_does_not_pass_under_the_commitment_of_the_true_one(
    store: Path, why: str, keeps_salt: bool, erased: int
) -> None:
    anchor = anchor_of(Store.open(store))
    replaced_by(
        store, why, lambda rows: with_old_commitment(rows, keeps_salt=keeps_salt), erased=erased
    )
    assert any("an erased event has something in" in what for what in problems(store, anchor))


@pytest.mark.parametrize("why", ["compact", "rekey", "retain", "seal"])
def test_an_erasure_under_another_name_is_found(store: Path, why: str) -> None:
    replaced_by(store, why, without_payment, erased=1)
    assert any("says nothing of an erasure" in what for what in problems(store))


@pytest.mark.parametrize("why", ["compact", "erase"])
def test_an_erasure_that_is_not_counted_is_found(store: Path, why: str) -> None:
    replaced_by(store, why, without_payment)
    assert any("1 events are erased" in what for what in problems(store))


def test_an_erasure_by_who_may_write_is_told_with_its_true_size(store: Path) -> None:
    """It follows the rules: only that it happened can be told, and that the manifest lies."""
    anchor = anchor_of(Store.open(store))
    replaced_by(store, "erase", without_payment, erased=1)
    report = audit_store(Store.open(store), anchor=anchor)
    assert problems(store, anchor) == []
    assert report.removals == ("manifest 3, erase: payloads of 0 events (1 events emptied)",)


def test_a_removal_under_another_name_is_found(store: Path) -> None:
    def shortened(rows: pa.Table) -> pa.Table:
        return rows.slice(0, rows.num_rows - 1)

    replaced_by(store, "compact", shortened, dropped=1)
    assert any("says nothing of a removal" in what for what in problems(store))


@pytest.mark.parametrize("why", ["compact", "seal", "erase"])
def test_a_segment_that_is_taken_out_is_found(store: Path, why: str) -> None:
    first = segments(store)[0]
    name = first.relative_to(store).as_posix()
    first.unlink()
    append_manifest(store, why, replaced=[name])
    assert any("leaves out journal" in what for what in problems(store))


def test_events_that_are_listed_twice_are_found(store: Path) -> None:
    first = segments(store)[0]
    copy = first.with_name("m-" + "1" * 32 + ".parquet")
    shutil.copy(first, copy)
    entry = entries(store)[first.relative_to(store).as_posix()]
    append_manifest(store, "seal", segments=[{**entry, "path": str(copy.relative_to(store))}])
    assert any("lists again" in what for what in problems(store))


def test_removed_events_do_not_come_back(store: Path) -> None:
    first = segments(store)[0]
    name, content = first.relative_to(store).as_posix(), first.read_bytes()
    entry = entries(store)[name]
    retain(Store.open(store), max_bytes=0)
    assert problems(store) == []
    first.write_bytes(content)
    append_manifest(store, "seal", segments=[entry])
    assert any("brings back" in what for what in problems(store))


def test_a_segment_of_another_store_is_found_unless_it_is_sealed_there_as_new(
    store: Path, tmp_path: Path
) -> None:
    """New events can be made up by who may write; what was sealed before stays as it was."""
    anchor = anchor_of(Store.open(store))
    other = recorded(tmp_path / "other", runs=1)
    (foreign,) = segments(other)
    target = store / foreign.relative_to(other)
    shutil.copy(foreign, target)
    assert any("no manifest lists" in what for what in problems(store, anchor))
    append_manifest(store, "seal", segments=[entries(other)[str(foreign.relative_to(other))]])
    assert problems(store, anchor) == []


def test_a_segment_of_another_store_in_the_place_of_one_is_found(
    store: Path, tmp_path: Path
) -> None:
    (foreign,) = segments(recorded(tmp_path / "other", runs=1))
    shutil.copy(foreign, segments(store)[0])
    assert problems(store)


def test_an_older_copy_of_the_store_is_found_with_the_newest_anchor_only(
    store: Path, tmp_path: Path
) -> None:
    older = anchor_of(Store.open(store))
    copy = shutil.copytree(store, tmp_path / "copy")
    recorded(store, runs=1)
    newest = anchor_of(Store.open(store))
    assert problems(copy) == []
    assert problems(copy, older) == []
    assert any("cut off" in what for what in problems(copy, newest))


def test_the_anchor_of_another_store_fits_no_store(store: Path, tmp_path: Path) -> None:
    other = anchor_of(Store.open(recorded(tmp_path / "other")))
    assert any("is not the one that the anchor names" in what for what in problems(store, other))


def test_a_history_that_is_gone_is_found(store: Path) -> None:
    anchor = anchor_of(Store.open(store))
    for path in manifests(store):
        path.unlink()
    shutil.rmtree(store / "events")
    shutil.rmtree(store / "messages")
    (store / "events").mkdir()
    (store / "messages").mkdir()
    assert problems(store) == []
    assert any("cut off" in what for what in problems(store, anchor))


@pytest.mark.parametrize("name", ["events", "manifest", "day", "segment", "manifest file"])
def test_what_is_a_link_is_found(store: Path, name: str, tmp_path: Path) -> None:
    segment = segments(store)[0]
    path = {
        "events": store / "events",
        "manifest": store / "manifest",
        "day": segment.parent,
        "segment": segment,
        "manifest file": manifests(store)[0],
    }[name]
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    if name in ("events", "manifest"):
        with pytest.raises(StoreError, match="symbolic link"):
            problems(store)
    else:
        assert any("symbolic link" in what for what in problems(store))


@pytest.mark.parametrize(
    "name", ["../outside.parquet", "/outside.parquet", "events/../../outside.parquet", "FORMAT"]
)
@pytest.mark.parametrize("where", ["replaced", "segments"])
def test_a_manifest_leads_nobody_out_of_the_store(store: Path, name: str, where: str) -> None:
    outside = store.parent / "outside.parquet"
    outside.write_bytes(b"mine")
    name = str(outside) if name.startswith("/") else name
    entry = next(iter(entries(store).values()))
    told = [name] if where == "replaced" else [{**entry, "path": name}]
    append_manifest(store, "seal", **{where: told})
    assert any("is not the path of a segment" in what for what in problems(store))
    seal_store(Store.open(store))
    with pytest.raises(DamagedError):
        compact_store(Store.open(store))
    assert outside.read_bytes() == b"mine"
    assert (store / "FORMAT").exists()


def test_the_record_of_a_removal_leads_nobody_out_of_the_store(store: Path) -> None:
    outside = store.parent / "outside.json"
    outside.write_text("{}")
    (store / "pending").mkdir()
    record = {"id": "../../outside", "why": "retain", "at_us": 1}
    (store / "pending" / "x.json").write_text(json.dumps(record))
    report = seal_store(Store.open(store))
    assert any("cannot be read" in problem.what for problem in report.problems)
    with pytest.raises(DamagedError, match="its id is"):
        pending_removals(Store.open(store).layout)
    assert outside.exists()


def test_life_after_an_anchor_is_no_problem_and_removals_are_told(store: Path) -> None:
    anchor = anchor_of(Store.open(store))
    erase(Store.open(store), names=[("data_subject", "person-0")])
    recorded(store, runs=1)
    compact_store(Store.open(store))
    assert problems(store, anchor) == []
    report = audit_store(Store.open(store), anchor=anchor)
    assert len(report.removals) == 1
    assert "(3 events emptied)" in report.removals[0]
    retain(Store.open(store), max_bytes=0)
    assert problems(store, anchor) == []
    told = audit_store(Store.open(store), anchor=anchor).removals
    assert [text.partition(" (")[2] for text in told] == ["3 events emptied)", "9 events removed)"]
