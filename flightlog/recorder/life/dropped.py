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
from flightlog.recorder.life.skeleton import erased_among, require_erased
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


class Found(NamedTuple):
    """What the rows of one part of a segment give.

    Attributes:
        head: end of the chain over its journal; empty where the journal has none.
        dropped: how many rows the chain has beside those that are there.
        erased: how many rows go by their commitment alone.
    """

    head: str
    dropped: int = 0
    erased: int = 0


def heads_of(layout: Layout, entry: SegmentEntry) -> list[str]:
    """The ends of the chains over the journals in an events segment, as `chains_of` finds them."""
    return [found.head for found in chains_of(layout, entry)]


def chains_of(layout: Layout, entry: SegmentEntry) -> list[Found]:
    """The chains over the journals in an events segment, computed from its rows.

    Returns:
        One per part of the entry, to be equal to what that says; with an empty head where a
        journal was sealed in format 1 and has no chain. Nothing for an entry without parts.

    Raises:
        DamagedError: the segment or its file of dropped rows cannot be read.
        ValueError: a row has neither salt nor commitment, or an erased one says something.
    """
    gone = DroppedByPart(layout, entry)
    found = []
    for number, (part, pieces) in enumerate(part_rows(layout, entry, segment_schema())):
        dropped = gone.of(number)
        if not part.head:
            found.append(Found(""))
            continue
        chain, place, erased = Chain(part.journal_id), 0, _Erased()
        kept = itertools.chain.from_iterable(map(erased.commitments, pieces))
        for one in dropped:
            chain.add(itertools.islice(kept, one.place - place))
            chain.add([one.commitment])
            place = one.place + 1
        chain.add(kept)
        found.append(Found(chain.head, len(dropped), erased.rows))
    return found


class _Erased:
    """Counts the erased rows among those whose commitments are asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def commitments(self, rows: pa.Table) -> list[bytes]:
        require_erased(rows)
        self.rows += erased_among(rows)
        return commitments_of(rows)
