"""What an erased event keeps: that it happened, when, in which run, and with what numbers."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.recorder.chain import COMMITMENT, SALT, commitments_of, segment_schema

ERASED: Final = "erased"

KEPT_TEXTS: Final = frozenset(
    {
        *("kind", "run_id", "parent_run_id", "served_from", "withheld"),
        *("agent", "agent_version", "model", "suite", "variant", "origin", "config_digest"),
        *("actor", "outcome", "provider", "request_model", "response_model", "price_id"),
        *("finish_reason", "tool_name", "effect", "args_flag", "result_flag", "error_type"),
        *("served_how", "status", "stop_reason", "stop_tool"),
        *("subject", "state_from", "state_to", "name"),
    }
)
"""Texts that are no payload: ids of runs, names that the owner of the agent gave, closed sets.

Every other text goes, also one that a later version adds: arguments, observations,
answers, errors, labels, who and what the run was for, ids of the provider, and digests, since
an unsalted digest of a short text gives it away. What is erased today must not be a kept text
of an older version: `require_erased` looks at old rows by this list.
"""


def erased_rows(rows: pa.Table, mask: Any) -> pa.Table:
    """The rows of a segment, those of them without payload that the mask is true for.

    Their commitments stay, so that the chain can be verified, and their salts go, so that
    nobody can try out which event it was.

    Args:
        rows: of an events segment (schema `segment_schema()`).
        mask: booleans without nulls, one per row.
    """
    if not pc.any(mask).as_py():
        return rows
    schema = segment_schema()
    columns = {}
    for field in schema:
        column = rows.column(field.name)
        if field.name == COMMITMENT:
            columns[field.name] = _with_commitments(rows, mask)
        elif field.name == "withheld":
            columns[field.name] = pc.if_else(mask, pa.scalar(ERASED, pa.string()), column)
        elif field.name == SALT or _is_payload(field):
            columns[field.name] = _without(column, mask)
        else:
            columns[field.name] = column
    return pa.table(columns, schema=schema)


def erased_among(rows: pa.Table) -> int:
    """How many rows of an events segment go by their commitment alone; they are erased ones."""
    missing: int = rows.column(COMMITMENT).null_count
    return int(rows.num_rows) - missing


def require_erased(rows: pa.Table) -> None:
    """Refuses rows that go by a commitment from earlier and yet say something.

    Nothing proves what they say: who changes an event could leave its old commitment.

    Raises:
        ValueError: there is one.
    """
    if not erased_among(rows):
        return
    rows = rows.filter(pc.is_valid(rows.column(COMMITMENT)))
    told = [
        field.name
        for field in segment_schema()
        if (field.name == SALT or _is_payload(field))
        and rows.column(field.name).null_count < rows.num_rows
    ]
    if not pc.all(pc.equal(pc.fill_null(rows.column("withheld"), ""), ERASED)).as_py():
        told.append("withheld")
    if told:
        raise ValueError(f"an erased event has something in {told[0]!r}")


def _is_payload(field: pa.Field) -> bool:
    is_number = pa.types.is_primitive(field.type)  # numbers, booleans and times
    return not is_number and field.name not in KEPT_TEXTS and field.name != COMMITMENT


def _without(column: pa.ChunkedArray, mask: Any) -> pa.ChunkedArray:
    """The column with nulls where the mask is true; for columns of any type."""
    places = pa.array(range(len(column)), pa.int64())
    return column.take(pc.if_else(mask, pa.scalar(None, pa.int64()), places))


def _with_commitments(rows: pa.Table, mask: Any) -> pa.Array:
    found = rows.column(COMMITMENT).to_pylist()
    chained = pc.and_(mask, has_chain(rows))
    places = pc.indices_nonzero(chained).to_pylist()
    for place, commitment in zip(places, commitments_of(rows.filter(chained)), strict=True):
        found[place] = commitment
    return pa.array(found, segment_schema().field(COMMITMENT).type)


def has_chain(rows: pa.Table) -> Any:
    """True for rows of format 2: they have a commitment, or a salt that it follows from."""
    return pc.or_(pc.is_valid(rows.column(SALT)), pc.is_valid(rows.column(COMMITMENT)))
