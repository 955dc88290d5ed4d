"""Decoded events to Arrow columns: the fast way for records that are as this version writes them.

Whatever else a journal may hold (unknown fields, values that fit no column) goes the
slow way, through `flightlog.recorder.tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from flightlog.trace.events import EVENT_TYPES, AnyEvent, Event, decode_event, encode_event
from flightlog.trace.schema import LABELS, TIMESTAMP, columns, events_schema

_decode_any = msgspec.json.Decoder().decode


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
    filled: dict[str, list[Any]] = {"kind": [None] * len(events)}
    for event_type in EVENT_TYPES:
        places = [at for at, event in enumerate(events) if type(event) is event_type]
        if not places:
            continue
        kind = event_type.__struct_config__.tag
        of_kind = events if len(places) == len(events) else [events[at] for at in places]
        columns_of_kind = zip(*map(msgspec.structs.astuple, of_kind), strict=True)
        named = zip(event_type.__struct_fields__, columns_of_kind, strict=True)
        for name, values in (("kind", (kind,) * len(places)), *named):
            if name not in filled:
                if values.count(None) == len(values):
                    continue
                filled[name] = [None] * len(events)
            column = filled[name]
            if len(places) == len(events):
                column[:] = values
                continue
            for at, value in zip(places, values, strict=True):
                column[at] = value
    return pa.Table.from_arrays(
        [_array(filled.get(column.name), column.arrow, len(events)) for column in columns()],
        schema=events_schema(),
    )


def _array(values: list[Any] | None, arrow: pa.DataType, rows: int) -> pa.Array:
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
