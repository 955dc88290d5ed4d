"""`flightlog export`: files that give the same rows, harmless ones, all of them or none."""

from __future__ import annotations

import csv
import json
import os
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.sql_files import VIEW_KEYS
from flightlog.cli import run
from flightlog.recorder.recorder import Recorder
from flightlog.trace.events import Label
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter

HOSTILE = (
    *("=cmd|' /C calc'!A0", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1"),
    *('a"b,c;d\r\ne', "\x00\x1b[2J", "\u2028\u202e", "\x85", "", " ", "'=1", "NULL", "{}", "ünï"),
)
LONG = "=long " * 20_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run, and one in a journal; all texts are hostile, one is in a blob."""
    path = tmp_path_factory.mktemp("export") / "store"
    with Recorder(path) as recorder:
        write_run(recorder, "sealed", "a")
    recorder = Recorder(path, seal_on_close=False)
    write_run(recorder, "unsealed", "b", "max_steps")
    recorder.close()
    return path


def write_run(recorder: Recorder, run_id: str, agent: str, stop_reason: str = "ok") -> None:
    writer = RunWriter.with_system_clock(recorder, run_id)
    writer.started(agent=agent, labels=(Label("k", "v"), Label("=k", "=v")))
    for step, text in enumerate((*HOSTILE, LONG)):
        prompt = [Message("user", f"{run_id} {text}")]
        writer.model_call(prompt=prompt, step=step, output=Message("assistant", text))
        effect = "read" if step else "write"
        writer.tool_call(tool_name="t", step=step, args={"text": text}, result=text, effect=effect)
    writer.stopped(stop_reason=stop_reason, answer="=done")


def export(store: Path, out: Path, *argv: str) -> int:
    return run(["export", "--store", str(store), "--out", str(out), *argv])


def rows_of(store: Path, table: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        keys = ", ".join(f'"{key}" NULLS FIRST' for key in VIEW_KEYS[table])
        rows = traces.rows(f"SELECT * FROM {table} ORDER BY {keys}")
        for row in rows:
            for value, blob in (("result", "result_blob"), ("text", "text_blob")):
                if row.get(blob):
                    row[value] = traces.blob(row["store"], row[blob])
    return rows


@pytest.mark.parametrize("table", VIEW_KEYS)
def test_parquet_gives_the_same_rows(store: Path, tmp_path: Path, table: str) -> None:
    assert export(store, tmp_path / "x.parquet", "--table", table) == 0
    found = pq.read_table(tmp_path / "x.parquet").to_pylist()
    wanted = rows_of(store, table)
    assert len(found) == len(wanted)
    assert bool(wanted) == (table != "budgets")
    for told, known in zip(found, wanted, strict=True):
        assert list(told) == list(known)
        for name, value in known.items():
            same = told[name]
            if isinstance(same, datetime):
                assert same.utcoffset() == timedelta()
                same = same.replace(tzinfo=None)
            if isinstance(value, dict):
                same = dict(same)
            assert same == value, name


@pytest.mark.parametrize("table", VIEW_KEYS)
def test_json_lines_give_the_same_texts_and_numbers(
    store: Path, tmp_path: Path, table: str
) -> None:
    assert export(store, tmp_path / "x.jsonl", "--table", table) == 0
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    wanted = rows_of(store, table)
    assert len(lines) == len(wanted)
    for line, known in zip(lines, wanted, strict=True):
        told = json.loads(line)
        assert list(told) == list(known)
        for name, value in known.items():
            if value is None or isinstance(value, (str, int, float)):
                assert told[name] == value, name


@pytest.mark.parametrize("table", ["tool_calls", "messages", "runs"])
def test_csv_keeps_every_text_and_no_cell_is_a_formula(
    store: Path, tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    csv.field_size_limit(len(LONG) * 2)
    assert export(store, tmp_path / "x.csv", "--table", table) == 0
    assert "began like a formula" in capsys.readouterr().err
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = rows_of(store, table)
    assert len(rows) == len(wanted)
    for row, known in zip(rows, wanted, strict=True):
        for name, value in known.items():
            if isinstance(value, str):
                assert row[name].removeprefix("'") == value.removeprefix("'"), name
                assert not row[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_a_run_is_exported_whole_and_others_are_not(store: Path, tmp_path: Path) -> None:
    assert export(store, tmp_path / "out", "--where", "agent=a", "--format", "jsonl") == 0
    for table in VIEW_KEYS:
        lines = (tmp_path / "out" / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()
        wanted = [row for row in rows_of(store, table) if row["run_id"] == "sealed"]
        assert {json.loads(line)["run_id"] for line in lines} <= {"sealed"}
        assert len(lines) == len(wanted), table
    assert export(store, tmp_path / "label", "--where", "label:=k==v") == 64
    assert export(store, tmp_path / "label", "--where", "label:k=v,agent=b") == 0
    assert pq.read_table(tmp_path / "label" / "runs.parquet").num_rows == 1


def test_digests_stand_in_place_of_long_values_where_asked(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    assert export(store, out, "--table", "tool_calls", "--blobs", "digest") == 0
    in_blob = pq.read_table(out).to_pylist()
    assert [row["result"] for row in in_blob if row["result_blob"]] == [None, None]


def test_files_are_private_and_none_is_replaced_unless_asked(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(store, out) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(before) == sorted(f"{table}.parquet" for table in VIEW_KEYS)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert export(store, out) == 64
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert export(store, out, "--force") == 0


def test_nothing_is_left_when_a_blob_is_gone(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = sorted((store / "blobs").glob("*/*"))
    aside = tmp_path / "aside"
    aside.mkdir()
    for blob in blobs:
        blob.rename(aside / blob.name)
    try:
        assert export(store, tmp_path / "out", "--format", "csv") == 64
        assert list((tmp_path / "out").iterdir()) == []
    finally:
        for blob in blobs:
            (aside / blob.name).rename(blob)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--table", "nix"], "nix"),
        (["--where", "agent"], "is not COLUMN=VALUE"),
        (["--where", "agent=nix"], "known: a, b"),
        (["--where", 'agent" or true --=a'], "unknown column"),
        (["--since", "yesterdayish"], "yesterdayish"),
        (["--since", "9999999999999d"], "is too much"),
        (["--until", "9999-12-31T23:59:59-14:00"], "beyond the calendar"),
        (["--table", "runs", "--table", "events"], "several tables"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    store: Path, tmp_path: Path, argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "file"
    if "several" in told:
        out.touch()
    assert export(store, out, *argv) == 64
    error = capsys.readouterr().err
    assert told.lower() in error.lower()
    assert "Traceback" not in error


def test_a_name_of_another_format_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(store, tmp_path / "x.csv", "--table", "runs", "--format", "parquet") == 64
    assert "is no name for a parquet file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["", "events", "events/out", "journal/x.parquet"])
def test_nothing_is_exported_into_a_store(
    store: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.walk(store))
    assert export(store, store / place, "--table", "runs", "--force") == 64
    assert "is in the store" in capsys.readouterr().err
    assert sorted(os.walk(store)) == before


def test_an_empty_store_gives_empty_files(tmp_path: Path) -> None:
    Recorder(tmp_path / "store").close()
    for form in ("parquet", "jsonl", "csv"):
        assert export(tmp_path / "store", tmp_path / form, "--format", form) == 0
        assert len(list((tmp_path / form).iterdir())) == len(VIEW_KEYS)
    with (tmp_path / "csv" / "runs.csv").open(encoding="utf-8") as file:
        assert len(file.readlines()) == 1
    assert (tmp_path / "jsonl" / "runs.jsonl").read_text(encoding="utf-8") == ""
