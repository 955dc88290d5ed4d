"""The views as an SQL file for a DuckDB that knows nothing of flightlog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.analysis.sql_files import VIEW_KEYS, VIEWS_FOLDER, sql_file, sql_text
from flightlog.errors import UsageError
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import columns, events_schema, messages_schema

_HEAD: Final = """\
-- Views of version 1 over sealed segments, for DuckDB 2: duckdb traces.db < views.sql
-- Events that are not sealed yet are not in them, and texts above 16 KiB stand in blobs that
-- only flightlog reads (null here). Write the file anew after sealing, merging or removing.
"""


def views_sql(snapshots: Mapping[str, Snapshot]) -> str:
    """SQL that makes the views over the segments of snapshots.

    Args:
        snapshots: by the name that the column `store` shows.

    Raises:
        UsageError: a store is encrypted, or has no sealed segment.
    """
    if any(one.keys is not None for one in snapshots.values()):
        raise UsageError(
            "other engines cannot read an encrypted store",
            hint="flightlog export writes plain files.",
        )
    for name, one in snapshots.items():
        if not one.event_files:
            raise UsageError("nothing is sealed yet", where=name, hint="flightlog seal")
    events = {name: one.event_files for name, one in snapshots.items()}
    messages = {name: one.message_files for name, one in snapshots.items()}
    kinds = [_kind(kind) for kind in ("model_call", "tool_call")]
    views = [_view(name, sql_file(VIEWS_FOLDER, name).sql) for name in VIEW_KEYS]
    return "\n".join(
        [
            _HEAD,
            "SET TimeZone = 'UTC';",
            "CREATE SCHEMA IF NOT EXISTS base;",
            "CREATE OR REPLACE MACRO blob_text(store, digest) AS NULL::VARCHAR;",
            _base("events", events, events_schema()),
            _base("messages", messages, messages_schema()),
            *kinds,
            *views,
            sql_text("chosen_runs.sql").replace("CREATE TEMP MACRO", "CREATE OR REPLACE MACRO")
            + ";\n",
        ]
    )


def _base(what: str, files: Mapping[str, Sequence[Path]], schema: pa.Schema) -> str:
    """View base.events or base.messages; columns that no segment has are null."""
    pieces = []
    for store, paths in files.items():
        there = {name for path in paths for name in pq.read_schema(path).names}
        wanted = ", ".join(_column(field, is_there=field.name in there) for field in schema)
        if not paths:
            pieces.append(f"SELECT {_text(store)} AS store, {wanted} WHERE false")
            continue
        listed = ", ".join(_text(_literal(path)) for path in paths)
        source = f"read_parquet([{listed}], union_by_name = true)"
        pieces.append(f"SELECT {_text(store)} AS store, {wanted} FROM {source}")  # noqa: S608 - printed, quoted above
    union = "\nUNION ALL BY NAME\n".join(pieces)
    if what == "messages":
        # Two processes that saw the same message have each written it.
        union = f"SELECT DISTINCT ON (store, digest) * FROM (\n{union}\n)"  # noqa: S608 - printed
    return _view(f"base.{what}", union)


def _column(field: pa.Field, *, is_there: bool) -> str:
    if not is_there:
        return f'NULL::{_sql_type(field.type)} AS "{field.name}"'
    if field.name == "at":
        return 'timezone(\'UTC\', "at") AS "at"'
    return f'"{field.name}"'


def _sql_type(arrow: pa.DataType) -> str:
    if pa.types.is_map(arrow):
        return "MAP(VARCHAR, VARCHAR)"
    if pa.types.is_list(arrow):
        return "VARCHAR[]"
    for is_type, name in (
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_integer, "BIGINT"),
        (pa.types.is_floating, "DOUBLE"),
        (pa.types.is_timestamp, "TIMESTAMP"),
    ):
        if is_type(arrow):
            return name
    return "VARCHAR"


def _kind(kind: str) -> str:
    names = [column.name for column in columns() if kind in column.kinds and column.name != "kind"]
    wanted = ", ".join(f'"{name}"' for name in ("store", *names))
    return _view(f"base.{kind}s", f"SELECT {wanted} FROM base.events WHERE kind = '{kind}'")  # noqa: S608


def _view(name: str, select: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS\n{select.rstrip()};\n"


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"


def _literal(path: Path) -> str:
    """The path with glob characters quoted, so that it names exactly this file."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))
