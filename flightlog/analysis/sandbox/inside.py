"""An analyst's own SQL, run where it can read the views and nothing else.

A fresh connection per query: the views are made, then file access is limited to
the segments of the stores, the configuration is locked, and one SELECT is run. Its time
and memory are bounded by the process that `bounded` runs this in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from flightlog.analysis.blob_text import blob_damage
from flightlog.analysis.db import VIEW_NAMES
from flightlog.analysis.export import QueryResult
from flightlog.analysis.views import connect
from flightlog.errors import UsageError, nearest
from flightlog.recorder.store import Snapshot

_BATCH_ROWS = 10_000
_DUCKDB_SHARE = 0.6
_UNKNOWN_COLUMN = re.compile(r'(?:Referenced column|column named) "([^"]+)"')
_BARE_AT = re.compile(r'(?<!")\bat\b(?!")', re.IGNORECASE)
_UNKNOWN_TABLE = re.compile(r"Table with name (\S+) does not exist")


def user_sql_on(
    snapshots: Mapping[str, Snapshot],
    query: str,
    *,
    params: Mapping[str, Any] | None = None,
    limit: int | None = None,
    explain: bool = False,
    memory_bytes: int | None = None,
) -> QueryResult:
    """Runs one SELECT on the views over snapshots that are already taken, in this process.

    Args:
        snapshots: by the name that column `store` shows.
        query: a single SELECT.
        params: values for `$name` in the query.
        limit: stop after this many rows; None for all.
        explain: give the plan of the query in place of its rows.
        memory_bytes: what DuckDB may use; None for its own default.

    Raises:
        UsageError: as `flightlog.analysis.sandbox.user_sql`.
        DamagedError: a blob has changed or is missing.
    """
    with connect(snapshots) as connection:
        if memory_bytes is not None:
            # The rest is for what DuckDB does not count: results, threads, libraries.
            share = int(memory_bytes * _DUCKDB_SHARE)
            connection.execute("SET memory_limit = $limit", {"limit": f"{share}B"})
        _lock(connection, snapshots)
        try:
            _require_one_select(connection, query)
            if explain:
                return _plan(connection, query, params)
            relation = connection.sql(query, params=params)
            return _fetched(relation.to_arrow_reader(_BATCH_ROWS), limit)
        except (duckdb.Error, pa.ArrowException, MemoryError) as error:
            raise blob_damage(error) or _usage_error(connection, query, error) from error


def _lock(connection: duckdb.DuckDBPyConnection, snapshots: Mapping[str, Snapshot]) -> None:
    files = [
        str(path) for one in snapshots.values() for path in (*one.event_files, *one.message_files)
    ]
    connection.execute("SET allowed_paths = $files", {"files": files})
    # Spilling to disk would write beside the analyst's files.
    connection.execute("SET temp_directory = ''")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _require_one_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = connection.extract_statements(query)
    if not statements:
        raise UsageError("the query is empty", hint="try: SELECT * FROM runs LIMIT 5")
    if len(statements) > 1:
        raise UsageError(f"one statement at a time, not {len(statements)}")
    try:
        kind = statements[0].type
    except ValueError as error:  # DuckDB parses statements that its own client cannot name
        raise UsageError("only a single SELECT can be run here") from error
    if kind != duckdb.StatementType.SELECT:
        is_open_pivot = kind == duckdb.StatementType.MULTI
        raise UsageError(
            f"only a single SELECT can be run here, not {kind.name}",
            hint="a pivot needs its values listed: PIVOT ... ON column IN (...)"
            if is_open_pivot
            else "the stores are read-only",
        )


def _plan(
    connection: duckdb.DuckDBPyConnection, query: str, params: Mapping[str, Any] | None
) -> QueryResult:
    # One SELECT has been seen to: EXPLAIN alone executes nothing.
    found = connection.execute(f"EXPLAIN {query}", params)
    return QueryResult(pa.table({"plan": [text for _, text in found.fetchall()]}), is_cut=False)


def _fetched(reader: pa.RecordBatchReader, limit: int | None) -> QueryResult:
    batches: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if limit is not None and rows > limit:
            break
    table = pa.Table.from_batches(batches, schema=reader.schema)
    is_cut = limit is not None and rows > limit
    return QueryResult(table.slice(0, limit) if is_cut else table, is_cut)


def _usage_error(connection: duckdb.DuckDBPyConnection, query: str, error: Exception) -> UsageError:
    text = str(error)
    if found := _UNKNOWN_TABLE.search(text):
        name = found[1].strip('"')
        near = nearest(name, VIEW_NAMES)
        return UsageError(
            f"unknown table {name!r}",
            hint=_near_text(near) + f"tables: {', '.join(VIEW_NAMES)}",
        )
    if found := _UNKNOWN_COLUMN.search(text):
        return _unknown_column(connection, query, found[1])
    if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)):
        return UsageError(
            f"the query needs more memory than it was given: {text.splitlines()[0]}",
            hint="Ask for less, or give it more: --max-memory SIZE.",
        )
    if isinstance(error, duckdb.PermissionException):
        return UsageError(
            f"files and settings are out of reach here: {text.splitlines()[0]}",
            hint=f"tables: {', '.join(VIEW_NAMES)}",
        )
    is_bare_at = isinstance(error, duckdb.ParserException) and _BARE_AT.search(query)
    return UsageError(
        text, hint='the column "at" has to be quoted, AT is a word of SQL' if is_bare_at else ""
    )


def _near_text(near: Sequence[str]) -> str:
    return f"nearest: {', '.join(near)}. " if near else ""


def _unknown_column(connection: duckdb.DuckDBPyConnection, query: str, name: str) -> UsageError:
    """The error of a column that no view of the query has, with what to write instead."""
    columns = {view: connection.view(view).columns for view in VIEW_NAMES}
    named = _table_names(connection, query)
    asked = [view for view in VIEW_NAMES if view in named] or list(VIEW_NAMES)
    near = _alike(name.lower(), {column for view in asked for column in columns[view]})
    elsewhere = [view for view in VIEW_NAMES if view not in asked and name in columns[view]]
    hint = f"it is a column of: {', '.join(elsewhere)}. " if elsewhere else _near_text(near)
    described = ", ".join(f"DESCRIBE {view}" for view in asked[:2])
    return UsageError(f"unknown column {name!r}", hint=f"{hint}columns: {described}")


def _table_names(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    """The tables that a query names, at any depth."""
    [(text,)] = connection.execute("SELECT json_serialize_sql($1)", [query]).fetchall()
    names = set()
    parts = [json.loads(text)]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            names |= {str(part["table_name"]).lower()} if "table_name" in part else set()
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return names


def _alike(name: str, known: Collection[str]) -> list[str]:
    """Columns that differ by a slip, else those with the name in theirs, else the nearest."""
    slips = nearest(name, known, cutoff=0.8)
    holding = [one for one in sorted(known) if len(name) > 2 and name in one]
    holding.sort(key=len)
    return list(dict.fromkeys([*slips, *holding]))[:4] or nearest(name, known)
