"""Results as a table on the terminal, CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.analysis.tables import print_table
from flightlog.analysis.terminal import escape_terminal
from flightlog.errors import UnknownNameError, UsageError

FORMS = ("table", "csv", "json", "parquet")
_FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""Source: OWASP, CSV Injection; the last four are the full-width forms of the first."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query gave.

    Attributes:
        table: the rows, at most as many as the limit.
        is_cut: True when the query has more rows than the limit.
    """

    table: pa.Table
    is_cut: bool


def write_result(
    result: QueryResult | pa.Table,
    *,
    form: str = "table",
    out: Path | None = None,
    stream: IO[str] | None = None,
) -> None:
    """Writes a result to the terminal or to a file.

    Args:
        result: of a query or a question.
        form: table, csv, json or parquet; parquet needs `out`.
        out: a new file; None writes to `stream`.
        stream: where to without `out`; None is standard output. A terminal gets CSV and
            JSON with what it would obey escaped. A cut result says so on standard error.

    Raises:
        UsageError: parquet without `out`, or `out` exists already or has no folder.
    """
    whole = result if isinstance(result, QueryResult) else QueryResult(result, is_cut=False)
    if form not in FORMS:
        raise UnknownNameError.of("format", form, FORMS)
    if form == "parquet":
        if out is None:
            raise UsageError("Parquet is not for a terminal", hint="add --out FILE.parquet")
        write_parquet(whole.table, out)
    elif out is None:
        _write_text(whole.table, form, stream or sys.stdout)
    else:
        _require_new(out)
        with out.open("x", encoding="utf-8", newline="") as file:
            _write_text(whole.table, form, file)
    if whole.is_cut:
        print(f"cut after {whole.table.num_rows} rows; there are more", file=sys.stderr)


def _write_text(table: pa.Table, form: str, stream: IO[str]) -> None:
    if form in ("csv", "json") and stream.isatty():
        shown = io.StringIO(newline="")
        _write_text(table, form, shown)
        stream.write(escape_terminal(shown.getvalue(), keep_newlines=True))
    elif form == "csv":
        write_csv(table, stream)
    elif form == "json":
        write_json(table, stream)
    else:
        print_table(table, file=stream)


def write_csv(table: pa.Table, stream: IO[str]) -> None:
    """Writes a result as CSV, header first, nulls as empty cells.

    Quoted as RFC 4180 says; lines end in a line feed alone, as the tools of a shell expect.

    A text cell that a spreadsheet would take for a formula gets a leading apostrophe;
    numbers are left alone. Lists and maps are JSON.
    """
    writer = csv.writer(LineFeeds(stream))
    writer.writerow([defused(name) for name in table.column_names])
    for batch in table.to_batches():
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            writer.writerow([csv_cell(value) for value in row])


class LineFeeds:
    """Ends each row in a line feed; `csv` itself would then no longer quote carriage returns."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        return self._stream.write(row.removesuffix("\r\n") + "\n")


def write_json(table: pa.Table, stream: IO[str]) -> None:
    """Writes a result as one JSON array of objects, one per row.

    Times are ISO 8601 in UTC, maps are objects, NaN and infinities are the strings
    `NaN`, `Infinity` and `-Infinity`, which JSON has no numbers for.
    """
    names = unique_names(table.column_names)
    rows = [
        dict(zip(names, map(json_value, row, table.schema.types), strict=True))
        for batch in table.to_batches()
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
    json.dump(rows, stream, ensure_ascii=False, indent=1, allow_nan=False)
    stream.write("\n")


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a result as one Parquet file with zstd.

    Raises:
        UsageError: the file exists already, or its folder does not.
    """
    _require_new(path)
    named = table.rename_columns(unique_names(table.column_names))
    pq.write_table(named, path, compression="zstd", write_page_checksum=True)


def _require_new(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists already", hint="name a new file")
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} does not exist", hint="create it first")


def defused(text: str) -> str:
    """The text with a leading apostrophe where a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def unique_names(names: list[str]) -> list[str]:
    """The names with `_1`, `_2` and so on added to repeats."""
    found: list[str] = []
    for name in names:
        number, unique = 0, name
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def csv_cell(value: Any) -> Any:
    """A value as a cell: numbers as they are, texts defused, lists and maps as JSON."""
    if value is None or isinstance(value, (bool, int, float, Decimal)):
        return value
    if isinstance(value, str):
        return defused(value)
    plain = _plain(value)
    return defused(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))


def json_value(value: Any, arrow: pa.DataType) -> Any:
    """A value of this type with only what JSON has; maps become objects."""
    if pa.types.is_map(arrow) and value is not None:
        return {str(_plain(key)): _plain(item) for key, item in value}
    return _plain(value)


def _plain(value: Any) -> Any:
    """The value with only what JSON has."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    return str(value)
