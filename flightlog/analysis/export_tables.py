"""The tables of a store written out as files, without holding them in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.analysis.db import Traces
from flightlog.analysis.export_files import FORMS, CsvRows, NewFile
from flightlog.analysis.gate.selection import LABEL
from flightlog.analysis.sql_files import VIEW_KEYS
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.layout import Layout

MEMORY_LIMIT: Final = "512MB"
"""Of the sort; what does not fit goes to a folder beside the files, for as long as it takes."""

_BATCH_ROWS: Final = 2_000
_PIECE_BYTES: Final = 32 << 20
# Events that belong to no run number themselves, each process from 0.
_FURTHER_KEYS: Final = {"events": ("at", "detail", "state_to")}


@dataclass(frozen=True, slots=True)
class _Blobbed:
    """The column of a table whose long values stand in blobs."""

    value: str
    blob: str
    size: str


_BLOBBED: Final = {
    "events": _Blobbed("result", "result_blob", "result_bytes"),
    "tool_calls": _Blobbed("result", "result_blob", "result_bytes"),
    "messages": _Blobbed("text", "text_blob", "text_bytes"),
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which runs are exported; all of their rows are.

    Attributes:
        where: columns of the view `runs` (or `label:KEY`) and what they must hold.
        since: only runs that started then or later, UTC.
        until: only runs that started before, UTC.
    """

    where: Sequence[tuple[str, str]] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_all(self) -> bool:
        """True when nothing is left out, also not what belongs to no run."""
        return not self.where and self.since is None and self.until is None


@dataclass(frozen=True, slots=True)
class Exported:
    """One file that was written.

    Attributes:
        path: the file.
        rows: how many rows it has.
        defused_cells: cells of a CSV that a spreadsheet would have run as a formula.
    """

    path: Path
    rows: int
    defused_cells: int


def export_tables(
    stores: Sequence[str | Path],
    out: Path,
    *,
    form: str,
    tables: Sequence[str] = tuple(VIEW_KEYS),
    chosen: Chosen = Chosen(),
    inlines_blobs: bool = True,
    overwrites: bool = False,
    strict: bool = False,
) -> list[Exported]:
    """Writes tables of stores as files: all of them, or none when something fails.

    Args:
        out: a folder for one file per table; or the file, where one table goes to a path
            that has a suffix and is no folder.
        form: parquet, jsonl or csv.
        tables: names of views.
        chosen: which runs.
        inlines_blobs: long values stand in their rows; else only their digests do.
        overwrites: replace files that are there.
        strict: any damage is an error, not only that of segments.

    Raises:
        UsageError: a file is there already, the folder of `out` is not, or `out` is in a store.
        UnknownNameError: an unknown form, table or column, or a value that no run carries.
        DamagedError: a store is not as it was written; nothing is exported from it.
    """
    if form not in FORMS:
        raise UnknownNameError.of("format", form, FORMS)
    for table in tables:
        if table not in VIEW_KEYS:
            raise UnknownNameError.of("table", table, list(VIEW_KEYS))
    paths = _places(out, tables, form, overwrites=overwrites)
    with Traces(*stores, strict=strict) as traces, ExitStack() as stack:
        traces.verify()
        _choose(traces, chosen)
        folder = _made(paths[0].parent)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=folder))
        connection = traces.connection
        connection.execute("SET temp_directory = $folder", {"folder": scratch})
        connection.execute("SET memory_limit = $limit", {"limit": MEMORY_LIMIT})
        writing = _Writing(traces, form, chosen, inlines_blobs)
        files: list[NewFile] = []
        written = []
        for table, path in zip(tables, paths, strict=True):
            files.append(file := NewFile(path))
            stack.callback(file.drop)
            written.append(writing.table(table, file))
        for file in files:
            file.keep()
    _sync_folder(folder)
    return written


@dataclass(frozen=True, slots=True)
class _Writing:
    """How tables are written."""

    traces: Traces
    form: str
    chosen: Chosen
    inlines_blobs: bool

    def table(self, table: str, file: NewFile) -> Exported:
        """Writes one table into a file and brings it to the disk."""
        with self.traces.naming_damage():
            return self._table(table, file)

    def _table(self, table: str, file: NewFile) -> Exported:
        reader = self.traces.sql(self._query(table)).to_arrow_reader(_BATCH_ROWS)
        rows_file, rows = FORMS[self.form](file.file, reader.schema), 0
        for batch in self._batches(reader, table):
            rows_file.write(batch)
            rows += batch.num_rows
        rows_file.close()
        file.finish()
        defused = rows_file.defused_cells if isinstance(rows_file, CsvRows) else 0
        return Exported(file.path, rows, defused)

    def _query(self, table: str) -> str:
        """SQL of identifiers out of the schema alone."""
        blobbed = _BLOBBED.get(table)
        # Blobs are read while rows are written, a few at a time.
        values = (
            f"* REPLACE (CASE WHEN {blobbed.blob} IS NULL THEN {blobbed.value} END"
            f" AS {blobbed.value})"
            if blobbed
            else "*"
        )
        keys = (*VIEW_KEYS[table], *_FURTHER_KEYS.get(table, ()))
        order = ", ".join(f'"{key}" NULLS FIRST' for key in keys)
        runs = "" if self.chosen.is_all else " SEMI JOIN exported_runs USING (store, run_id)"
        return f"SELECT {values} FROM {table}{runs} ORDER BY {order}"  # noqa: S608

    def _batches(self, reader: pa.RecordBatchReader, table: str) -> Iterator[pa.RecordBatch]:
        blobbed = _BLOBBED.get(table) if self.inlines_blobs else None
        for batch in reader:
            if blobbed is None or batch.column(blobbed.blob).null_count == batch.num_rows:
                yield batch
                continue
            for piece in _pieces(batch, blobbed):
                yield self._with_blobs(piece, blobbed)

    def _with_blobs(self, batch: pa.RecordBatch, blobbed: _Blobbed) -> pa.RecordBatch:
        values = batch.column(blobbed.value).to_pylist()
        stores, digests = (batch.column(name).to_pylist() for name in ("store", blobbed.blob))
        for place, digest in enumerate(digests):
            if digest is not None:
                values[place] = self.traces.blob(stores[place], digest)
        index = batch.schema.get_field_index(blobbed.value)
        return batch.set_column(index, batch.schema.field(index), pa.array(values, pa.string()))


def _pieces(batch: pa.RecordBatch, blobbed: _Blobbed) -> Iterator[pa.RecordBatch]:
    """The batch in pieces whose blobs fit into memory together; one alone always does."""
    in_blob = pc.is_valid(batch.column(blobbed.blob))
    sizes = pc.if_else(in_blob, pc.fill_null(batch.column(blobbed.size), 0), 0).to_pylist()
    first, size = 0, 0
    for place, more in enumerate(sizes):
        if place > first and size + more > _PIECE_BYTES:
            yield batch.slice(first, place - first)
            first, size = place, 0
        size += more
    yield batch.slice(first)


def _places(out: Path, tables: Sequence[str], form: str, *, overwrites: bool) -> list[Path]:
    is_file = len(tables) == 1 and out.suffix != "" and not out.is_dir()
    paths = [out] if is_file else [out / f"{table}.{form}" for table in tables]
    if out.exists() and not (is_file or out.is_dir()):
        raise UsageError(f"{out} is a file", hint="Several tables go to a folder.")
    require_free(out, paths, overwrites=overwrites)
    return paths


def require_free(
    out: Path, paths: Sequence[Path] | None = None, *, overwrites: bool = False
) -> None:
    """Makes sure that files can be written where they are to go.

    Args:
        out: the place that was named.
        paths: the files; None for `out` itself.
        overwrites: files that are there are replaced.

    Raises:
        UsageError: one is there already, the folder of `out` is not, or `out` is in a store.
    """
    for path in [out] if paths is None else paths:
        if path.is_dir() or (path.exists() and not overwrites):
            raise UsageError(
                f"{path} exists already", hint="Name another place, or replace it with --force."
            )
    if not out.absolute().parent.is_dir():
        raise UsageError(f"folder {out.parent} does not exist", hint="Create it first.")
    _refuse_store(out)


def _refuse_store(out: Path) -> None:
    """What lies in a store is taken for a part of it."""
    whole = out.resolve()
    for folder in (whole, *whole.parents):
        layout = Layout(folder)
        if layout.format_file.is_file() and layout.journals.is_dir():
            raise UsageError(f"{out} is in the store {folder}", hint="Name a place outside of it.")


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _choose(traces: Traces, chosen: Chosen) -> None:
    """Keeps the chosen runs in the table `exported_runs`."""
    if not chosen.is_all:
        traces.connection.register("exported_runs", chosen_runs(traces, chosen))


def chosen_runs(traces: Traces, chosen: Chosen) -> pa.Table:
    """The columns `store` and `run_id` of the chosen runs, in order.

    Raises:
        UnknownNameError: an unknown column, or a value that no run carries.
    """
    known = traces.connection.view("runs").columns
    parts, values = ["true"], dict[str, Any]()
    for number, (name, value) in enumerate(chosen.where):
        column = _column(name, known, values, number)
        _require_known(traces, name, value, column, dict(values))
        values[f"value_{number}"] = value
        parts.append(f"{column} = $value_{number}")
    for sign, moment, name in ((">=", chosen.since, "since"), ("<", chosen.until, "until")):
        if moment is not None:
            values[name] = moment.astimezone(UTC).replace(tzinfo=None)
            parts.append(f"started_at {sign} ${name}")
    query = f"SELECT store, run_id FROM runs WHERE {' AND '.join(parts)} ORDER BY ALL"  # noqa: S608
    return traces.table(query, values or None)


def _column(name: str, known: Sequence[str], values: dict[str, Any], number: int) -> str:
    if name.startswith(LABEL):
        values[f"label_{number}"] = name.removeprefix(LABEL)
        return f"labels[$label_{number}]"
    if name not in known or name == "labels":
        raise UnknownNameError.of("column of runs", name, [*known, f"{LABEL}KEY"])
    return f'"{name}"::VARCHAR'


def _require_known(
    traces: Traces, name: str, value: str, column: str, values: dict[str, Any]
) -> None:
    used = {key: text for key, text in values.items() if f"${key}]" in column}
    query = f"SELECT DISTINCT {column} AS v FROM runs WHERE v IS NOT NULL ORDER BY v"  # noqa: S608
    found = [row["v"] for row in traces.rows(query, used)]
    if value not in found:
        raise UnknownNameError.of(name, value, found, where=", ".join(traces.stores))
