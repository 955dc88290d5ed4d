"""Journal payloads (one JSON object each) to Arrow tables of the store's schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from flightlog.recorder.rows import decoded_rows
from flightlog.trace.events import EVENT_TYPES
from flightlog.trace.fitting import fitted_number, fitted_text
from flightlog.trace.schema import (
    LABELS,
    TIMESTAMP,
    Column,
    columns,
    events_schema,
    messages_schema,
)

_LABEL_LIST = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
_MIN_BLOCK_BYTES = 1 << 20
_MAX_BLOCK_BYTES = (1 << 31) - 1
_BATCH_BYTES = 4 << 20  # small enough for the caches: a third faster than 64 MB
_INT64 = range(-(2**63), 2**63)
_FLOAT_BITS = 1023  # a longer integer is no finite float


class Misfit(NamedTuple):
    """A value that does not fit its column and was left out, or a row that is none.

    Attributes:
        what: the value and where it stood, one sentence.
        payload: the whole record as it was written.
    """

    what: str
    payload: bytes


class EventRows(NamedTuple):
    """Events as rows.

    Attributes:
        table: one row per record, defaults of each kind filled in (schema `events_schema()`).
        misfits: what did not fit it.
        encoded: the events as `encode_event` writes them; None where rows and records differ.
    """

    table: pa.Table
    misfits: list[Misfit]
    encoded: list[bytes] | None


def read_events(payloads: Sequence[bytes]) -> EventRows:
    """Events as recorded, one row per payload."""
    parts, misfits = [events_schema().empty_table()], []
    encoded: list[bytes] | None = []
    for batch in _batches(payloads):
        decoded = decoded_rows(batch)
        if decoded is not None:
            parts.append(decoded.table)
            encoded = None if encoded is None else encoded + decoded.encoded
            continue
        encoded = None
        table, found = _read(batch, _json_schema())
        misfits += found
        if table.num_rows:
            filled = [_finished(table, column) for column in columns()]
            parts.append(pa.Table.from_arrays(filled, schema=events_schema()))
    return EventRows(pa.concat_tables(parts), misfits, encoded)


def events_table(payloads: Sequence[bytes]) -> tuple[pa.Table, list[Misfit]]:
    """As `read_events`, without the encoded events."""
    rows = read_events(payloads)
    return rows.table, rows.misfits


def messages_table(payloads: Sequence[bytes]) -> tuple[pa.Table, list[Misfit]]:
    """Message bodies as recorded, one row per payload (schema `messages_schema()`), and misfits."""
    parts, misfits = [messages_schema().empty_table()], []
    for batch in _batches(payloads):
        table, found = _read(batch, messages_schema())
        misfits += found
        parts.append(table.replace_schema_metadata(messages_schema().metadata))
    return pa.concat_tables(parts), misfits


def _batches(payloads: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The payloads in pieces that a column of text, which holds 2 GiB, can take."""
    start, size = 0, 0
    for stop, payload in enumerate(payloads):
        if size and size + len(payload) > _BATCH_BYTES:
            yield payloads[start:stop]
            start, size = stop, 0
        size += len(payload)
    if start < len(payloads):
        yield payloads[start:]


def _finished(table: pa.Table, column: Column) -> pa.Array:
    values = table.column(column.name).combine_chunks()
    if column.name == "at":
        return values.cast(TIMESTAMP)
    if column.arrow == LABELS:
        return _labels_map(values)
    for default, kinds in _defaults().get(column.name, {}).items() if values.null_count else ():
        missing = pc.and_(pc.is_null(values), _is_kind(table, kinds))
        values = pc.if_else(missing, pa.scalar(default, type=column.arrow), values)
    return values


@lru_cache(maxsize=1)
def _defaults() -> dict[str, dict[str | int, list[str]]]:
    """For each column the values that the encoding leaves out, and in which kinds."""
    left_out: dict[str, dict[str | int, list[str]]] = {}
    for event_type in EVENT_TYPES:
        kind = str(event_type.__struct_config__.tag)
        names, values = event_type.__struct_fields__, event_type.__struct_defaults__
        for name, value in zip(names[len(names) - len(values) :], values, strict=True):
            if isinstance(value, (str, int)):
                left_out.setdefault(name, {}).setdefault(value, []).append(kind)
    return left_out


def _is_kind(table: pa.Table, kinds: list[str]) -> pa.Array:
    return pc.is_in(table.column("kind").combine_chunks(), value_set=pa.array(kinds, pa.string()))


def _labels_map(values: pa.ListArray) -> pa.Array:
    if values.null_count == len(values):
        return pa.nulls(len(values), LABELS)
    pairs = values.values
    mask = values.is_null() if values.null_count else None
    return pa.MapArray.from_arrays(
        values.offsets, pairs.field("key"), pairs.field("value"), LABELS, mask=mask
    )


@lru_cache(maxsize=1)
def _json_schema() -> pa.Schema:
    as_json = {TIMESTAMP: pa.int64(), LABELS: _LABEL_LIST}
    return pa.schema([(c.name, as_json.get(c.arrow, c.arrow)) for c in columns()])


def _read(payloads: Sequence[bytes], schema: pa.Schema) -> tuple[pa.Table, list[Misfit]]:
    try:
        return _read_json(payloads, schema), []
    except (pa.ArrowInvalid, UnicodeDecodeError):
        # Some value does not fit its column: find out which, keep all the rest.
        fitted = [_fitted(payload, schema) for payload in payloads]
    misfits = [
        Misfit(note, payload)
        for payload, (_, notes) in zip(payloads, fitted, strict=True)
        for note in notes
    ]
    kept = [payload for payload, _ in fitted if payload is not None]
    return (_read_json(kept, schema) if kept else schema.empty_table()), misfits


def _read_json(payloads: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    text = b"\n".join(payloads)
    longest = max(map(len, payloads))
    table = pj.read_json(
        pa.BufferReader(text),
        read_options=pj.ReadOptions(
            # A block must be longer than the longest line.
            use_threads=False,
            block_size=min(max(_MIN_BLOCK_BYTES, 2 * longest + 2), _MAX_BLOCK_BYTES),
        ),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )
    if table.num_rows != len(payloads):
        raise pa.ArrowInvalid(f"{len(payloads)} payloads gave {table.num_rows} rows")
    return table


def _fitted(payload: bytes, schema: pa.Schema) -> tuple[bytes | None, list[str]]:
    """The payload with only what fits the schema, and what was left out."""
    try:
        row = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return None, [f"a record that is not JSON was left out ({error})"]
    if not isinstance(row, dict):
        return None, ["a record that is not an object was left out"]
    place = f"run {row.get('run_id')!r} event {row.get('seq')!r}"
    fitted, notes = {}, []
    for name, value in row.items():
        index = schema.get_field_index(name)
        if index < 0:
            notes.append(f"{place}: unknown column {name!r} was left out")
        elif value is None or _fits(value, schema.field(index).type):
            fitted[name] = value
        else:
            kept = _nearest_fit(value, schema.field(index).type)
            how = "left out" if kept is None else f"kept as {str(kept)[:60]!r}"
            notes.append(f"{place}: {name} holds {_shown(value)}, which does not fit; {how}")
            if kept is not None:
                fitted[name] = kept
    return json.dumps(fitted, ensure_ascii=False).encode("utf-8", "replace"), notes


def _shown(value: Any) -> str:
    return repr(str(fitted_text(value))[:60])


def _nearest_fit(value: Any, arrow: pa.DataType) -> str | int | float | None:
    """What the column holds of a value that is not of its type; None for nothing."""
    if pa.types.is_string(arrow):
        return fitted_text(value)
    if pa.types.is_int64(arrow) or pa.types.is_floating(arrow):
        kind = int if pa.types.is_int64(arrow) else float
        number = fitted_number(value, kind)
        return number if type(number) is kind else None
    return None


def _fits(value: Any, arrow: pa.DataType) -> bool:
    if pa.types.is_string(arrow):
        return isinstance(value, str)
    if pa.types.is_boolean(arrow):
        return isinstance(value, bool)
    if pa.types.is_int64(arrow):
        return type(value) is int and value in _INT64
    if pa.types.is_floating(arrow):
        if type(value) is int:
            return value.bit_length() <= _FLOAT_BITS
        return type(value) is float and math.isfinite(value)
    if arrow == _LABEL_LIST:
        return isinstance(value, list) and all(
            isinstance(pair, dict)
            and set(pair) == {"key", "value"}
            and all(isinstance(text, str) for text in pair.values())
            for pair in value
        )
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
