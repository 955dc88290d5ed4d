"""Which messages and blobs the rows of a store refer to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.recorder.layout import Layout
from flightlog.recorder.manifest import StoreState
from flightlog.recorder.segment_rows import (
    EVENTS,
    MESSAGES,
    live_entries,
    row_pieces,
    schema_of,
)
from flightlog.recorder.unsealed import unsealed_rows

MESSAGE_COLUMNS: Final = (
    "prompt_added",
    "output_digest",
    "system_digest",
    "toolset_digest",
    "task_digest",
)
"""Columns of the events that hold digests of messages."""

EVENT_BLOB: Final = "result_blob"
MESSAGE_BLOB: Final = "text_blob"


def values_of(rows: pa.Table, names: Collection[str]) -> Iterator[pa.Array]:
    """The distinct texts in some columns; those of lists one by one."""
    for name in names:
        column = rows.column(name)
        if pa.types.is_list(column.type):
            column = pc.list_flatten(column)
        yield pc.unique(column.drop_null())


def texts_in(rows: pa.Table, names: Collection[str]) -> set[str]:
    """The distinct texts in some columns."""
    return {text for values in values_of(rows, names) for text in values.to_pylist()}


def needed_messages(
    layout: Layout, state: StoreState, digests: Collection[str], *, without: pa.Array
) -> set[str]:
    """Those of the messages that events refer to.

    Args:
        layout: the store.
        state: of its manifests.
        digests: of the messages.
        without: ids of runs whose events do not count.
    """
    left = _Left(digests)
    columns = ["run_id", *MESSAGE_COLUMNS]
    for entry in live_entries(layout, EVENTS, state) if left.any else ():
        path = layout.root / entry.path
        for piece in row_pieces(layout, path, schema_of(EVENTS), columns=columns):
            is_out = pc.is_in(piece.column("run_id"), value_set=without)
            left.take_away(values_of(piece.filter(pc.invert(is_out)), MESSAGE_COLUMNS))
        if not left.any:
            break
    for events, _ in unsealed_rows(layout) if left.any else ():
        left.take_away(values_of(events, MESSAGE_COLUMNS))
    return left.taken


def needed_blobs(layout: Layout, state: StoreState, digests: Collection[str]) -> set[str]:
    """Those of the blobs that events or messages name."""
    left = _Left(digests)
    for table, column in ((EVENTS, EVENT_BLOB), (MESSAGES, MESSAGE_BLOB)):
        for entry in live_entries(layout, table, state) if left.any else ():
            path = layout.root / entry.path
            for piece in row_pieces(layout, path, schema_of(table), columns=[column]):
                left.take_away(values_of(piece, [column]))
    return left.taken | (unsealed_blobs(layout) & set(digests))


def unsealed_blobs(layout: Layout) -> set[str]:
    """The blobs that journals name which are not sealed."""
    found: set[str] = set()
    for events, messages in unsealed_rows(layout):
        found |= texts_in(events, [EVENT_BLOB]) | texts_in(messages, [MESSAGE_BLOB])
    return found


class _Left:
    """Texts of which some were found.

    Attributes:
        taken: those that were found.
    """

    def __init__(self, texts: Collection[str]) -> None:
        self.taken: set[str] = set()
        self._left = pa.array(sorted(texts), pa.string())

    @property
    def any(self) -> bool:
        return len(self._left) > 0

    def take_away(self, found: Iterator[Any]) -> None:
        for values in found:
            if not len(values) or not len(self._left):
                continue
            is_found = pc.is_in(self._left, value_set=values)
            self.taken.update(self._left.filter(is_found).to_pylist())
            self._left = self._left.filter(pc.invert(is_found))
