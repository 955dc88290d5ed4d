"""What is left of rows that were removed from a journal of which others were kept.

A segment of which rows were dropped has a file beside it, named like it with the suffix
`.dropped`: Parquet too, with one row per dropped row. With it the chain over the whole
journal can still be computed; its salt is gone, so nothing can be told of the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from flightlog.recorder.chain import COMMITMENT, Chain, commitments_of, segment_schema
from flightlog.recorder.layout import Layout
from flightlog.recorder.manifest import SegmentEntry
from flightlog.recorder.segment_rows import part_rows, row_pieces

DROPPED_SUFFIX: Final = ".dropped"


class Dropped(NamedTuple):
    """One dropped row.

    Attributes:
        part: place of its journal in the `parts` of the segment, from 0.
        place: of the row in its journal, from 0, counting all rows that were sealed.
        commitment: of the event.
    """

    part: int
    place: int
    commitment: bytes


@lru_cache(maxsize=1)
def dropped_schema() -> pa.Schema:
    """Schema of a file of dropped rows; a column for each field of `Dropped`."""
    return pa.schema(
        [
            pa.field("part", pa.int32()),
            pa.field("place", pa.int64()),
            pa.field(COMMITMENT, segment_schema().field(COMMITMENT).type),
        ]
    )


def dropped_file(layout: Layout, entry: SegmentEntry) -> Path:
    """Where the dropped rows of a segment are, if it has any."""
    return (layout.root / entry.path).with_suffix(DROPPED_SUFFIX)


def dropped_rows(layout: Layout, entry: SegmentEntry) -> Iterator[Dropped]:
    """The dropped rows of a segment, in order of part and place.

    Raises:
        DamagedError: the file cannot be read.
    """
    if entry.dropped_sha256 is None:
        return
    for piece in row_pieces(layout, dropped_file(layout, entry), dropped_schema()):
        yield from map(Dropped._make, zip(*map(pa.ChunkedArray.to_pylist, piece), strict=True))


class DroppedByPart:
    """The dropped rows of a segment, one part after the other."""

    def __init__(self, layout: Layout, entry: SegmentEntry) -> None:
        self._rows = dropped_rows(layout, entry)
        self._next = next(self._rows, None)

    def of(self, part: int) -> list[Dropped]:
        """The dropped rows of a part; asked for in order."""
        found = []
        while self._next is not None and self._next.part == part:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found


def heads_of(layout: Layout, entry: SegmentEntry) -> list[str]:
    """The ends of the chains over the journals in an events segment, computed from its rows.

    Returns:
        One per part of the entry, to be equal to its `head`; empty where that is, since a
        journal sealed in format 1 has no chain. Nothing for an entry without parts.

    Raises:
        DamagedError: the segment or its file of dropped rows cannot be read.
        ValueError: a row has neither salt nor commitment.
    """
    gone = DroppedByPart(layout, entry)
    heads = []
    for number, (part, pieces) in enumerate(part_rows(layout, entry, segment_schema())):
        dropped = gone.of(number)
        if not part.head:
            heads.append("")
            continue
        chain, place = Chain(part.journal_id), 0
        kept = itertools.chain.from_iterable(map(commitments_of, pieces))
        for one in dropped:
            chain.add(itertools.islice(kept, one.place - place))
            chain.add([one.commitment])
            place = one.place + 1
        chain.add(kept)
        heads.append(chain.head)
    return heads
