"""What journals hold that are not sealed, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from flightlog.recorder.frames import Damage, FrameType
from flightlog.recorder.journal_reader import mapped, read_header, read_records
from flightlog.recorder.layout import Layout
from flightlog.recorder.tables import events_table, messages_table

_PIECE_BYTES = 16 << 20


def open_runs(path: Path) -> tuple[str, ...]:
    """The runs that went on when the journal was begun."""
    with suppress(FileNotFoundError), mapped(path) as data:
        return read_header(data, path.stem).open_runs
    return ()


def journal_rows(path: Path) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Events and messages of a journal, also of one that is being written; empty when it is gone.

    Raises:
        NewerFormatError: a newer flightlog wrote the journal.
    """
    events: list[bytes] = []
    messages: list[bytes] = []
    size = 0
    with suppress(FileNotFoundError), mapped(path) as data:
        for record in read_records(data, where=path):
            if isinstance(record, Damage):
                continue
            (messages if record.type == FrameType.MESSAGE else events).append(record.payload)
            size += len(record.payload)
            if size >= _PIECE_BYTES:
                yield events_table(events)[0], messages_table(messages)[0]
                events, messages, size = [], [], 0
        yield events_table(events)[0], messages_table(messages)[0]


def unsealed_rows(layout: Layout) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Events and messages of all journals that are not sealed."""
    for path in layout.journal_files():
        yield from journal_rows(path)
