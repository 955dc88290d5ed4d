"""A store opens as it is in plain DuckDB, polars, pandas and Spark."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb
import polars as pl
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.sql_files import VIEW_KEYS
from flightlog.analysis.views_file import views_sql
from flightlog.cli import run
from flightlog.errors import UsageError
from flightlog.recorder.record import record
from flightlog.recorder.store import Store


def opened(stores: list[Path]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(views_sql({str(path): Store.open(path).snapshot() for path in stores}))
    return connection


@pytest.mark.parametrize("view", [view for view in VIEW_KEYS if view != "messages"])
def test_a_plain_duckdb_shows_the_same_rows(tiny_store: Path, tiny: Traces, view: str) -> None:
    with opened([tiny_store]) as connection:
        shown = connection.view(view).sort(*VIEW_KEYS[view]).to_arrow_table()
    ours = tiny.table(view)
    assert shown.column_names == ours.column_names
    names = [name for name in ours.column_names if name != "store"]
    assert shown.select(names).to_pylist() == ours.select(names).to_pylist()


def test_messages_are_there_but_for_those_in_blobs(tiny_store: Path, tiny: Traces) -> None:
    with opened([tiny_store]) as connection:
        [(count,)] = connection.sql("SELECT count(*) FROM messages").fetchall()
    assert count == tiny.table("messages").num_rows


def test_names_of_folders_are_quoted(tmp_path: Path) -> None:
    stores = [tmp_path / "it's [a] *store*; DROP", tmp_path / "other"]
    for store in stores:
        with record(store, agent="desk") as one:
            one.tool_call(tool_name="t", outcome="ok")
    with opened(stores) as connection:
        found = connection.sql("SELECT store, agent FROM runs ORDER BY store").fetchall()
    assert found == [(str(stores[0]), "desk"), (str(stores[1]), "desk")]


def test_what_other_engines_cannot_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_store: Path
) -> None:
    from flightlog.recorder.recorder import Recorder

    with Recorder(tmp_path / "open", seal_on_close=False), pytest.raises(UsageError):
        opened([tmp_path / "open"])
    assert run(["sql", "--views", "--store", str(tiny_store)]) == 0
    assert capsys.readouterr().out.startswith("-- Views of version 1")
    assert run(["sql", "--views", "--store", str(tmp_path / "open")]) == 64
    assert "nothing is sealed yet" in capsys.readouterr().err


def test_polars_reads_the_segments(tiny_store: Path, tiny: Traces) -> None:
    events = pl.scan_parquet(tiny_store / "events" / "**" / "*.parquet")
    counted = events.group_by("kind").len().collect()
    wanted = tiny.rows("SELECT kind, count(*) AS len FROM events GROUP BY ALL")
    assert dict(counted.iter_rows()) == {row["kind"]: row["len"] for row in wanted}


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_pandas_reads_the_segments(tiny_store: Path, tiny: Traces) -> None:
    import pandas as pd

    files = Store.open(tiny_store).snapshot().event_files
    frame = pd.concat([pd.read_parquet(file) for file in files])
    assert len(frame) == tiny.table("events").num_rows


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
def test_spark_reads_the_segments(tiny_store: Path, tiny: Traces) -> None:
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[1]").getOrCreate()
    try:
        events = spark.read.option("recursiveFileLookup", "true").parquet(
            str(tiny_store / "events")
        )
        assert events.count() == tiny.table("events").num_rows
    finally:
        spark.stop()
