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
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from flightlog.analysis.blob_text import blob_damage
from flightlog.analysis.prompts import full_prompt
from flightlog.analysis.questions import question
from flightlog.analysis.sql_files import VIEW_KEYS
from flightlog.analysis.verified import GAPS, Verified, verify_stores
from flightlog.analysis.views import open_connection
from flightlog.errors import DamagedError, StoreError, UsageError
from flightlog.recorder.readable import require_readable
from flightlog.recorder.store import Problem, Snapshot, Store
from flightlog.recorder.verify import VerifyReport, require_intact
from flightlog.trace.messages import Message

if TYPE_CHECKING:
    import polars

VIEW_NAMES = tuple(VIEW_KEYS)
_UNREADABLE = ("Failed to read file", "Parquet")
"""What DuckDB says of Parquet that it cannot read, under an error class of many meanings."""


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
        self._connection, self._views = open_connection(snapshots)
        self._closer = weakref.finalize(self, self._connection.close)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection with the views; in-memory, the stores are never written."""
        self._views.require_all()
        return self._connection

    def execute(self, statement: str, params: Mapping[str, Any] | None = None) -> None:
        """Runs a statement without a result, with the views that it names."""
        self._views.require_for(statement)
        self._connection.execute(statement, params)

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
        self._views.require_for(query)
        return self._connection.sql(query, params=params)

    def table(
        self, name_or_query: str, params: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> pa.Table:
        """A view (ordered by its key) or the result of a query, as an Arrow table."""
        with damage_named(self._opened):
            if name_or_query in VIEW_KEYS:
                self._views.require(name_or_query)
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
                self._views.require("runs")
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
