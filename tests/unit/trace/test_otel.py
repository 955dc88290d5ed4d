"""The table of names: ours beside OpenTelemetry's, both ways."""

from __future__ import annotations

import pytest

from flightlog.trace.otel import ATTRIBUTE_OF, column_of
from flightlog.trace.schema import columns


def test_every_mapped_column_is_a_column():
    assert set(ATTRIBUTE_OF) <= {column.name for column in columns()}


@pytest.mark.parametrize(("column", "attribute"), ATTRIBUTE_OF.items())
def test_current_attribute_leads_back_to_its_column(column, attribute):
    assert column_of(attribute) == column


@pytest.mark.parametrize(
    ("attribute", "column"),
    [
        ("gen_ai.system", "provider"),
        ("gen_ai.usage.prompt_tokens", "input_tokens"),
        ("gen_ai.usage.cache_creation.input_tokens", "cache_write_tokens"),
        ("session.id", "conversation_id"),
        ("http.method", None),
    ],
)
def test_older_names_and_dialects_are_read_too(attribute, column):
    assert column_of(attribute) == column
