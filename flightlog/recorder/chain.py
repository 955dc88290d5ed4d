"""Tamper evidence: a salted commitment per event, and a chain over those of each journal.

    commitment = SHA-256(salt || event)
    head       = SHA-256(SHA-256(journal id) || commitment 1 || commitment 2 || ...)

The commitments follow the order in which the journal was written, and the head over all
of them stands in the manifest. The event is its JSON as `encode_event` writes it, which
is the same whether it is read from the journal or from the segment.
Because of the salt a commitment tells nothing about an event that was erased: the
salt goes with it, the commitment stays, and the chain can still be verified.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.trace.events import EVENT_TYPES, Event
from flightlog.trace.schema import events_schema

SALT: Final = "salt"
COMMITMENT: Final = "commitment"
SALT_BYTES: Final = 16

_LATER_COLUMNS: Final = frozenset({"redacted"})
"""Columns with a default that segments of format 1 do not have."""

_encode = msgspec.json.Encoder().encode
_sha256 = hashlib.sha256


@lru_cache(maxsize=1)
def segment_schema() -> pa.Schema:
    """Schema of an events segment: the events, and what their chain needs.

    `salt` is null in erased rows, and `commitment` in all others, since it follows from
    salt and event.
    """
    return (
        events_schema()
        .append(pa.field(SALT, pa.binary(SALT_BYTES)))
        .append(pa.field(COMMITMENT, pa.binary(_sha256().digest_size)))
    )


class Chain:
    """The chain over the events of one journal.

    Args:
        journal_id: where the chain starts.
    """

    def __init__(self, journal_id: str) -> None:
        self._state = _sha256(_sha256(journal_id.encode()).digest())

    @property
    def head(self) -> str:
        """Over all that was added so far, in hex."""
        return self._state.hexdigest()

    def add(self, commitments: Iterable[bytes]) -> None:
        """Goes on over these events."""
        self._state.update(b"".join(commitments))


def sealed_rows(rows: pa.Table, encoded: Sequence[bytes] | None, chain: Chain) -> pa.Table:
    """The rows of an events segment: the events with fresh salts, added to the chain.

    Args:
        rows: events in the order of their journal (schema `events_schema()`).
        encoded: the same events as `encode_event` writes them; None takes them from the rows.
        chain: of their journal.
    """
    events = encoded_events(rows) if encoded is None else encoded
    noise = os.urandom(SALT_BYTES * len(events))
    salts = [noise[at : at + SALT_BYTES] for at in range(0, len(noise), SALT_BYTES)]
    pairs = zip(salts, events, strict=True)
    chain.add([_sha256(salt + event).digest() for salt, event in pairs])
    schema = segment_schema()
    return pa.Table.from_arrays(
        [
            *rows.columns,
            pa.array(salts, schema.field(SALT).type),
            pa.nulls(len(events), schema.field(COMMITMENT).type),
        ],
        schema=schema,
    )


def commitment_of(salt: bytes, event: bytes) -> bytes:
    """What binds an event without telling it."""
    return _sha256(salt + event).digest()


def commitments_of(rows: pa.Table) -> list[bytes]:
    """The commitments of the rows of a segment, computed anew but for erased rows.

    Raises:
        ValueError: a row has neither salt nor commitment.
    """
    kept = rows.column(COMMITMENT).to_pylist()
    salts = rows.column(SALT).to_pylist()
    found = []
    for salt, commitment, event in zip(salts, kept, encoded_events(rows), strict=True):
        if commitment is not None:
            found.append(commitment)
        elif salt is not None:
            found.append(commitment_of(salt, event))
        else:
            raise ValueError("a row without salt and commitment")
    return found


def encoded_events(rows: pa.Table) -> list[bytes]:
    """The events of the rows, as `encode_event` writes them, in their order.

    What no event can hold (a value in a column of another kind, nothing where there is
    always something) is encoded too, so that it is not the event that was sealed.
    """
    events = [b""] * rows.num_rows
    kinds = rows.column("kind")
    for kind in pc.unique(kinds).to_pylist():
        places = pc.indices_nonzero(pc.equal(kinds, kind)).to_pylist()
        # All rows of a kind have the same columns, and most columns belong to other kinds.
        of_kind = rows if len(places) == rows.num_rows else rows.take(places)
        columns = [
            (name, absent, _plain(of_kind.column(name), name))
            for name, absent in _fields(kind, tuple(rows.column_names))
            if None not in absent or of_kind.column(name).null_count < of_kind.num_rows
        ]
        names = [name for name, _, _ in columns]
        left_out = [absent for _, absent, _ in columns]
        each = zip(*(values for _, _, values in columns), strict=True)
        for place, values in zip(places, each, strict=True):
            fields = {"kind": kind}
            for name, absent, value in zip(names, left_out, values, strict=True):
                if value not in absent:
                    fields[name] = value
            events[place] = _encode(fields)
    return events


@lru_cache(maxsize=64)
def _fields(kind: str, names: tuple[str, ...]) -> list[tuple[str, tuple[Any, ...]]]:
    """The columns of a kind in the order of their encoding, then all others.

    With each the values that are left out: null, or the default of the kind.
    """
    own = _kinds().get(kind, [])
    known = {name for name, _ in own}
    foreign = [name for name in names if name not in known | {"kind", SALT, COMMITMENT}]
    return [*own, *((name, (None,)) for name in foreign)]


@lru_cache(maxsize=1)
def _kinds() -> dict[str, list[tuple[str, tuple[Any, ...]]]]:
    return {str(event.__struct_config__.tag): _fields_of(event) for event in EVENT_TYPES}


def _fields_of(event: type[Event]) -> list[tuple[str, tuple[Any, ...]]]:
    names, values = event.__struct_fields__, event.__struct_defaults__
    defaults = dict(zip(names[len(names) - len(values) :], values, strict=True))
    return [(name, _left_out(name, defaults.get(name))) for name in event.__struct_encode_fields__]


def _left_out(name: str, default: Any) -> tuple[Any, ...]:
    if default is None:
        return (None,)
    if default == ():
        return (None, [])
    return (default, None) if name in _LATER_COLUMNS else (default,)


def _plain(column: pa.ChunkedArray, name: str) -> list[Any]:
    """The values as JSON has them."""
    if name == "at":
        return list(column.cast(pa.int64()).to_pylist())
    if name == "labels":
        return [
            None if pairs is None else [{"key": key, "value": value} for key, value in pairs]
            for pairs in column.to_pylist()
        ]
    return list(column.to_pylist())
