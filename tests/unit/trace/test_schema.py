"""The Arrow schema: every column once, with a type, a sentence and, for numbers, a unit."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flightlog.trace.events import EVENT_TYPES
from flightlog.trace.schema import FORMAT_KEY, columns, events_schema, messages_schema
from flightlog.trace.versions import FORMAT_VERSION

# Numbers that only count places or name a repeat; they measure nothing.
WITHOUT_UNIT = {"seq", "step", "trial", "attempt", "call_ix", "prompt_base_seq", "score"}


@pytest.mark.parametrize("column", columns(), ids=lambda column: column.name)
def test_column_has_a_type_a_sentence_and_a_unit_where_it_is_a_number(column):
    assert column.description
    assert column.description.endswith(".")
    assert isinstance(column.arrow, pa.DataType)
    is_number = pa.types.is_integer(column.arrow) or pa.types.is_floating(column.arrow)
    if is_number and column.name not in WITHOUT_UNIT:
        assert column.unit, f"{column.name} is a number without a unit"
    assert column.kinds


@pytest.mark.parametrize("column", columns(), ids=lambda column: column.name)
def test_unit_in_the_name_is_the_unit_of_the_column(column):
    for ending, unit in (
        ("_ms", "ms"),
        ("_usd", "USD"),
        ("_tokens", "tokens"),
        ("_bytes", "bytes"),
    ):
        if column.name.endswith(ending):
            assert column.unit == unit


def test_every_field_of_every_event_is_a_column_and_no_name_is_there_twice():
    names = [column.name for column in columns()]
    fields = {name for event_type in EVENT_TYPES for name in event_type.__struct_fields__}
    assert len(names) == len(set(names))
    assert set(names) == {"kind", *fields}
    assert events_schema().names == names


def test_column_knows_the_kinds_that_carry_it():
    by_name = {column.name: column for column in columns()}
    assert by_name["tool_name"].kinds == ("tool_call", "tool_intent", "state_changed")
    assert by_name["stop_reason"].kinds == ("run_stopped",)
    assert len(by_name["run_id"].kinds) == len(EVENT_TYPES)


def test_default_is_what_a_row_holds_when_the_event_left_it_out():
    by_name = {column.name: column for column in columns()}
    assert by_name["outcome"].default == "ok"
    assert by_name["attempt"].default == 1
    assert by_name["cost_usd"].default is None


def test_times_are_utc_timestamps_and_labels_a_map():
    schema = events_schema()
    assert schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("labels").type == pa.map_(pa.string(), pa.string())
    assert schema.field("prompt_added").type == pa.list_(pa.string())


@pytest.mark.parametrize("schema", [events_schema(), messages_schema()], ids=["events", "messages"])
def test_schema_names_its_format(schema):
    assert schema.metadata == {FORMAT_KEY: str(FORMAT_VERSION).encode()}
