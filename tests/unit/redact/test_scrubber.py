"""Values of credentials taken out of texts, in every encoding."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flightlog.redact.scrubber import Scrubber
from flightlog.trace.messages import Message, ToolRequest

MARK = "<credential:key>"
Encode = Callable[[str], str]
ENCODINGS: dict[str, Encode] = {
    "plain": str,
    "json": lambda v: json.dumps(v)[1:-1],
    "json_unicode": lambda v: json.dumps(v, ensure_ascii=False)[1:-1],
    "json_in_json": lambda v: json.dumps(json.dumps(v))[3:-3],
    "json_in_json_in_json": lambda v: json.dumps(json.dumps(json.dumps(v)))[7:-7],
    "json_slash": lambda v: json.dumps(v)[1:-1].replace("/", "\\/"),
    "json_for_html": lambda v: re.sub(
        "[<>&]", lambda m: f"\\u{ord(m[0]):04x}", json.dumps(v)[1:-1]
    ),
    "url": quote,
    "url_all": lambda v: quote(v, safe=""),
    "url_lower": lambda v: re.sub("%..", lambda m: m[0].lower(), quote(v, safe="")),
    "url_form": quote_plus,
    "url_twice": lambda v: quote(quote(v, safe=""), safe=""),
    "form_twice": lambda v: quote_plus(quote_plus(v)),
    "html": html.escape,
    "html_ascii": lambda v: html.escape(v).encode("ascii", "xmlcharrefreplace").decode(),
    "hex": lambda v: v.encode().hex(),
    "hex_upper": lambda v: v.encode().hex().upper(),
    "repr_of_bytes": lambda v: repr(b"'" + v.encode())[3:-1],
}
BASE64: dict[str, Callable[[bytes], str]] = {
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "base64_in_url": lambda raw: quote(base64.b64encode(raw).decode(), safe=""),
    "base64_in_json": lambda raw: base64.b64encode(raw).decode().replace("/", "\\/"),
    "mime": lambda raw: base64.encodebytes(raw).decode(),
    "mime_in_json": lambda raw: json.dumps(base64.encodebytes(raw).decode())[1:-1],
}
PUNCTUATION = "\"\\/+=&<>%'\n\t {}[]:,;-_.~*!?#@é€😀"
secrets = st.text(
    st.one_of(st.sampled_from(PUNCTUATION), st.characters(codec="utf-8", exclude_characters="\0")),
    min_size=4,
    max_size=40,
).filter(lambda v: len(v.strip()) >= 4 and v.strip() not in MARK)
surroundings = st.text(max_size=30)


def in_base64(text: str) -> list[bytes]:
    """What the Base64 runs of a text may stand for, whatever their alignment."""
    flat = re.sub(r"\\r|\\n|[\r\n]", "", text.replace("\\/", "/"))
    flat = re.sub("%2[bB]", "+", re.sub("%2[fF]", "/", flat))
    found = []
    for spelled in re.findall(r"[A-Za-z0-9+/_-]+", flat):
        run = spelled.replace("-", "+").replace("_", "/")
        for start in range(4):
            part = run[start:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            found.append(base64.b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@given(secret=secrets, before=surroundings, after=surroundings)
@example(secret='a"\\b/c', before="\\", after="\\")
@example(secret='\\"\\"\\"', before="", after="")
@example(secret="&amp;&amp;", before="", after="")
@example(secret="    key4", before="", after="")
@example(secret="123456", before="", after="")
def test_no_value_is_left_in_any_encoding(encode: Encode, secret, before, after):
    encoded = encode(secret.strip())
    scrubber = Scrubber([("key", secret)])
    clean = scrubber.clean(before + encoded + after)
    assert secret.strip() not in clean
    assert encoded not in clean
    assert scrubber.clean(clean) == clean


@pytest.mark.parametrize("encode", BASE64.values(), ids=BASE64)
@given(secret=secrets, before=st.binary(max_size=80), after=st.binary(max_size=80))
@example(secret="\xfb\xef\xbe\xfb\xef\xbe", before=b"", after=b"")
@example(secret="hunter2", before=b"user:", after=b"")
def test_no_value_is_left_in_a_longer_base64_text(encode, secret, before, after):
    raw = secret.strip().encode()
    encoded = encode(before + raw + after)
    clean = Scrubber([("key", secret)]).clean(f"Authorization: Basic {encoded}")
    assert MARK in clean
    assert not any(raw in found for found in in_base64(clean.split("Basic ")[1]))


def test_the_oracle_of_the_base64_tests_sees_values():
    for encode in BASE64.values():
        for before in (b"", b"x", b"xy", b"x" * 70):
            assert any(b"hunter2" in found for found in in_base64(encode(before + b"hunter2!")))


@given(st.text(max_size=200))
def test_a_text_without_a_value_is_the_same_object(text):
    scrubber = Scrubber([("key", "\U00012345never-here")])
    assert scrubber.clean(text) is text


@given(st.lists(secrets, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=6))
def test_no_value_is_left_where_values_overlap_or_hold_each_other(values, order):
    values += [values[0][:-1] + "tail", values[0] + values[-1]]
    values = [v for v in values if len(v.strip()) >= 4 and v.strip() not in MARK]
    scrubber = Scrubber([("key", value) for value in values])
    text = "".join(values[place % len(values)] for place in order) if values else ""
    clean = scrubber.clean(text)
    assert not any(value.strip() in clean for value in values)


def test_the_longest_of_overlapping_values_gives_its_name():
    scrubber = Scrubber([("short", "secret"), ("long", "secret-token"), ("next", "token-99")])
    assert scrubber.clean("a secret-token b") == "a <credential:long> b"
    assert scrubber.clean("a secret-token-99 b") == "a <credential:long> b"
    assert scrubber.clean("a secret b") == "a <credential:short> b"


def test_a_value_that_the_placeholders_make_up_is_taken_out_too():
    scrubber = Scrubber([("k", "inner-value"), ("j", "x<credential:k>y")])
    assert scrubber.clean("xinner-valuey") == "<credential:j>"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"pin": 123456, "n": 1.5}', {"pin": "<credential:pin>", "n": 1.5}),
        ('{"pins": [123456, true, null]}', {"pins": ["<credential:pin>", True, None]}),
        ('{"a": "x123456y"}', {"a": "x<credential:pin>y"}),
        ('{"123456": 1}', {"<credential:pin>": 1}),
    ],
)
def test_a_json_text_stays_json(text, wanted):
    assert json.loads(Scrubber([("pin", "123456")]).clean(text)) == wanted


def test_a_json_text_whose_signs_are_the_value_loses_its_form_and_the_value():
    scrubber = Scrubber([("odd", '"a":1')])
    assert '"a":1' not in scrubber.clean('{"a":1,"b":2}')


def test_a_number_that_is_no_json_is_taken_out_as_text():
    assert Scrubber([("pin", "123456")]).clean("123456") == "<credential:pin>"


def test_lone_surrogates_around_a_value_do_no_harm():
    assert Scrubber([("k", "hunter2")]).clean("\ud800hunter2\udfff") == "\ud800<credential:k>\udfff"


def test_hostile_texts_take_no_time_without_bound():
    """Each of these would take minutes if one pattern could match in several ways."""
    hostile = ["\\" * 20_000, '\\"' * 10_000, "&amp;" * 5_000, "%25" * 9_000, "A\n" * 9_000]
    for secret in ['\\"' * 20, "\\" * 30, "\\\n" * 9, "&amp;" * 9, '"' * 30, "%25%25%25%"]:
        scrubber = Scrubber([("k", secret + "x")])
        for text in hostile:
            assert scrubber.clean(text) == text


def test_every_part_of_a_message_is_cleaned():
    scrubber = Scrubber([("k", "hunter2")])
    request = ToolRequest("id-hunter2", "get-hunter2", '{"q":"hunter2"}')
    dirty = Message("user", "is hunter2", (request,), "call-hunter2", "name-hunter2")
    assert scrubber.clean_message(dirty) == Message(
        "user",
        "is <credential:k>",
        (ToolRequest("id-<credential:k>", "get-<credential:k>", '{"q":"<credential:k>"}'),),
        "call-<credential:k>",
        "name-<credential:k>",
    )
    clean = Message("user", "nothing")
    assert scrubber.clean_message(clean) is clean


def test_a_scrubber_without_values_changes_nothing():
    scrubber = Scrubber([])
    assert scrubber.clean("anything") == "anything"
    assert scrubber.holds("anything") is False
