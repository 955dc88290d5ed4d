"""Writing one Parquet segment: under a temporary name until it is complete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flightlog.recorder.chain import COMMITMENT, SALT
from flightlog.recorder.disk import DiskFile
from flightlog.recorder.encryption.parquet import writer_properties
from flightlog.recorder.layout import TEMPORARY_SUFFIX, Layout
from flightlog.recorder.manifest import Part, SegmentEntry
from flightlog.trace.schema import FORMAT_KEY
from flightlog.trace.versions import FORMAT_VERSION

# Statistics of the columns that readers filter by; those of the others only grow the footer.
_FILTERED_COLUMNS: Final = ["kind", "run_id", "seq", "at", "agent", "variant", "task_id"]
_SAMPLE_ROWS: Final = 4096
_LARGEST_SHARE: Final = 0.5
"""Of distinct values in a column of text that gets a dictionary."""
_RANDOM_COLUMNS: Final = frozenset({SALT, COMMITMENT})


class SegmentWriter:
    """A segment in the making; nobody sees it before `publish`. Encrypted where the store is.

    Attributes:
        rows: written so far.
        path: the name that it gets.

    Args:
        layout: the store.
        path: the name that it gets.
        schema: of all its rows.
        compression_level: of zstd; a lower one takes less time and some more bytes.
    """

    def __init__(
        self, layout: Layout, path: Path, schema: pa.Schema, *, compression_level: int = 3
    ) -> None:
        self.rows = 0
        self._compression_level = compression_level
        self.path = path
        self._layout = layout
        self._schema = schema
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
        self._file: DiskFile | None = None
        self._writer: Any = None
        self._key_id: str | None = None

    def write(self, table: pa.Table) -> None:
        """Adds rows; each call makes at least one row group."""
        if not table.num_rows and self._writer is not None:
            return
        if self._writer is None:
            self._open(table)
        if table.num_rows:
            self._writer.write_table(table)
            self.rows += table.num_rows

    def _open(self, table: pa.Table) -> None:
        self._key_id, encryption = writer_properties(self._layout)
        self._layout.disk.mkdir(self.path.parent)
        self._file = DiskFile(self._layout.disk, self._temporary)
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            compression_level=self._compression_level,
            write_page_checksum=True,
            write_statistics=[n for n in _FILTERED_COLUMNS if n in self._schema.names],
            # A dictionary for what repeats: it costs time and bytes for texts that are all
            # their own. The types stand in the Parquet schema, so not a second time beside it.
            use_dictionary=[n for n in table.schema.names if _repeats(table, n)],
            store_schema=False,
            **encryption,
        )

    def publish(
        self, parts: Sequence[Part] = (), *, dropped_sha256: str | None = None
    ) -> SegmentEntry:
        """Gives the complete file its name; the entry is for a manifest.

        Args:
            parts: where the rows come from.
            dropped_sha256: of the file of its dropped rows, if there is one.

        Raises:
            OSError: the disk is full or fails.
        """
        assert self._file is not None
        self._writer.add_key_value_metadata({FORMAT_KEY: str(FORMAT_VERSION)})
        self._writer.close()
        self._writer = None
        file, disk = self._file, self._layout.disk
        file.sync()
        file.close()
        path = self.path.relative_to(self._layout.root).as_posix()
        entry = SegmentEntry(
            path, file.sha256, file.size, self.rows, tuple(parts), dropped_sha256, self._key_id
        )
        disk.rename(self._temporary, self.path)
        disk.sync_folder(self.path.parent)
        disk.sync_folder(self.path.parent.parent)
        return entry

    def discard(self) -> None:
        """Removes what was not published."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._file is not None:
            self._file.close()
            self._layout.disk.unlink(self._temporary)


def _repeats(table: pa.Table, name: str) -> bool:
    column = table.column(name)
    if name in _RANDOM_COLUMNS or column.null_count == len(column):
        return False
    if not pa.types.is_string(column.type):
        return True
    sample = column.slice(0, _SAMPLE_ROWS).drop_null()
    return bool(pc.count_distinct(sample).as_py() <= _LARGEST_SHARE * max(1, len(sample)))
