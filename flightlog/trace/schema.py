"""The Arrow schema of a store, derived from the events; the only trace module with pyarrow."""

from __future__ import annotations

import types
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
from msgspec import Meta

from flightlog.trace.events import EVENT_TYPES, Event, Label
from flightlog.trace.versions import FORMAT_VERSION

FORMAT_KEY = b"flightlog.format"
TIMESTAMP = pa.timestamp("us", tz="UTC")
LABELS = pa.map_(pa.string(), pa.string())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the events table.

    Attributes:
        name: as in Parquet and SQL.
        arrow: its Arrow type.
        unit: unit of its values; None where it has none.
        description: what it holds, one sentence.
        kinds: the event kinds that carry it.
        default: what a row of these kinds holds when the event left it out.
    """

    name: str
    arrow: pa.DataType
    unit: str | None
    description: str
    kinds: tuple[str, ...]
    default: Any


@lru_cache(maxsize=1)
def columns() -> tuple[Column, ...]:
    """All columns of the events table, in order: `kind` first, then as the events declare them."""
    found: dict[str, Column] = {
        "kind": Column("kind", pa.string(), None, "What the event records.", _kinds(Event), None)
    }
    for event_type in EVENT_TYPES:
        hints = get_type_hints(event_type, include_extras=True)
        defaults = _defaults(event_type)
        kind = str(event_type.__struct_config__.tag)
        for name in event_type.__struct_fields__:
            meta, arrow = _meta_of(hints[name]), _arrow_of(name, hints[name])
            known = found.get(name)
            if known and known.arrow != arrow:
                raise TypeError(f"column {name} has two types: {known.arrow} and {arrow}")
            kinds = (*known.kinds, kind) if known else (kind,)
            extra = meta.extra or {}
            found[name] = Column(
                name, arrow, extra.get("unit"), meta.description or "", kinds, defaults.get(name)
            )
    return tuple(found.values())


@lru_cache(maxsize=1)
def events_schema() -> pa.Schema:
    """Schema of the events table: one row per event, columns of other kinds null."""
    fields = [pa.field(column.name, column.arrow) for column in columns()]
    return pa.schema(fields, metadata={FORMAT_KEY: str(FORMAT_VERSION).encode()})


@lru_cache(maxsize=1)
def messages_schema() -> pa.Schema:
    """Schema of the messages table: one row per message body, by digest.

    `tool_requests` is JSON text: a list of objects with id, name and arguments. A text above
    16 KiB is in the blob `text_blob`, and `text_bytes` is its size in UTF-8; both null else.
    """
    names = ("digest", "role", "text", "tool_requests", "tool_call_id", "name", "text_blob")
    return pa.schema(
        [*(pa.field(name, pa.string()) for name in names), pa.field("text_bytes", pa.int64())],
        metadata={FORMAT_KEY: str(FORMAT_VERSION).encode()},
    )


def _kinds(_: type[Event]) -> tuple[str, ...]:
    return tuple(str(event_type.__struct_config__.tag) for event_type in EVENT_TYPES)


def _defaults(event_type: type[Event]) -> dict[str, Any]:
    names, values = event_type.__struct_fields__, event_type.__struct_defaults__
    known = dict(zip(names[len(names) - len(values) :], values, strict=True))
    return {name: value for name, value in known.items() if isinstance(value, (str, int))}


def _meta_of(hint: Any) -> Meta:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Meta):
            return extra
    raise TypeError(f"a column without a description: {hint}")


def _arrow_of(name: str, hint: Any) -> pa.DataType:
    if name == "at":
        return TIMESTAMP
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arm for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is tuple:
        return LABELS if get_args(hint)[0] is Label else pa.list_(pa.string())
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return pa.string()
    by_type = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return by_type[hint]
