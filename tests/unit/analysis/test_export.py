"""Results as files."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.analysis.export import (
    QueryResult,
    defused,
    unique_names,
    write_csv,
    write_json,
    write_parquet,
    write_result,
)
from flightlog.errors import UnknownNameError, UsageError


def _csv(table: pa.Table) -> list[list[str]]:
    stream = io.StringIO(newline="")
    write_csv(table, stream)
    return list(csv.reader(io.StringIO(stream.getvalue(), newline="")))


def _json(table: pa.Table) -> Any:
    stream = io.StringIO()
    write_json(table, stream)
    return json.loads(stream.getvalue())


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_terminal_obeys_nothing_in_csv_and_json_and_a_file_gets_all(form: str) -> None:
    table = pa.table({"a": ["\x1b[2J\u202ex\ny"]})
    screen, file = _Terminal(), io.StringIO()
    write_result(table, form=form, stream=screen)
    write_result(table, form=form, stream=file)
    assert not {"\x1b", "\u202e"} & set(screen.getvalue())
    assert "\\u202ex" in screen.getvalue()
    assert "\u202ex" in file.getvalue()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_formula_in_a_text_cell_is_defused(start: str) -> None:
    text = f"{start}cmd|' /C calc'!A0"
    assert _csv(pa.table({"a": [text]})) == [["a"], [f"'{text}"]]
    assert _csv(pa.table({text: [1]}))[0] == [f"'{text}"]


def test_numbers_are_not_defused_and_nulls_are_empty() -> None:
    table = pa.table({"a": [-1, None], "b": [-0.5, None], "c": [True, None], "d": ["", None]})
    assert _csv(table) == [
        ["a", "b", "c", "d"],
        ["-1", "-0.5", "True", ""],
        ["", "", "", ""],
    ]


@given(st.lists(st.text(), min_size=1))
def test_csv_keeps_every_text_but_for_the_apostrophe(texts: list[str]) -> None:
    rows = _csv(pa.table({"a": ["x"] * len(texts), "b": pa.array(texts, pa.string())}))[1:]
    assert [row[1] for row in rows] == [defused(text) for text in texts]


def test_lists_maps_and_times_are_written() -> None:
    table = pa.table(
        {
            "at": pa.array([datetime(2025, 1, 1)], pa.timestamp("us")),
            "tools": [["a", "b"]],
            "labels": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
        }
    )
    assert _csv(table)[1] == ["2025-01-01T00:00:00", '["a", "b"]', '[["k", "v"]]']
    assert _json(table) == [
        {"at": "2025-01-01T00:00:00", "tools": ["a", "b"], "labels": {"k": "v"}}
    ]


def test_json_has_no_nan() -> None:
    table = pa.table({"a": [float("nan"), float("inf"), float("-inf"), 1.5, None]})
    found = [row["a"] for row in _json(table)]
    assert found == ["NaN", "Infinity", "-Infinity", 1.5, None]


def test_columns_of_one_name_are_kept_apart() -> None:
    assert unique_names(["a", "a", "a_1", "a"]) == ["a", "a_1", "a_1_1", "a_2"]
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert _json(table) == [{"a": 1, "a_1": 2}]


def test_parquet_comes_back_equal(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    write_parquet(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(table)


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_a_file_is_never_overwritten(tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    write_result(pa.table({"a": [1]}), form=form, out=out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        write_result(pa.table({"a": [2]}), form=form, out=out)
    assert out.read_bytes() == before
    with pytest.raises(UsageError, match="does not exist"):
        write_result(pa.table({"a": [1]}), form=form, out=tmp_path / "no" / "out")


def test_parquet_is_not_for_a_terminal() -> None:
    with pytest.raises(UsageError, match="--out"):
        write_result(pa.table({"a": [1]}), form="parquet")
    with pytest.raises(UnknownNameError, match="nearest: parquet"):
        write_result(pa.table({"a": [1]}), form="parket")


def test_csv_lines_end_in_a_line_feed_alone_so_that_a_shell_can_read_ids() -> None:
    stream = io.StringIO()
    write_csv(pa.table({"run_id": ["r1", "a\rb"]}), stream)
    assert stream.getvalue() == 'run_id\nr1\n"a\rb"\n'


def test_a_cut_result_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    write_result(QueryResult(pa.table({"a": [1]}), is_cut=True), form="csv")
    captured = capsys.readouterr()
    assert captured.out == "a\n1\n"
    assert captured.err == "cut after 1 rows; there are more\n"


def test_a_table_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    write_result(pa.table({"name": ["x\x1b[31m", None], "n": [1, 22]}))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["name", "n"]
    assert lines[2:] == [["x\\x1b[31m", "1"], ["-", "22"]]
