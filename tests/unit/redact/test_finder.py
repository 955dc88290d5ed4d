"""What is found, what is left alone, and that looking for it stays linear."""

from __future__ import annotations

import contextlib
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.redact import checks
from flightlog.redact.finder import KINDS, Finder
from flightlog.redact.finds import SlowError, Work
from flightlog.redact.named import LIST
from flightlog.redact.patterns import SECRETS
from flightlog.trace.events import ToolCall, encode_event

FINDER = Finder(emails=True, phones=True)
SURROUNDINGS = (
    "{}",
    "the key is {}.",
    "({})",
    "\n{}\n",
    "a,{},b",
    'say "{}"',
    json.dumps({"a": "{}"}).replace("{}", "{}"),
    json.dumps({"a": json.dumps({"b": "x\n{}"})}),
    "https://api.example/v1?x={}&y=1",
    "a%20{}%20b",
)


def work(steps: int = 1 << 40) -> Work:
    return Work(math.inf, steps=steps)


def found(text: str, finder: Finder = FINDER) -> list[str]:
    data = text.encode()
    finds = (one for one in finder.finds(data, work()) if one.rule != LIST)
    return [data[one.start : one.end].decode() for one in finds]


def kinds(text: str) -> list[str]:
    return [one.kind for one in FINDER.finds(text.encode(), work())]


@pytest.mark.parametrize("around", SURROUNDINGS)
@pytest.mark.parametrize("pattern", SECRETS, ids=lambda one: one.kind)
def test_every_shape_is_found_wherever_it_stands(pattern, around) -> None:
    for example in pattern.examples:
        text = found(around.replace("{}", example))
        assert example in [one.removesuffix("%20b") for one in text]


@pytest.mark.parametrize("pattern", SECRETS, ids=lambda one: one.kind)
def test_a_kind_that_is_off_is_left_alone(pattern) -> None:
    off = Finder(off=[*KINDS])
    for example in pattern.examples:
        assert found(example, off) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"password":"hunter2","user":"bob"}',
        '{"password" : "hunter2"}',
        '{"user":{"new_password":"hunter2"}}',
        '{"dbPassword":"hunter2"}',
        '{"Password2":"hunter2"}',
        json.dumps({"a": json.dumps({"b": json.dumps({"password": "hunter2"})})}),
        "{'password': 'hunter2'}",
        "password=hunter2",
        "PASSWORD = hunter2",
        "password: hunter2",
        "db_password: 'hunter2'",
        "url?user=bob&password=hunter2&x=1",
        "user%3Dbob%26password%3Dhunter2",
        "mysql --password hunter2 -u bob",
        "mysql --password=hunter2",
        "<password>hunter2</password>",
        "postgres://bob:hunter2@db/app",
        "https:\\/\\/bob:hunter2@db\\/app",
        "line one\\npassword=hunter2\\nline three",
        '{"headers":{"Set-Cookie":"hunter2"}}',
        '{"x-api-key":"hunter2"}',
        '{"client_secret":"hunter2"}',
        '{"aws_secret_access_key":"hunter2"}',
    ],
)
def test_a_value_under_a_secret_name_is_found(text) -> None:
    assert found(text) == ["hunter2"]


@pytest.mark.parametrize(
    "text",
    [
        '{"max_tokens":4096,"total_tokens":17,"token_count":3,"tokenizer":"o200k"}',
        '{"next_page_token":"CAUQAA12345678901","pageToken":"CAUQAA12345678901"}',
        '{"prompt_tokens":{"cached":12},"cost_per_token":0.1}',
        '{"token":"Hello","logprob":-0.25}',
        '{"password":null,"api_key":"","secret":true,"token":""}',
        '{"type":"object","properties":{"password":{"type":"string"}},"required":["password"]}',
        '{"password":"********","api_key":"${API_KEY}","secret":"{{secret}}"}',
        '{"password_policy":"at least 12","password_changed_at":"2024-01-01"}',
        '{"primary_key":"id17","sort_key":"a1b2c3d4","public_key":"a1b2c3d4e5"}',
        "the secret: the chef uses butter",
        "Password: must be at least 8 characters",
        "token = get_token()",
        "connect(user=user, password=raw_password, cookies=None, stream=False)",
        "api_key = 'YOUR_API_KEY'; headers = {'Authorization': 'Bearer GEOCODE-API-KEY'}",
        "if user.password == password: return True",
        "p.expect('Password:')\n p.sendline('x')",
        "Chocolate Chip Cookies:\n\n - 1 cup butter",
        "reset your password: https://mail.example/reset",
        "- Basic Operations: the calculator",
        '{"update_password": 2}',
        "password = os.environ",
        "basic information about bearer instruments",
        "task-management-system-for-2024",
        "the risk-adjusted return, disk-usage-report-2024-01",
        "http://localhost:8080/a@b and http://host:80/",
        "2024-05-06 07:08:09.123456 order 1234567890123456",
        "550e8400-e29b-41d4-a716-446655440000",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "0.4111111111111111 and 1.4539578763621486",
        "4111111111111112",
        "GB29NWBK60161331926818",
        "price 4,539.57 for 8 763 621 units",
        "<credential:token> <secret:00112233445566778899>",
    ],
)
def test_what_only_looks_like_a_secret_is_left_alone(text) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4539578763621486", "4539578763621486"),
        ("card 4539 5787 6362 1486 exp 12/27", "4539 5787 6362 1486"),
        ("4539-5787-6362-1486", "4539-5787-6362-1486"),
        ("card=4539+5787+6362+1486&x=1", "4539+5787+6362+1486"),
        ("card=4539%205787%206362%201486", "4539%205787%206362%201486"),
        ("3782 822463 10005", "3782 822463 10005"),
        ("5105 1051 0510 5100 4539 5787 6362 1486", "5105 1051 0510 5100"),
        ("GB29 NWBK 6016 1331 9268 19 thanks", "GB29 NWBK 6016 1331 9268 19"),
        ("DE89370400440532013000", "DE89370400440532013000"),
        ("\\u00e94539578763621486", "4539578763621486"),
        ("write to Bob.Smith+x@mail.example.org.", "Bob.Smith+x@mail.example.org"),
        ('{"a":"x\\nbob@mail.example"}', "bob@mail.example"),
        ("call +49 170 1234567 now", "+49 170 1234567"),
        ("call (415) 555-2671 now", "(415) 555-2671"),
    ],
)
def test_personal_values_are_found_by_shape_and_checksum(text, value) -> None:
    assert value in found(text)


def test_a_private_key_behind_its_name_is_found_to_its_end() -> None:
    text = "PRIVATE_KEY=-----BEGIN PRIVATE KEY-----\nMIIEabc\n-----END PRIVATE KEY-----\nx=1"
    assert found(text) == [text.partition("=")[2].removesuffix("\nx=1")]


def test_addresses_and_telephones_are_only_looked_for_where_asked() -> None:
    text = "bob@mail.example +49 170 1234567"
    assert found(text, Finder()) == []


def test_one_value_is_one_value_however_it_is_written() -> None:
    texts = ["4539578763621486", "4539 5787 6362 1486", "4539-5787-6362-1486"]
    values = {one.value for text in texts for one in FINDER.finds(text.encode(), work())}
    assert values == {b"4539578763621486"}
    assert kinds('{"token":"ghp_' + "a1B2" * 9 + '"}') == ["github_token"]
    quoted = {
        json.dumps({"password": 'a"b\\c'}),
        json.dumps({"x": json.dumps({"password": 'a"b\\c'})}),
    }
    assert {one.value for t in quoted for one in FINDER.finds(t.encode(), work())} == {b'a"b\\c'}


@given(st.text(st.sampled_from("0123456789"), min_size=1, max_size=18))
def test_every_number_has_one_luhn_digit(digits) -> None:
    fitting = [d for d in "0123456789" if checks.passes_luhn((digits + d).encode())]
    assert len(fitting) == (1 if digits.strip("0") else 0)


PLANTS = st.sampled_from(
    ["4539578763621486", "sk-ant-api03-" + "aB3" * 9, '"password":"hunter2x"', "password=hunter2x"]
)


@given(st.text(max_size=40), PLANTS, st.text(max_size=40))
def test_what_is_found_in_a_text_is_seen_in_its_encoded_event(before, secret, after) -> None:
    text = f"{before} {secret} {after}"
    event = encode_event(ToolCall(run_id="r", seq=1, result=text))
    nested = encode_event(ToolCall(run_id="r", seq=1, result=json.dumps({"a": json.dumps(text)})))
    if found(text):
        assert FINDER.may_hold(event)
        assert FINDER.may_hold(nested)


SHAPES = {
    "digits": "0123456789",
    "digit groups": "4539 5787",
    "cards": "4539578763621486 ",
    "nearly cards": "4539578763621487 ",
    "keys without end": "sk-",
    "keys": "sk-ant-api03-abcdefghijk ",
    "token heads": "-eyJhbGciOiJ",
    "nearly tokens": " eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi ",
    "names": "password ",
    "names without value": "password=",
    "names with open quote": 'password="',
    "values": "password=hunter2 ",
    "json values": '"password":"x1",',
    "lists": '"password":[',
    "backslashes": "\\",
    "escaped quotes": 'password\\\\"',
    "url heads": "://a:",
    "urls": "://a:b@",
    "bearer": "bearer abcdefgh ",
    "key heads": "-----BEGIN PRIVATE KEY-----",
    "ibans": "DE89370400440532013001 ",
    "addresses": "a@b.c ",
    "telephones": "+49 170 1234567 ",
    "pseudonyms": "<secret:00000000000000001111> ",
    "elements": "<password>",
    "flags": "--password ",
    "encoded": "%3A%20",
    "pairs": '["password", "x1y2z3"], ',
    "fields": '{"name": "token", "value": ',
    "blocks": "password: |\n  x\n",
    "parts of forms": 'name="password"\r\n\r\n',
    "sentences": "the password is ",
    "objects": '{"credentials":{',
    "ends of keys": "\n-----END PRIVATE KEY-----",
    "lines before an end": "AAAABBBBCCCCDDDD\n-----END PRIVATE KEY-----",
    "quoted keys": '> -----BEGIN PRIVATE KEY-----\n> "',
    "web keys": '"d":"AAAABBBBCCCCDDDDEEEEFF',
    "commands": "curl -u a:b ",
    "errors": "[type=x, input_value='",
    "errors with names": "password\n too short [type=x, input_value='",
    "signatures": "?sig=AAAABBBB",
    "escapes": "\\u0041",
    "signs of no width": "a\u200b",
    "masked keys": "sk-***",
}


class Counting(Work):
    """Counts what was spent."""

    def __init__(self) -> None:
        super().__init__(math.inf, steps=1 << 40)
        self.spent = 0

    def candidate(self) -> None:
        self.spent += 100

    def spend(self, looked_at: int) -> None:
        self.spent += looked_at


@pytest.mark.parametrize("name", SHAPES)
def test_the_work_for_hostile_texts_grows_with_their_length_only(name) -> None:
    spent = []
    for size in (40_000, 80_000):
        counting = Counting()
        text = SHAPES[name] * (size // len(SHAPES[name]))
        list(FINDER.finds(text.encode(), counting))
        spent.append(counting.spent)
    if name in ("lists", "token heads", "names with open quote"):
        # A bounded look ahead at each of them: 8 KiB, or 64 KiB.
        assert spent[1] <= 3 * spent[0] + (1 << 27)
    else:
        assert spent[1] <= 2.2 * spent[0] + 10_000


@pytest.mark.parametrize("alphabet", ["0123456789 -", 'paswordtken_:="\\ ', ":/@a", "eyJ.-_"])
def test_random_hostile_texts_end_too(alphabet) -> None:
    text = "".join(random.Random(1).choices(alphabet, k=100_000))
    with contextlib.suppress(SlowError):
        list(FINDER.finds(text.encode(), Work(math.inf)))


def test_a_text_with_too_many_candidates_is_given_up() -> None:
    with pytest.raises(SlowError):
        list(FINDER.finds(b"password=hunter2 " * 9_000, Work(math.inf)))


def test_work_ends_with_its_time() -> None:
    late = Work(10.0, clock=lambda: 11.0)
    with pytest.raises(SlowError):
        list(FINDER.finds(b"password=hunter2 " * 600, late))
