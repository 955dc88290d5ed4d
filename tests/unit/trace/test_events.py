"""Events: frozen, encoded on one line, decoded to the same."""

from __future__ import annotations

import types
from enum import StrEnum
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.trace.events import (
    EVENT_TYPES,
    Label,
    RunStarted,
    RunStopped,
    ToolCall,
    decode_event,
    encode_event,
)
from flightlog.trace.vocab import EventKind, Outcome

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def values_of(hint):
    """Values of one annotated field."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of([values_of(arm) for arm in get_args(hint)])
    if get_origin(hint) is tuple:
        one = st.builds(Label, TEXT, TEXT) if get_args(hint)[0] is Label else TEXT
        return st.lists(one, max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    plain = {
        type(None): st.none(),
        str: TEXT,
        int: st.integers(-(2**53), 2**53),
        float: floats,
        bool: st.booleans(),
    }
    return plain[hint]


def events_of(event_type):
    hints = get_type_hints(event_type, include_extras=True)
    fields = {name: values_of(hints[name]) for name in event_type.__struct_fields__}
    required = {name: fields.pop(name) for name in ("run_id", "seq")}
    return st.fixed_dictionaries(required, optional=fields).map(lambda kw: event_type(**kw))


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_event_comes_back_as_it_was_written(event_type):
    @settings(deadline=None, max_examples=60)
    @given(events_of(event_type))
    def check(event):
        raw = encode_event(event)
        assert b"\n" not in raw
        assert decode_event(raw) == event

    check()


def test_every_kind_has_one_event_type():
    kinds = [event_type.__struct_config__.tag for event_type in EVENT_TYPES]
    assert kinds == list(EventKind)


def test_events_are_frozen():
    event = RunStarted(run_id="r", seq=0)
    with pytest.raises(AttributeError):
        event.seq = 1  # type: ignore[misc]


def test_fields_at_their_defaults_take_no_space():
    assert encode_event(ToolCall(run_id="r", seq=3)) == b'{"kind":"tool_call","run_id":"r","seq":3}'


def test_null_is_not_zero():
    known = decode_event(encode_event(RunStopped(run_id="r", seq=0, used_usd=0.0)))
    unknown = decode_event(encode_event(RunStopped(run_id="r", seq=0)))
    assert (known.used_usd, unknown.used_usd) == (0.0, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"kind":"other","run_id":"r","seq":0}',
        b'{"kind":"tool_call","run_id":"r"}',
        b'{"kind":"tool_call","run_id":"r","seq":"0"}',
        b'{"kind":"tool_call","run_id":"r","seq":0,"outcome":"fine"}',
        b'{"kind":"tool_call","run_id":"r","seq":0',
    ],
)
def test_what_is_no_event_is_refused(raw):
    with pytest.raises(msgspec.DecodeError):
        decode_event(raw)


def test_enums_are_written_as_their_values():
    raw = encode_event(ToolCall(run_id="r", seq=0, outcome=Outcome.TIMED_OUT))
    assert b'"outcome":"timed_out"' in raw
