"""The runs of a window of time, as tables in DuckDB and arrays: what looks for causes, reruns
history under other limits and plots over time begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.analysis.db import Traces
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.stats.sample import Bools, Floats, Ints

_FOLDER: Final = "window"
_MOST_PIECES: Final = 96
_RUNS_PER_PIECE: Final = 4
_FEWEST_PIECES: Final = 8


@dataclass(frozen=True, slots=True)
class Scope:
    """Which runs to look at.

    Attributes:
        since: only runs that began then or later, UTC.
        until: only runs that began before, UTC.
        agent: only runs of this agent.
        tenant: only runs for this tenant.
        run_ids: only these runs.
    """

    since: datetime | None = None
    until: datetime | None = None
    agent: str | None = None
    tenant: str | None = None
    run_ids: Sequence[str] = ()

    def params(self) -> dict[str, Any]:
        """Values for window/runs.sql."""
        return {
            "since": _plain(self.since),
            "until": _plain(self.until),
            "agent": self.agent,
            "tenant": self.tenant,
            "run_ids": list(self.run_ids) or None,
        }

    def narrowing(self) -> dict[str, Any]:
        """Values for the parameters of `chosen_runs` in the SQL files of figures."""
        params = self.params()
        del params["run_ids"]
        return params


EVERYTHING: Final = Scope()


@dataclass(frozen=True, eq=False)
class Window:
    """Runs in the order of their start, and the pieces of time that they are put in.

    Attributes:
        traces: the stores.
        scope: which runs were asked for.
        table: window/run_facts.sql, a row per run.
        begin: start of the first run, seconds since the epoch.
        width: length of a piece of time in seconds.
        pieces: how many there are.
        piece: of each run, by its start, shape (runs,).
    """

    traces: Traces
    scope: Scope
    table: pa.Table
    begin: float
    width: float
    pieces: int
    piece: Ints

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.table)

    def floats(self, name: str) -> Floats:
        """A column of numbers; NaN is unknown."""
        column = self.table.column(name).cast(pa.float64()).combine_chunks()
        values: Floats = column.to_numpy(zero_copy_only=False)
        return values

    def bools(self, name: str) -> Bools:
        """A column of yes and no; null is no."""
        column = self.table.column(name)
        values: Bools = (
            pc.equal(column, pa.scalar(value=True)).fill_null(pa.scalar(value=False)).to_numpy()
        )
        return values

    def texts(self, name: str) -> tuple[list[str | None], Ints]:
        """A column of texts: the different ones in order, and which one each run has."""
        column = self.table.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
        values: list[str | None] = column.dictionary.to_pylist()
        order = sorted(range(len(values)), key=lambda at: (values[at] is None, values[at] or ""))
        place = np.empty(len(values), dtype=np.int64)
        place[order] = np.arange(len(values))
        return [values[at] for at in order], place[column.indices.to_numpy()]

    def ask(self, folder: str, name: str, **values: object) -> pa.Table:
        """The answer of one SQL file over the tables of this window."""
        return self.traces.table(sql_text(folder, f"{name}.sql"), values or None)

    def at(self, seconds: float) -> datetime:
        """A time in the window as a date, UTC, to the second."""
        return datetime.fromtimestamp(round(seconds), UTC)

    def begin_of(self, piece: int) -> float:
        """When a piece of time begins, seconds since the epoch."""
        return self.begin + piece * self.width


def open_window(traces: Traces, scope: Scope) -> Window:
    """Makes the tables of a window in the connection of the traces, and reads its runs."""
    with traces.naming_damage():
        traces.execute(sql_text(_FOLDER, "runs.sql"), scope.params())
        traces.execute(sql_text(_FOLDER, "tool_calls.sql"))
        traces.execute(sql_text(_FOLDER, "model_calls.sql"))
    table = traces.table(sql_text(_FOLDER, "run_facts.sql"))
    began = table.column("began").to_numpy()
    if not len(began):
        return Window(traces, scope, table, 0.0, 1.0, 1, np.zeros(0, dtype=np.int64))
    ended = table.column("ended").drop_null().to_numpy()
    last = max(float(began[-1]), float(np.quantile(ended, 0.99)) if len(ended) else 0.0)
    span = max(last - float(began[0]), 1.0)
    pieces = int(np.clip(len(began) // _RUNS_PER_PIECE, _FEWEST_PIECES, _MOST_PIECES))
    # A little longer, so that the last start lies in the last piece.
    width = span * (1 + 1e-9) / pieces
    piece = np.minimum((began - began[0]) // width, pieces - 1).astype(np.int64)
    return Window(traces, scope, table, float(began[0]), width, pieces, piece)


def close_window(traces: Traces) -> None:
    """Drops the tables of a window."""
    for name in ("runs", "tools", "models"):
        traces.execute(f"DROP TABLE IF EXISTS window_{name}")


def _plain(at: datetime | None) -> datetime | None:
    """In UTC without a zone, as the events are compared."""
    if at is None:
        return None
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
