"""Decoded events to Arrow columns: the fast way for records that are as this version writes them.

Whatever else a journal may hold (unknown fields, values that fit no column) goes the
slow way, through `flightlog.recorder.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from flightlog.trace.events import EVENT_TYPES, AnyEvent, Event, decode_event, encode_event
from flightlog.trace.schema import LABELS, TIMESTAMP, columns, events_schema

_decode_any = msgspec.json.Decoder().decode
_values_of = msgspec.structs.astuple


class DecodedRows(NamedTuple):
    """Events as rows, and as `encode_event` writes them.

    Attributes:
        table: one row per event, in order (schema `events_schema()`).
        encoded: the same events as JSON.
    """

    table: pa.Table
    encoded: list[bytes]


def decoded_rows(payloads: Sequence[bytes]) -> DecodedRows | None:
    """The rows of records that are all well-formed events; None when one is not."""
    try:
        events = [decode_event(payload) for payload in payloads]
        encoded = [encode_event(event) for event in events]
    except (msgspec.MsgspecError, UnicodeDecodeError, UnicodeEncodeError, RecursionError):
        return None
    for payload, again, event in zip(payloads, encoded, events, strict=True):
        # Other spellings of the same event are fine, fields that it does not have are not.
        if payload != again and not _names_of(type(event)).issuperset(_decode_any(payload)):
            return None
    try:
        return DecodedRows(_table(events), encoded)
    except (pa.ArrowException, OverflowError):
        return None


def _table(events: Sequence[AnyEvent]) -> pa.Table:
    by_kind: dict[type[AnyEvent], list[int]] = {}
    for at, event in enumerate(events):
        by_kind.setdefault(type(event), []).append(at)
    filled: dict[str, Sequence[Any]] = {}
    before = 0
    for event_type, places in by_kind.items():
        of_kind = events if len(by_kind) == 1 else [events[at] for at in places]
        for name, values in _columns_of(event_type, of_kind):
            # Kind by kind, as long as this one is not all there is.
            filled[name] = (*_padded(filled.get(name), before), *values) if before else values
        before += len(places)
    if len(by_kind) > 1:
        in_order = _in_order(by_kind.values())
        filled = {name: in_order(_padded(values, before)) for name, values in filled.items()}
    return pa.Table.from_arrays(
        [_array(filled.get(column.name), column.arrow, len(events)) for column in columns()],
        schema=events_schema(),
    )


def _columns_of(
    event_type: type[Event], events: Sequence[Event]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The columns of events of one kind that have values, by name."""
    yield "kind", (event_type.__struct_config__.tag,) * len(events)
    each = zip(*map(_values_of, events), strict=True)
    for name, values in zip(event_type.__struct_fields__, each, strict=True):
        if values[0] is not None or values.count(None) < len(values):
            yield name, values


def _padded(values: Sequence[Any] | None, rows: int) -> Sequence[Any]:
    if values is None:
        return (None,) * rows
    return (*values, *(None,) * (rows - len(values))) if len(values) < rows else values


def _in_order(places: Iterable[Sequence[int]]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Puts back what was taken from these places, one group of them after another."""
    taken = list(chain.from_iterable(places))
    order = [0] * len(taken)
    for at, place in enumerate(taken):
        order[place] = at
    return itemgetter(*order)


def _array(values: Sequence[Any] | None, arrow: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, arrow)
    if arrow == LABELS:
        pairs = [
            None if not labels else [(label.key, label.value) for label in labels]
            for labels in values
        ]
        return pa.array(pairs, LABELS)
    if arrow == TIMESTAMP:
        return pa.array(values, pa.int64()).cast(TIMESTAMP)
    if pa.types.is_list(arrow):
        return pa.array([list(value) if value else None for value in values], arrow)
    return pa.array(values, arrow)


@lru_cache(maxsize=len(EVENT_TYPES))
def _names_of(event_type: type[Event]) -> frozenset[str]:
    return frozenset(("kind", *event_type.__struct_encode_fields__))
