"""Texts with pseudonyms: the same for the same value, JSON stays JSON, once is enough."""

from __future__ import annotations

import base64
import itertools
import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flightlog.errors import ConfigError, UnknownNameError
from flightlog.redact.policy import Capture, Redaction
from flightlog.redact.pseudonyms import PSEUDONYM, Pseudonyms, key_ids
from flightlog.redact.redactor import Redactor
from flightlog.redact.stream import HELD_BYTES, StreamRedactor
from flightlog.trace.canonical import canonical_args
from flightlog.trace.messages import Message, ToolRequest
from tests.unit.redact.canaries import CANARIES, EVERYTHING, found_in

REDACTOR = Redactor(Redaction(emails=True, phones=True, max_seconds=600), Pseudonyms(b"k" * 32))
VALUES = [one.planted for one in CANARIES if one.name not in ("environment", "given")]
PARTS = st.one_of(
    st.sampled_from([*VALUES, "4539578763621486", "<secret:00112233445566778899>", "password="]),
    st.text(st.sampled_from('aZ09 "\\{}[]:,=<>@.-_/%+\n\té😀'), max_size=12),
    st.text(max_size=8),
)
TEXTS = st.lists(PARTS, max_size=8).map("".join)
PROSE = st.text(st.sampled_from('aZ "\\{}[]:,=<>@.-_/%+\n\té😀'), max_size=30)
JSONS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([4539578763621486, 5105105105105100]),
        TEXTS,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(TEXTS, st.sampled_from(["password", "api_key", "token", "cookie", "card"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def clean(text: str, redactor: Redactor = REDACTOR) -> str:
    return redactor.clean(text)


@given(TEXTS)
def test_a_redacted_text_is_left_alone(text) -> None:
    once = clean(text)
    assert clean(once) == once


@example(
    {
        "password": {
            "": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
            "\n-----END PRIVATE KEY-----postgres://app:c4nary-url-pw@db.example/app"
        }
    }
)
@given(JSONS)
def test_json_stays_json_and_is_left_alone_after(value) -> None:
    document = {"value": value}
    for text in (json.dumps(document), json.dumps(document, ensure_ascii=False, indent=1)):
        once = clean(text)
        json.loads(once)
        assert clean(once) == once
    nested = json.dumps({"a": json.dumps({"b": json.dumps(document)})})
    json.loads(json.loads(json.loads(clean(nested))["a"])["b"])


@given(st.sampled_from(CANARIES[:21]), PROSE, PROSE)
def test_no_surroundings_hide_a_secret(canary, before, after) -> None:
    text = f"{before} \n{canary.planted}\n {after}"
    assert canary.name not in found_in(clean(text).encode())


@given(st.sampled_from(VALUES), TEXTS, TEXTS)
def test_equal_values_have_equal_pseudonyms(secret, one, other) -> None:
    made = set(PSEUDONYM.findall(clean(f" {secret} ").encode()))
    for text in (json.dumps({"x": f" {secret} "}), f"\n{secret} \n"):
        assert set(PSEUDONYM.findall(clean(text).encode())) == made


def test_other_keys_make_other_pseudonyms_and_tell_so() -> None:
    other = Redactor(Redaction(), Pseudonyms(b"o" * 32))
    texts = [clean("4539578763621486"), clean("4539578763621486", other)]
    assert texts[0] != texts[1]
    assert key_ids(texts[0]) == {REDACTOR.pseudonyms.key_id} != key_ids(texts[1])


@pytest.mark.parametrize(
    "text",
    [
        '{"card":4539578763621486,"n":1}',
        '{"card": 4539578763621486}',
        "[4539578763621486]",
        "[1, 4539578763621486, 2]",
        "4539578763621486",
        '{"a":[{"password":12345678}]}',
        '{"a":"{\\"card\\":4539578763621486}"}',
        '{"a":1e5,"a":2,"card":[4539578763621486]}',
    ],
)
def test_a_number_that_is_replaced_becomes_a_text(text) -> None:
    after = clean(text)
    assert "4539578763621486" not in after
    assert "12345678" not in after
    if text != "4539578763621486":
        json.loads(after)


def test_what_is_not_replaced_keeps_its_spelling() -> None:
    text = '{"big": 1.50, "a": 1E5, "a": 2, "cards": [4539578763621486], "x": 12345678901234567890}'
    after = clean(text)
    for part in ("1.50", "1E5", '"a":2', "12345678901234567890"):
        assert part in after


@given(TEXTS, st.lists(st.integers(0, 200), max_size=6))
def test_a_text_in_parts_comes_out_as_the_whole(text, cuts) -> None:
    # Long enough that parts are given before the end, and cut anywhere.
    whole = f"{text} ... {'lorem ipsum ' * 4_000}{text} . {'dolor sit ' * 3_000}{text}"
    places = sorted({0, len(whole), *(len(whole) * cut // 200 for cut in cuts)})
    stream = StreamRedactor(REDACTOR)
    parts = [stream.feed(whole[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join([*parts, stream.close()]) == REDACTOR.text(whole, REDACTOR.work()).text


@pytest.mark.parametrize("canary", CANARIES[:21], ids=lambda one: one.name)
def test_a_secret_that_is_cut_between_two_parts_is_found(canary) -> None:
    filler = "some words of an answer " * (2 * HELD_BYTES // 20)
    text = f"{filler}\n{canary.planted}\n{filler}"
    start = len(filler)
    for cut in range(start, start + len(canary.planted) + 2):
        stream = StreamRedactor(REDACTOR)
        out = stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.close()
        assert canary.name not in found_in(out.encode())
        assert stream.values


def test_a_stream_holds_back_only_what_it_must() -> None:
    stream = StreamRedactor(REDACTOR)
    given_chars = sum(len(stream.feed("word " * 1000)) for _ in range(100))
    assert given_chars >= 500_000 - 3 * HELD_BYTES


def test_a_long_text_without_secrets_is_the_same_object() -> None:
    text = "word " * 500_000
    assert REDACTOR.text(text, REDACTOR.work(len(text))).text is text


def test_a_long_text_is_redacted_as_a_short_one() -> None:
    long = "word " * 300_000
    after = REDACTOR.text(long + EVERYTHING + long, REDACTOR.work(3_000_000))
    names = {"environment", "given"}
    assert set(found_in(after.text.encode())) <= names
    assert after.values >= 22


def test_known_values_are_found_in_every_encoding(redactor_of) -> None:
    secret = 'pa/ss"w+or=d é'
    redactor = redactor_of(values=(secret,))
    pseudonym = redactor.clean(secret)
    assert pseudonym.startswith("<secret:")
    raw = secret.encode()
    for text in (
        json.dumps({"a": secret}),
        json.dumps(json.dumps({"a": secret})),
        raw.hex(),
        base64.b64encode(b"x" + raw).decode(),
        base64.encodebytes(b"y" * 50 + raw + b"z" * 50).decode(),
        f"https://x/?q={json.dumps(secret)}",
    ):
        assert pseudonym in redactor.clean(text), text


def test_variables_with_secret_names_are_known(redactor_of) -> None:
    environ = {
        "CRM_API_KEY": "abc123def456",
        "MODE_TOKEN": "production",
        "HOME": "/home/x9y8z7w6",
        "PLAIN": "notnamed1234",
    }
    redactor = redactor_of(environ)
    assert "abc123def456" not in redactor.clean("use abc123def456 now")
    for text in ("production", "/home/x9y8z7w6", "notnamed1234"):
        assert redactor.clean(text) == text
    assert "notnamed1234" not in redactor_of(environ, env=("PLA*",)).clean("notnamed1234")
    off = redactor_of(environ, environment=False)
    assert off.clean("use abc123def456 now") == "use abc123def456 now"


def test_a_known_value_has_the_pseudonym_of_its_shape(redactor_of) -> None:
    key = "ghp_" + "a1B2" * 9
    assert redactor_of({"GITHUB_TOKEN": key}).clean(key) == redactor_of().clean(key)


def test_own_patterns_names_and_kinds(redactor_of) -> None:
    redactor = redactor_of(
        patterns={"customer": r"CUST-\d{6}"},
        key_names=("patient_id",),
        ignored_names=("session_token",),
        off=("card",),
    )
    after = redactor.clean('{"patientId":"p17","session_token":"abc123def456","c":"CUST-123456"}')
    assert "p17" not in after
    assert "abc123def456" in after
    assert "<customer:" in after
    assert redactor.clean("4539578763621486") == "4539578763621486"
    assert redactor.clean(after) == after


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ({"patterns": {"x": r"(?=a)"}}, ConfigError),
        ({"patterns": {"x": r"a*"}}, ConfigError),
        ({"patterns": {"X Y": "a"}}, ConfigError),
        ({"off": ("cards",)}, UnknownNameError),
        ({"capture": "some"}, UnknownNameError),
        ({"values": ("abc",)}, ConfigError),
        ({"key_names": ("--",)}, ConfigError),
        ({"max_seconds": 0}, ConfigError),
        ({"emails": True, "env": "HOME"}, ConfigError),
    ],
)
def test_a_policy_that_cannot_be_is_refused(policy: dict[str, Any], error) -> None:
    with pytest.raises(error):
        Redaction(**policy)


def test_a_policy_shows_no_value() -> None:
    assert "hunter2" not in repr(Redaction(values=("hunter2",)))
    assert Redaction(capture=Capture("full")).capture is Capture.FULL


def test_messages_and_arguments_keep_their_form() -> None:
    message = Message("user", "card 4539578763621486", (ToolRequest("1", "pay", '{"a":1}'),))
    after, values = REDACTOR.message(message, REDACTOR.work())
    assert (values, after.tool_requests) == (1, message.tool_requests)
    plain = Message("user", "hello")
    assert REDACTOR.message(plain, REDACTOR.work())[0] is plain
    args = canonical_args({"card": "4539578763621486", "b": 1})
    kept = REDACTOR.args(args)
    assert kept == canonical_args(kept.text)
    assert kept.value["b"] == 1
    assert REDACTOR.args(kept) == kept


def test_what_holds_keys_is_not_pickled() -> None:
    for one in (REDACTOR, REDACTOR.pseudonyms):
        with pytest.raises(TypeError):
            pickle.dumps(one)
        assert "kkkk" not in repr(one)


def test_the_version_of_a_policy_tells_policies_apart_and_shows_no_value() -> None:
    versions = [
        Redaction().version,
        Redaction(emails=True).version,
        Redaction(off=("card",)).version,
        Redaction(patterns={"x": "abc"}).version,
        Redaction(values=("hunter2",)).version,
    ]
    assert len(set(versions)) == len(versions)
    assert Redaction().version == Redaction(max_seconds=9, key_file="other").version
    assert Redaction(values=("hunter2",)).version == Redaction(values=("another",)).version
