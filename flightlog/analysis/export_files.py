"""Rows into files, batch by batch: Parquet, JSON lines and CSV, each whole or not there."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.analysis.export import LineFeeds, csv_cell, defused, json_value

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Some readers take them for the end of a line.
_LINE_ENDS: Final = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


class RowsFile(Protocol):
    """A file that rows are appended to."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends the rows of a batch."""
        ...

    def close(self) -> None:
        """Writes what a format ends with; the file itself stays open."""
        ...


class ParquetRows:
    """Parquet with zstd; times are marked as UTC."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._schema = pa.schema([_in_utc(field) for field in schema])
        self._writer = pq.ParquetWriter(
            file, self._schema, compression="zstd", write_page_checksum=True
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch.cast(self._schema))

    def close(self) -> None:
        self._writer.close()


class JsonRows:
    """JSON lines: one object per row with every column, null where it is not known."""

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._file = file
        self._schema = schema

    def write(self, batch: pa.RecordBatch) -> None:
        for row in rows_of(batch):
            values = map(json_value, row, self._schema.types)
            told = dict(zip(self._schema.names, values, strict=True))
            line = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            self._file.write(line.translate(_LINE_ENDS).encode() + b"\n")

    def close(self) -> None:
        pass


class CsvRows:
    """CSV with a header, as RFC 4180 says but with line feeds; unknown is an empty cell.

    Attributes:
        defused_cells: texts that a spreadsheet would have run as a formula, and that got a
            leading apostrophe.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self.defused_cells = 0
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(LineFeeds(self._text))
        self._writer.writerow([defused(name) for name in schema.names])
        self._types = schema.types

    def write(self, batch: pa.RecordBatch) -> None:
        for row in rows_of(batch):
            cells = [
                csv_cell(json_value(value, arrow) if pa.types.is_map(arrow) else value)
                for value, arrow in zip(row, self._types, strict=True)
            ]
            self.defused_cells += sum(
                cell != value
                for cell, value in zip(cells, row, strict=True)
                if isinstance(value, str)
            )
            self._writer.writerow(cells)

    def close(self) -> None:
        self._text.detach()


FORMS: Final[dict[str, Callable[[IO[bytes], pa.Schema], RowsFile]]] = {
    "parquet": ParquetRows,
    "jsonl": JsonRows,
    "csv": CsvRows,
}
"""The formats; their names are the suffixes of the files."""


class NewFile:
    """A file beside its place, which it takes whole with `keep`; only its owner may read it.

    Args:
        path: where it goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self.file: IO[bytes] = os.fdopen(os.open(self._temporary, flags, 0o600), "wb")

    def finish(self) -> None:
        """Brings all bytes to the disk, still under the other name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def keep(self) -> None:
        """Gives the file its name; one that had it is replaced."""
        self._temporary.replace(self.path)

    def drop(self) -> None:
        """Removes what was written; nothing happens once it was kept."""
        self.file.close()
        self._temporary.unlink(missing_ok=True)


def rows_of(batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """The rows of a batch; times as ISO 8601 in UTC, to the microsecond."""
    columns = [
        [_iso(value) for value in column.cast(pa.int64()).to_pylist()]
        if pa.types.is_timestamp(column.type)
        else column.to_pylist()
        for column in batch.columns
    ]
    return list(zip(*columns, strict=True))


def _iso(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    try:
        at = _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:  # a recorder with a clock beyond the calendar
        return f"{at_us} us since 1970"
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _in_utc(field: pa.Field) -> pa.Field:
    if pa.types.is_timestamp(field.type):
        return field.with_type(pa.timestamp("us", "UTC"))
    return field
