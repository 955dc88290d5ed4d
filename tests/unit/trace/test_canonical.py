"""The canonical form: what means the same reads the same, what is unclean is flagged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.trace.canonical import (
    canonical_args,
    canonical_json,
    clean_text,
    digest_of,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def as_floats(value):
    """The same value with every integer that a float holds exactly written as a float."""
    if isinstance(value, bool) or not isinstance(value, (int, list, dict)):
        return value
    if isinstance(value, int):
        return float(value) if abs(value) <= 2**53 else value
    if isinstance(value, list):
        return [as_floats(item) for item in value]
    return {key: as_floats(item) for key, item in value.items()}


def reversed_keys(value):
    if isinstance(value, list):
        return [reversed_keys(item) for item in value]
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(list(value))}
    return value


@settings(deadline=None)
@given(OBJECTS)
def test_canonical_text_parses_back_to_an_equal_value(value):
    assert json.loads(canonical_json(value)) == value


@settings(deadline=None)
@given(OBJECTS)
def test_canonical_form_of_the_canonical_form_is_itself(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@settings(deadline=None)
@given(OBJECTS, st.sampled_from([None, 1, 3]))
def test_key_order_white_space_and_float_spelling_do_not_count(value, indent):
    plain = canonical_args(value)
    spelled = json.dumps(reversed_keys(as_floats(value)), indent=indent, ensure_ascii=indent == 1)
    assert canonical_args(spelled) == plain
    assert plain.flag is None


@settings(deadline=None)
@given(OBJECTS, OBJECTS)
def test_digests_are_equal_only_for_equal_texts(one, two):
    first, second = canonical_args(one), canonical_args(two)
    assert (first.text == second.text) == (first.digest == second.digest)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ({"x": 25.0}, '{"x":25}'),
        ({"x": -0.0}, '{"x":0}'),
        ({"x": 0.1}, '{"x":0.1}'),
        ({"x": float(2**53)}, '{"x":9007199254740992}'),
        ({"x": float(2**54)}, '{"x":1.8014398509481984e+16}'),
        ({"x": 2**53 + 1}, '{"x":9007199254740993}'),
        ({"x": True}, '{"x":true}'),
        ({"x": None}, '{"x":null}'),
        ({"x": "ä\n"}, '{"x":"ä\\n"}'),
        ({"x": (1, [2.0])}, '{"x":[1,[2]]}'),
    ],
)
def test_canonical_spelling(value, text):
    assert canonical_json(value) == text


def test_true_is_not_one():
    assert canonical_args('{"x": true}').digest != canonical_args('{"x": 1}').digest


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {"x": object()}, b"x", {"x": {1}}]
)
def test_what_json_lacks_is_refused(value):
    with pytest.raises(ValueError, match=r".+"):
        canonical_json(value)


@pytest.mark.parametrize(
    ("raw", "flag"),
    [
        ('{"a": 1, "a": 2}', "duplicate_keys"),
        ('{"a": {"b": 1, "b": 1}}', "duplicate_keys"),
        ('{"a": NaN}', "non_finite"),
        ('{"a": -Infinity}', "non_finite"),
        ('{"a": 1e999}', "non_finite"),
        ("{", "unparsable"),
        ("hello", "unparsable"),
        ("[" * 100_000, "unparsable"),
        ('{"a": ' + "9" * 5000 + "}", "unparsable"),
        ("[1]", "not_an_object"),
        ("null", "not_an_object"),
        ({"a": float("nan")}, "non_finite"),
    ],
)
def test_unclean_arguments_stay_raw_and_say_why(raw, flag):
    args = canonical_args(raw)
    assert (args.flag, dict(args.value)) == (flag, {})
    if isinstance(raw, str):
        assert args.text == raw


def test_raw_text_never_shares_a_digest_with_clean_text():
    raw = canonical_args('{"a":1,"a":1}')
    assert raw.digest != canonical_args('{"a":1}').digest
    assert raw.digest == canonical_args('{"a":1,"a":1}').digest


@pytest.mark.parametrize("raw", ["", "  \n", "{}"])
def test_no_arguments_are_an_empty_object(raw):
    assert canonical_args(raw).text == "{}"


def test_defaults_of_the_schema_are_filled_in():
    schema = {"properties": {"limit": {"default": 10}, "page": {"default": None}, "q": {}}}
    full = canonical_args('{"q": "x", "page": null, "limit": 10.0}', schema=schema)
    assert canonical_args('{"q": "x"}', schema=schema) == full
    assert full.text == '{"limit":10,"page":null,"q":"x"}'


def test_volatile_paths_are_dropped_at_any_depth():
    volatile = ("request_id", "meta.sent_at", "missing.path")
    one = canonical_args('{"id": 1, "request_id": "a", "meta": {"sent_at": 1}}', volatile=volatile)
    two = canonical_args('{"id": 1, "meta": {"sent_at": 2}}', volatile=volatile)
    assert one == two
    assert one.text == '{"id":1,"meta":{}}'


@given(st.dictionaries(st.sampled_from(["a", "b", "t"]), st.integers(), max_size=3))
def test_volatile_argument_never_changes_the_digest(value):
    without = {key: item for key, item in value.items() if key != "t"}
    assert canonical_args(value, volatile=("t",)).digest == canonical_args(without).digest


@given(st.text())
def test_clean_text_is_valid_utf8_and_changes_nothing_else(text):
    cleaned = clean_text(text)
    cleaned.encode("utf-8")
    assert clean_text(cleaned) == cleaned
    if not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text):
        assert cleaned == text


def test_lone_surrogates_in_arguments_become_valid_text():
    canonical_args('{"x": "\\ud800"}').text.encode("utf-8")
    canonical_args("\ud800 not json").text.encode("utf-8")


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_digest_tells_lists_apart_that_join_to_the_same_text(one, two):
    assert (one == two) == (digest_of(*one) == digest_of(*two))


def test_digest_is_32_hex_digits():
    assert len(digest_of("x")) == 32
    assert int(digest_of(b"x"), 16) == int(digest_of("x"), 16)


@pytest.mark.parametrize("raw", ['{"a":"\\ud800"}', '{"\\ud800":1}', '{"\\ud800":1,"\\ud801":2}'])
def test_arguments_with_lone_surrogates_are_what_a_recording_gives_back(raw: str) -> None:
    args = canonical_args(raw)
    assert canonical_args(args.text) == args
    assert clean_text(str(args.value)) == str(args.value)
