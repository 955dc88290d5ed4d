"""What an analyst's SQL can read, and all that it cannot reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.analysis.sandbox import user_sql, user_sql_on
from flightlog.errors import UsageError
from flightlog.recorder.store import Store


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) AS n FROM runs",
        "FROM runs SELECT count(*) AS n;",
        "WITH all_runs AS (SELECT * FROM runs) SELECT count(*) AS n FROM all_runs",
        "-- a comment\nSELECT count(*) AS n FROM runs -- another",
    ],
)
def test_one_select_is_run(tiny_store: Path, query: str) -> None:
    assert user_sql([tiny_store], query).table.to_pylist() == [{"n": 8}]


@pytest.mark.parametrize(
    "query", ["DESCRIBE runs", "SHOW TABLES", "SUMMARIZE budgets", "VALUES (1)"]
)
def test_statements_that_only_read_are_run(tiny_store: Path, query: str) -> None:
    assert user_sql([tiny_store], query).table.num_rows > 0


def test_values_come_as_parameters(tiny_store: Path) -> None:
    query = "SELECT run_id FROM runs WHERE variant = $v AND success"
    found = user_sql([tiny_store], query, params={"v": "candidate"})
    assert found.table.to_pylist() == [{"run_id": "c1"}]


def test_the_limit_cuts_and_says_so(tiny_store: Path) -> None:
    query = "SELECT run_id FROM runs ORDER BY run_id DESC"
    cut = user_sql([tiny_store], query, limit=2)
    assert (cut.table["run_id"].to_pylist(), cut.is_cut) == (["c4", "c3"], True)
    whole = user_sql([tiny_store], query, limit=8)
    assert (whole.table.num_rows, whole.is_cut) == (8, False)
    assert not user_sql([tiny_store], query).is_cut


def test_several_stores_are_read(tiny_store: Path, unsealed_store: Path) -> None:
    found = user_sql([tiny_store, unsealed_store], "SELECT DISTINCT store FROM runs")
    assert found.table.num_rows == 2


@pytest.mark.parametrize(
    "query",
    [
        "COPY runs TO 'out.csv'",
        "COPY runs FROM 'in.csv'",
        "ATTACH 'other.db'",
        "DETACH memory",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "CREATE TABLE t AS SELECT 1",
        "CREATE OR REPLACE VIEW runs AS SELECT 1",
        "DROP VIEW runs",
        "INSERT INTO runs VALUES (1)",
        "DELETE FROM runs",
        "UPDATE runs SET agent = 'x'",
        "ALTER VIEW runs RENAME TO walks",
        "COMMENT ON VIEW runs IS 'x'",
        "EXPORT DATABASE 'folder'",
        "IMPORT DATABASE 'folder'",
        "BEGIN",
        "CHECKPOINT",
        "VACUUM",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "USE memory",
        "EXPLAIN ANALYZE COPY runs TO 'out.csv'",
        "UPDATE EXTENSIONS",
        "PIVOT budgets ON budget USING sum(used)",
    ],
)
def test_anything_but_a_select_is_refused(
    tiny_store: Path, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="only a single SELECT"):
        user_sql([tiny_store], query)
    assert list(tmp_path.iterdir()) == []


def test_two_statements_are_refused(tiny_store: Path) -> None:
    with pytest.raises(UsageError, match="one statement at a time, not 2"):
        user_sql([tiny_store], "SELECT 1; COPY runs TO 'out.csv'")


@pytest.mark.parametrize("query", ["", "  ", ";", "-- nothing"])
def test_an_empty_query_is_refused(tiny_store: Path, query: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        user_sql([tiny_store], query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/proc/self/environ')",
        "FROM read_csv('/etc/passwd')",
        "FROM sniff_csv('/etc/passwd')",
        "FROM read_json('http://127.0.0.1:9/x')",
        "FROM read_parquet('/var/*.parquet')",
        "FROM glob('/*')",
        "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    ],
)
def test_files_and_the_network_are_out_of_reach(tiny_store: Path, query: str) -> None:
    with pytest.raises(UsageError, match="out of reach"):
        user_sql([tiny_store], query)


@pytest.mark.parametrize("name", ["/etc/passwd", "https://127.0.0.1:9/x.parquet"])
def test_a_file_name_is_not_a_table(tiny_store: Path, name: str) -> None:
    with pytest.raises(UsageError):
        user_sql([tiny_store], f"SELECT * FROM '{name}'")


def test_other_parts_of_the_store_are_out_of_reach(tiny_store: Path) -> None:
    [segment] = Store.open(tiny_store).snapshot().event_files
    for path in (tiny_store / "FORMAT", segment.parent / ".." / ".." / "FORMAT"):
        with pytest.raises(UsageError, match="out of reach"):
            user_sql([tiny_store], "SELECT * FROM read_text($path)", params={"path": str(path)})


@pytest.mark.parametrize(
    "query",
    [
        "WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
        "WITH x AS (INSERT INTO runs VALUES (1) RETURNING *) SELECT * FROM x",
        "SELECT * FROM query('COPY runs TO ''out.csv''')",
        "SELECT getenv('HOME')",
    ],
)
def test_a_select_cannot_smuggle_a_change(
    tiny_store: Path, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        user_sql([tiny_store], query)
    assert list(tmp_path.iterdir()) == []


def test_python_variables_are_out_of_reach(tiny_store: Path) -> None:
    snapshots = {"s": Store.open(tiny_store).snapshot()}
    with pytest.raises(UsageError, match="unknown table 'snapshots'"):
        user_sql_on(snapshots, "SELECT * FROM snapshots")


def test_unknown_names_come_with_the_nearest(tiny_store: Path) -> None:
    with pytest.raises(UsageError, match="unknown table 'rums'\n  nearest: runs"):
        user_sql([tiny_store], "SELECT * FROM rums")
    with pytest.raises(UsageError, match="unknown column 'tool_cals'\n  nearest: tool_calls"):
        user_sql([tiny_store], "SELECT tool_cals FROM runs")
    with pytest.raises(UsageError, match="unknown column 'cost_usdd'\n  nearest: cost_usd"):
        user_sql([tiny_store], "SELECT m.cost_usdd FROM model_calls m")


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT agnt FROM runs", "nearest: agent. columns: DESCRIBE runs"),
        (
            "SELECT stop FROM runs",
            "nearest: stop_tool, stop_detail, stop_reason, source_stop_reason. ",
        ),
        (
            "SELECT t.Latency FROM tool_calls t JOIN runs USING (run_id)",
            "nearest: latency_ms. columns: DESCRIBE runs, DESCRIBE tool_calls",
        ),
        ("SELECT tool_name FROM runs", "it is a column of: tool_calls, messages, writes, "),
        ("SELECT zzz FROM steps", "columns: DESCRIBE steps"),
    ],
)
def test_an_unknown_column_is_looked_for_where_the_query_looks(
    tiny_store: Path, query: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        user_sql([tiny_store], query)
    assert caught.value.hint.startswith(hint)


def test_an_error_of_the_sql_keeps_duckdb_s_words(tiny_store: Path) -> None:
    with pytest.raises(UsageError, match='syntax error at or near "SELEC"'):
        user_sql([tiny_store], "SELEC 1")
    with pytest.raises(UsageError, match="Could not convert string"):
        user_sql([tiny_store], "SELECT CAST(run_id AS INTEGER) FROM runs")


def test_an_unquoted_at_is_explained(tiny_store: Path) -> None:
    with pytest.raises(UsageError, match='column "at" has to be quoted'):
        user_sql([tiny_store], "SELECT max(at) FROM events")
    assert user_sql([tiny_store], 'SELECT max("at") FROM events').table.num_rows == 1


def test_the_store_is_not_changed(tiny_store: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_store.rglob("*")}
    user_sql([tiny_store], "SELECT * FROM messages ORDER BY ALL")
    assert {path: path.stat().st_mtime_ns for path in tiny_store.rglob("*")} == before
