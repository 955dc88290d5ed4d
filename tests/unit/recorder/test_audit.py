"""Seven attacks on a store: which are found, and which only with the anchor."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.cli import run
from flightlog.errors import StoreError, UsageError
from flightlog.recorder.audit import Anchor, anchor_of, audit_store
from flightlog.recorder.chain import COMMITMENT, SALT, Chain, commitments_of, segment_schema
from flightlog.recorder.layout import Layout
from flightlog.recorder.manifest import add_checkpoint, sealing_lock
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import FORMAT_KEY

JOURNALS = 3


@pytest.fixture
def store(store_path: Path) -> Path:
    """Three sealed journals of four events each, all by a recorder of its own."""
    for number in range(JOURNALS):
        with Recorder(store_path) as recorder:
            writer = RunWriter.with_system_clock(recorder, f"run-{number}")
            writer.started(agent="a")
            writer.model_call(prompt=[Message("user", f"Pay {number}.")], step=1)
            writer.tool_call(tool_name="pay", args='{"amount":5}', effect="write")
            writer.stopped(stop_reason="ok", answer="Paid.")
    return store_path


def segments(store: Path) -> list[Path]:
    return sorted(store.glob("events/*/*.parquet"))


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the rows of a segment; nothing else."""
    file = pq.ParquetFile(path)
    table, metadata = change(file.read()), file.metadata.metadata
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FORMAT_KEY: metadata[FORMAT_KEY]})


def edited(table: pa.Table) -> pa.Table:
    values = table.column("args").to_pylist()
    values = [value and value.replace("5", "9") for value in values]
    place = table.schema.get_field_index("args")
    return table.set_column(place, "args", pa.array(values, pa.string()))


def committed_again(store: Path, number: int, *, follow: bool) -> None:
    """Makes the digests of a segment anew, in its manifest and with `follow` in all later ones."""
    path = segments(store)[number]
    rows = pq.read_table(path, partitioning=None)
    chain = Chain(path.stem)
    salts = pa.array([os.urandom(16)] * rows.num_rows, pa.binary(16))
    rows = rows.set_column(rows.schema.get_field_index(SALT), SALT, salts)
    chain.add(commitments_of(rows.cast(segment_schema())))
    rewritten(path, lambda _: rows)
    name, previous = path.relative_to(store).as_posix(), None
    for file in sorted((store / "manifest").glob("*.json")):
        manifest = json.loads(file.read_text())
        for entry in manifest["segments"]:
            if entry["path"] == name:
                content = path.read_bytes()
                entry |= {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "bytes": len(content),
                    "rows": rows.num_rows,
                }
                entry["parts"][0] |= {"rows": rows.num_rows, "head": chain.head}
        if follow and previous is not None:
            manifest["previous_sha256"] = previous
        file.write_text(json.dumps(manifest))
        previous = hashlib.sha256(file.read_bytes()).hexdigest()


def edit(store: Path) -> None:
    rewritten(segments(store)[0], edited)


def commit_again(store: Path) -> None:
    edit(store)
    committed_again(store, 0, follow=False)


def remove(store: Path) -> None:
    rewritten(segments(store)[0], lambda rows: pa.concat_tables([rows[:2], rows[3:]]))


def swap(store: Path) -> None:
    rewritten(segments(store)[0], lambda rows: rows.take([0, 2, 1, 3]))


def drop_a_segment(store: Path) -> None:
    segments(store)[1].unlink()


def cut_the_tail(store: Path) -> None:
    last = segments(store)[-1]
    last.unlink()
    (store / "messages" / last.parent.name / last.name).unlink()
    sorted((store / "manifest").glob("*.json"))[-1].unlink()


def make_all_anew(store: Path) -> None:
    edit(store)
    committed_again(store, 0, follow=True)


FOUND_WITHOUT_ANCHOR = [edit, commit_again, remove, swap, drop_a_segment]
FOUND_WITH_ANCHOR = [cut_the_tail, make_all_anew]


def problems(store: Path, anchor: Anchor | None = None) -> list[str]:
    opened = Store.open(store)
    report = verify_store(opened)
    return [p.what for p in (*report.problems, *audit_store(opened, anchor=anchor).problems)]


def test_an_untouched_store_has_no_problem_and_keeps_its_anchor(store: Path) -> None:
    anchor = anchor_of(Store.open(store))
    assert problems(store, anchor) == []
    report = audit_store(Store.open(store), anchor=anchor)
    assert (report.journals, report.anchor, report.removals) == (JOURNALS, anchor, ())
    with Recorder(store) as recorder:
        RunWriter.with_system_clock(recorder, "later").started()
    assert problems(store, anchor) == []


@pytest.mark.parametrize("attack", FOUND_WITHOUT_ANCHOR)
def test_attack_is_found_without_an_anchor(store: Path, attack: Callable[[Path], None]) -> None:
    attack(store)
    assert problems(store)


@pytest.mark.parametrize("attack", FOUND_WITH_ANCHOR)
def test_attack_is_found_with_the_anchor_alone(store: Path, attack: Callable[[Path], None]) -> None:
    anchor = anchor_of(Store.open(store))
    attack(store)
    assert problems(store) == []
    found = problems(store, anchor)
    assert len(found) == 1
    assert "anchor" in found[0]


@pytest.mark.parametrize("attack", [edit, commit_again, remove, swap, drop_a_segment])
def test_chain_alone_finds_changed_rows_also_where_the_digests_of_the_file_were_made_anew(
    store: Path, attack: Callable[[Path], None]
) -> None:
    attack(store)
    assert audit_store(Store.open(store)).problems


def test_a_changed_message_is_found_by_its_digest(store: Path) -> None:
    (path, *_) = sorted(store.glob("messages/*/*.parquet"))

    def change(table: pa.Table) -> pa.Table:
        texts = pa.array(["Pay 9."] * table.num_rows, pa.string())
        return table.set_column(table.schema.get_field_index("text"), "text", texts)

    rewritten(path, change)
    found = audit_store(Store.open(store)).problems
    assert [problem.what.partition(" is ")[2] for problem in found] == ["not the one of its digest"]


def test_a_checkpoint_keeps_the_history_and_old_anchors(store: Path) -> None:
    anchor = anchor_of(Store.open(store))
    layout = Layout(store)
    with sealing_lock(layout):
        add_checkpoint(layout)
    assert len(list((store / "manifest").glob("*.json"))) == 1
    assert problems(store, anchor) == []
    assert audit_store(Store.open(store)).anchor == anchor_of(Store.open(store))


def test_a_checkpoint_that_leaves_something_out_is_found(store: Path) -> None:
    layout = Layout(store)
    with sealing_lock(layout):
        add_checkpoint(layout)
    (file,) = (store / "manifest").glob("*.json")
    manifest: dict[str, Any] = json.loads(file.read_text())
    gone = manifest["segments"].pop()
    file.write_text(json.dumps(manifest))
    (store / gone["path"]).unlink()
    assert any("checkpoint" in what for what in problems(store))


def test_a_changed_history_is_found(store: Path) -> None:
    layout = Layout(store)
    with sealing_lock(layout):
        add_checkpoint(layout)
    history = store / "manifest" / "history.jsonl"
    lines = history.read_text().splitlines()
    history.write_text("\n".join(lines[1:]) + "\n")
    assert any("does not follow" in what for what in problems(store))


def test_an_empty_store_has_no_anchor(store_path: Path) -> None:
    Recorder(store_path, seal_on_close=False).close()
    with pytest.raises(StoreError, match="nothing is sealed"):
        anchor_of(Store.open(store_path))


@pytest.mark.parametrize("text", ["", "flightlog-anchor/1:0:" + "0" * 64, "x", "flightlog/1:1"])
def test_what_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an anchor"):
        Anchor.parse(text)


def test_the_command_prints_an_anchor_and_checks_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "--store", str(store), "--anchor"]) == 0
    anchor = capsys.readouterr().out.splitlines()[-1]
    assert Anchor.parse(anchor) == anchor_of(Store.open(store))
    assert run(["verify", "--store", str(store), "--anchor", anchor]) == 0
    assert "3 chains" in capsys.readouterr().out
    cut_the_tail(store)
    assert run(["verify", "--store", str(store), "--anchor", anchor]) == 64
    assert "cut off" in capsys.readouterr().err


def test_an_empty_anchor_is_a_mistake_and_no_check(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "--store", str(store), "--anchor", ""]) == 64
    assert "not an anchor" in capsys.readouterr().err


def test_commitments_bind_every_column(store: Path) -> None:
    rows = pq.read_table(segments(store)[0], partitioning=None).cast(segment_schema())
    before = commitments_of(rows)
    for name in rows.column_names:
        if name in (SALT, COMMITMENT, "kind") or rows.column(name).null_count == rows.num_rows:
            continue
        shuffled = rows.column(name).take(pa.array([*range(1, rows.num_rows), 0]))
        if shuffled.equals(rows.column(name)):
            continue
        changed = rows.set_column(rows.schema.get_field_index(name), name, shuffled)
        assert commitments_of(changed) != before, name
