"""Stores as DuckDB views: what `flightlog.open` gives.

Sealed segments are read where they lie, unsealed events come in as Arrow
tables, and both are one set of views (version 1): runs, steps, model_calls,
tool_calls, messages, budgets, writes, findings, events. Values reach DuckDB as parameters or
relations, never as SQL text; identifiers come from the schema alone.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from duckdb import ConstantExpression, StarExpression

from flightlog.analysis.blob_text import add_blob_text, blob_damage
from flightlog.analysis.prompts import full_prompt
from flightlog.analysis.questions import question
from flightlog.analysis.sql_files import VIEW_KEYS, VIEWS_FOLDER, sql_file, sql_text
from flightlog.analysis.verified import GAPS, Verified, verify_stores
from flightlog.errors import DamagedError, StoreError, UsageError
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.encryption.keys import StoreKeys
from flightlog.recorder.encryption.parquet import encrypted_dataset, is_encrypted
from flightlog.recorder.readable import require_readable
from flightlog.recorder.store import Problem, Snapshot, Store
from flightlog.recorder.verify import VerifyReport, require_intact
from flightlog.trace.messages import Message
from flightlog.trace.schema import columns, events_schema, messages_schema

if TYPE_CHECKING:
    import polars

VIEW_NAMES = tuple(VIEW_KEYS)
_UNREADABLE = ("Failed to read file", "Parquet")
"""What DuckDB says of Parquet that it cannot read, under an error class of many meanings."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # A name in a query must never reach a Python variable or the network.
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Traces:
    """The traces of one or more stores, to be asked with SQL.

    The stores are read as they were when this was opened. Use it as a context
    manager, or call `close`. One connection is behind it: not for several threads
    at once.

    Args:
        stores: folders; the column `store` tells which one a row came from, as the
            path given here (without a trailing slash).
        strict: any damage is an error; else what is damaged is left out, and is one of
            `problems`.

    Raises:
        DamagedError: with `strict`, something in a store is not as it was written.
    """

    def __init__(self, *stores: str | Path, strict: bool = False) -> None:
        if not stores:
            raise UsageError("no store given", hint="flightlog.open('flightlog-store')")
        opened = {str(Path(path)): Store.open(path) for path in stores}
        self._opened = tuple(opened.values())
        with damage_named(self._opened):
            self._open({name: store.snapshot(strict=strict) for name, store in opened.items()})

    @classmethod
    def of_snapshots(cls, snapshots: Mapping[str, Snapshot]) -> Traces:
        """Traces over snapshots that are already taken, by the name in column `store`."""
        traces = cls.__new__(cls)
        traces._opened = ()
        traces._open(snapshots)
        return traces

    def _open(self, snapshots: Mapping[str, Snapshot]) -> None:
        self.stores: tuple[str, ...] = tuple(snapshots)
        self.problems: tuple[tuple[str, Problem], ...] = tuple(
            (store, problem) for store, one in snapshots.items() for problem in one.problems
        )
        self._snapshots = dict(snapshots)  # their leases keep the files
        self._has_asked = self._keeps_runs = False
        self._connection = connect(snapshots)
        self._closer = weakref.finalize(self, self._connection.close)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection with the views; in-memory, the stores are never written."""
        return self._connection

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """The snapshots that the views are over, by the name in column `store`."""
        return self._snapshots

    def sql(
        self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """The relation of one query; `$name` and `?` stand for values in `params`.

        DuckDB allows one open result per connection: read a streaming reader to its
        end (or drop it) before the next query; `fetchall`, `pl` and Arrow tables do so.
        """
        return self._connection.sql(query, params=params)

    def table(
        self, name_or_query: str, params: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> pa.Table:
        """A view (ordered by its key) or the result of a query, as an Arrow table."""
        with damage_named(self._opened):
            if name_or_query in VIEW_KEYS:
                view = self._connection.view(name_or_query)
                return view.sort(*VIEW_KEYS[name_or_query]).to_arrow_table()
            return self.sql(name_or_query, params).to_arrow_table()

    def naming_damage(self) -> AbstractContextManager[None]:
        """Around a result that is read batch by batch: `damage_named` over the stores."""
        return damage_named(self._opened)

    def verify(self) -> tuple[VerifyReport, ...]:
        """Compares the bytes of every store with the digests of its manifests.

        Returns:
            One report per store; none for traces over snapshots.

        Raises:
            DamagedError: a segment has changed or is missing.
        """
        return tuple(require_intact(store) for store in self._opened)

    def verified(self) -> Verified | None:
        """Verifies every store as `flightlog verify` does, and counts the gaps in them.

        Returns:
            What was found, over all stores; None for traces over snapshots.

        Raises:
            DamagedError: a segment has changed or is missing, or does not fit its chain.
        """
        return verify_stores(self._opened, **self.rows(GAPS)[0])

    def rows(
        self, query: str, params: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> list[dict[str, Any]]:
        """The result of a query as one dict per row."""
        rows: list[dict[str, Any]] = self.table(query, params).to_pylist()
        return rows

    def frame(
        self, name_or_query: str, params: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> polars.DataFrame:
        """A view or the result of a query as a polars frame, in an order that repeats.

        A view is ordered by its key. A query keeps its ORDER BY; without one the
        rows are ordered by all columns, since neither DuckDB nor polars promises
        an order of its own.
        """
        if name_or_query in VIEW_KEYS or self._is_ordered(name_or_query):
            relation = self._connection.from_arrow(self.table(name_or_query, params))
        else:
            relation = self.sql(name_or_query, params).order("ALL")
        with damage_named(self._opened):
            frame: polars.DataFrame = relation.pl()
        return frame

    def prompt(self, run_id: str, seq: int, *, store: str | None = None) -> list[Message]:
        """All messages that one model call sent, in order.

        Args:
            run_id: full id of the run.
            seq: of the model call.
            store: needed only when several stores hold that run.

        Raises:
            UnknownNameError: no such run, or it has no model call `seq`.
            UsageError: several stores hold the run and `store` is None.
            DamagedError: a message body is missing.
        """
        return full_prompt(self.rows, run_id, seq, store=store)

    def blob(self, store: str, digest: str) -> str:
        """The text of a blob of one of the stores.

        Raises:
            StoreError: there is no such blob.
            DamagedError: its bytes are not those that were written.
        """
        read = self._snapshots[store].blob
        if read is None:
            raise DamagedError(f"no blob {digest[:80]!r}", where=store)
        return read(digest)

    def keep_runs(self) -> None:
        """Keeps the rows of the view `runs` in memory, which all views but events build on.

        What follows is several times faster; it takes the memory of the rows, answers
        included. Questions (`ask`) do so by themselves from the second on.
        """
        if not self._keeps_runs:
            with self.naming_damage():
                self._connection.execute("CREATE TABLE base.kept_runs AS SELECT * FROM runs")
                self._connection.execute("CREATE OR REPLACE VIEW runs AS FROM base.kept_runs")
            self._keeps_runs = True

    def ask(self, name: str, *, by: str | None = None, **values: str | datetime | None) -> pa.Table:
        """The answer to a question of `flightlog.analysis.questions`, by its name."""
        if self._has_asked:
            self.keep_runs()
        self._has_asked = True
        return question(name).ask(self, by=by, **values)

    def close(self) -> None:
        """Closes the connection; safe to call twice."""
        self._closer()

    def __enter__(self) -> Traces:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _is_ordered(self, query: str) -> bool:
        [(text,)] = self._connection.sql(
            "SELECT json_serialize_sql($query::VARCHAR)", params={"query": query}
        ).fetchall()
        parsed = json.loads(text)
        if parsed.get("error"):
            return True  # not a plain SELECT (SHOW, DESCRIBE): it has an order of its own
        modifiers = parsed["statements"][0]["node"].get("modifiers", [])
        return any(modifier["type"] == "ORDER_MODIFIER" for modifier in modifiers)


@contextmanager
def damage_named(stores: Iterable[Store]) -> Iterator[None]:
    """Turns a failure over damaged segments or blobs into an error that names them.

    What DuckDB says of damaged bytes varies; which bytes they are, `verify` knows.

    Raises:
        DamagedError: a segment or a blob has changed or is missing, or a segment cannot be
            read although it is as it was sealed.
        StoreError: an erasure has removed a segment under this reader.
    """
    try:
        yield
    except (
        duckdb.Error,
        pa.ArrowException,
        RuntimeError,
        UnicodeDecodeError,
        UsageError,
    ) as error:
        for store in stores:
            require_intact(store)
        if (damage := blob_damage(error)) is not None:
            raise damage from error
        if isinstance(error, duckdb.IOException) and _is_gone(str(error)):
            raise StoreError(
                "a segment was removed while it was read",
                where=", ".join(str(store.path) for store in stores),
                hint="An erasure waits for readers, but not for long. Read again.",
            ) from error
        if _is_of_reading(error):
            _require_readable(stores, error)
        raise


def _is_of_reading(error: Exception) -> bool:
    """True for what bytes can be the cause of, and not the text of a query."""
    kinds = (pa.ArrowException, duckdb.InvalidInputException, duckdb.IOException)
    return isinstance(error, kinds) or type(error) is duckdb.Error


def _require_readable(stores: Iterable[Store], error: Exception) -> None:
    for store in stores:
        require_readable(store)
    # DuckDB tells so of Parquet that it alone cannot read.
    if type(error) is duckdb.Error or any(one in str(error) for one in _UNREADABLE):
        raise DamagedError(
            f"a segment cannot be read ({str(error).splitlines()[0][:200]})",
            where=", ".join(str(store.path) for store in stores),
            hint="Its bytes are those that were sealed: whoever made the store sealed it so.",
        ) from error


def _is_gone(told: str) -> bool:
    return "No such file" in told or "No files found" in told


def open_traces(*stores: str | Path, strict: bool = False) -> Traces:
    """Opens the traces of one or more stores, to be asked with SQL: `flightlog.open(...)`.

    Args:
        stores: folders.
        strict: any damage is an error.

    Raises:
        DamagedError: with `strict`, something in a store is not as it was written.
        StoreError: a store is missing or is not one.
        NewerFormatError: a newer flightlog wrote it.
    """
    return Traces(*stores, strict=strict)


def connect(snapshots: Mapping[str, Snapshot]) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory connection with the views over these snapshots.

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
        for name in VIEW_KEYS:
            _create_view(connection, name, sql_file(VIEWS_FOLDER, name).sql)
        connection.execute(sql_text("chosen_runs.sql"))
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
    connection.execute(f"CREATE VIEW {name} AS {select}")


def _literal_path(path: Path) -> str:
    """The path with glob characters quoted, so that it names exactly this file."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))
