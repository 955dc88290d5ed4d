"""The DuckDB views over stores: what they are built on, and each when a query first names it.

Binding a view reads the head of every segment, so that a dozen views cost more than most
queries; a query therefore makes the views that it names, and those that they build on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from duckdb import ConstantExpression, StarExpression

from flightlog.analysis.blob_text import add_blob_text
from flightlog.analysis.sql_files import VIEW_KEYS, VIEWS_FOLDER, sql_file, sql_text
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.encryption.keys import StoreKeys
from flightlog.recorder.encryption.parquet import encrypted_dataset, is_encrypted
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import columns, events_schema, messages_schema

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # A name in a query must never reach a Python variable or the network.
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_CHOSEN_RUNS: Final = "chosen_runs"
_PLAIN: Final = re.compile(
    r"\s*(?:--[^\n]*\n\s*)*(?:SELECT|WITH|FROM|CREATE OR REPLACE TEMP TABLE|DROP TABLE)\b",
    re.IGNORECASE,
)
_ABOUT_ALL: Final = re.compile(
    r"information_schema|duckdb_|pragma_|sqlite_|query_table|\bquery\b", re.IGNORECASE
)
_WORD: Final = re.compile(r"(?<!base\.)\b\w+")
_COMMENT: Final = re.compile(r"--[^\n]*")


class Views:
    """The views of one connection, made as they are needed.

    Args:
        connection: with the schema `base`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._made: set[str] = set()

    def require_for(self, query: str) -> None:
        """Makes the views that a query can name; all for one that is not plainly a SELECT."""
        if len(self._made) > len(VIEW_KEYS):
            return
        if _PLAIN.match(query) and not _ABOUT_ALL.search(query):
            for name in _named_in(query):
                self.require(name)
        else:
            self.require_all()

    def require_all(self) -> None:
        """Makes all views."""
        for name in (*VIEW_KEYS, _CHOSEN_RUNS):
            self.require(name)

    def require(self, name: str) -> None:
        """Makes one view, and those that it builds on."""
        if name in self._made:
            return
        text, others = _definition(name)
        for other in others:
            self.require(other)
        self._connection.execute(text)
        self._made.add(name)


def _named_in(query: str) -> list[str]:
    words = {word.lower() for word in _WORD.findall(query)}
    return [name for name in (*VIEW_KEYS, _CHOSEN_RUNS) if name in words]


@cache
def _definition(name: str) -> tuple[str, tuple[str, ...]]:
    """The statement that makes a view, and the views that it builds on."""
    if name == _CHOSEN_RUNS:
        return sql_text("chosen_runs.sql"), ("runs",)
    select = sql_file(VIEWS_FOLDER, name).sql
    order = list(VIEW_KEYS)
    before = order[: order.index(name)]
    named = _named_in(_COMMENT.sub("", select))
    return _view(name, select), tuple(other for other in before if other in named)


def open_connection(snapshots: Mapping[str, Snapshot]) -> tuple[duckdb.DuckDBPyConnection, Views]:
    """A fresh in-memory connection over these snapshots, and the views that it can have.

    Args:
        snapshots: by the name that the column `store` shows.
    """
    connection = duckdb.connect(config=_CONFIG)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        add_blob_text(connection, snapshots)
        # What the views are built on stays out of SHOW TABLES and of unqualified names.
        connection.execute("CREATE SCHEMA base")
        connection.execute("SET schema = 'base'")
        if any(one.keys is not None for one in snapshots.values()):
            # What DuckDB spills to the disk is not encrypted.
            connection.execute("SET temp_directory = ''")
        _create_base(connection, "events", events_schema(), _event_parts(snapshots))
        _create_base(connection, "messages", messages_schema(), _message_parts(snapshots))
        for kind in ("model_call", "tool_call"):
            _create_kind(connection, kind)
        connection.execute("SET schema = 'main'")
    except BaseException:
        connection.close()
        raise
    return connection, Views(connection)


def connect(snapshots: Mapping[str, Snapshot]) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory connection with all views over these snapshots."""
    connection, views = open_connection(snapshots)
    try:
        views.require_all()
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the two tables of one store."""

    store: str
    files: Sequence[Path]
    unsealed: pa.Table
    file_schema: pa.Schema
    keys: StoreKeys | None


def _event_parts(snapshots: Mapping[str, Snapshot]) -> list[_Part]:
    schema = segment_schema()
    return [
        _Part(name, one.event_files, one.unsealed_events, schema, one.keys)
        for name, one in snapshots.items()
    ]


def _message_parts(snapshots: Mapping[str, Snapshot]) -> list[_Part]:
    schema = messages_schema()
    return [
        _Part(name, one.message_files, one.unsealed_messages, schema, one.keys)
        for name, one in snapshots.items()
    ]


def _create_base(
    connection: duckdb.DuckDBPyConnection, what: str, schema: pa.Schema, parts: list[_Part]
) -> None:
    """View `base.events` or `base.messages`: all stores, sealed and unsealed, as in the schema.

    Columns that an older segment lacks come out null, because the unsealed
    table always has them all.
    """
    pieces = []
    for number, part in enumerate(parts):
        label = ConstantExpression(part.store).alias("store")
        connection.register(f"_unsealed_{what}_{number}", part.unsealed)
        found = {"unsealed": connection.table(f"_unsealed_{what}_{number}")}
        encrypted = {path for path in part.files if part.keys and is_encrypted(path)}
        if part.keys and encrypted:
            # DuckDB has no cryptography of its own offline; it asks for what a query needs.
            dataset = encrypted_dataset(part.keys, sorted(encrypted), part.file_schema)
            connection.register(f"_encrypted_{what}_{number}", dataset)
            found["encrypted"] = connection.table(f"_encrypted_{what}_{number}")
        if plain := [path for path in part.files if path not in encrypted]:
            paths = [_literal_path(path) for path in plain]
            found["sealed"] = connection.read_parquet(paths, union_by_name=True)
        for kind, relation in found.items():
            piece = f"{what}_{kind}_{number}"
            relation.select(label, StarExpression()).create_view(piece)
            pieces.append(piece)
    union = " UNION ALL BY NAME ".join(f"SELECT * FROM base.{piece}" for piece in pieces)  # noqa: S608
    wanted = ", ".join(_projected(name) for name in schema.names)
    query = f"SELECT store, {wanted} FROM ({union})"  # noqa: S608
    if what == "messages":
        # Two processes that saw the same message have each written it.
        query = f"SELECT DISTINCT ON (store, digest) * FROM ({query})"  # noqa: S608
    _create_view(connection, what, query)


def _projected(name: str) -> str:
    # A plain timestamp in UTC reads the same under every session time zone and
    # needs no time zone library in Python.
    return 'timezone(\'UTC\', "at") AS "at"' if name == "at" else f'"{name}"'


def _create_kind(connection: duckdb.DuckDBPyConnection, kind: str) -> None:
    """View `base.model_calls` or `base.tool_calls`: the rows and columns of one kind."""
    names = [column.name for column in columns() if kind in column.kinds and column.name != "kind"]
    wanted = ", ".join(f'"{name}"' for name in ("store", *names))
    query = f"SELECT {wanted} FROM base.events WHERE kind = '{kind}'"  # noqa: S608
    _create_view(connection, f"{kind}s", query)


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
    # `name` and `select` are the package's own text; a relation would be bound twice.
    connection.execute(_view(name, select))


def _view(name: str, select: str) -> str:
    return f"CREATE VIEW {name} AS {select}"


def _literal_path(path: Path) -> str:
    """The path with glob characters quoted, so that it names exactly this file."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))
