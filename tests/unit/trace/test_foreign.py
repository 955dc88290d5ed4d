"""Any value as text: what is kept, what is flagged, what is never done to it."""

from __future__ import annotations

import datetime
import enum
import json
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from flightlog.trace.canonical import canonical_args
from flightlog.trace.foreign import MAX_ARGS_BYTES, args_fields, value_text
from flightlog.trace.foreign_writer import (
    MAX_LEVELS,
    MAX_ODD_PARTS,
    MAX_SHOWN_CHARS,
    MAX_VALUE_BYTES,
)


@dataclass
class Order:
    id: str
    lines: tuple[int, ...] = ()


class Point(msgspec.Struct):
    x: int


class Model:
    """Stands for a pydantic model."""

    def model_dump(self) -> dict[str, Any]:
        return {"name": "a"}


class Colour(enum.Enum):
    RED = "red"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", ["", "text", "\x00", "NaN", '{"a":1}'])
def test_text_is_itself_without_a_flag(value: str) -> None:
    assert value_text(value) == (value, None)


@pytest.mark.parametrize(
    "value",
    [0, -1.5, True, False, None, [], {}, {"b": 1, "a": [None, {"c": "é"}]}, [10**4000], 1e308],
)
def test_plain_json_comes_back_as_it_was(value: Any) -> None:
    text, flag = value_text(value)
    assert (json.loads(text), flag) == (value, "json")


@pytest.mark.parametrize(
    ("value", "text", "flag"),
    [
        ((1,), "[1]", "tuple as a list"),
        ({"b", "a"}, '["a","b"]', "set as a list"),
        ({1: 2}, '{"1":2}', "keys as text"),
        ({1: 2, "1": 3}, '{"1 (int 2)":2,"1":3}', "keys as text; equal keys renamed"),
        ({None: 1, True: 2}, '{"null":1,"true":2}', "keys as text"),
        ([float("inf"), float("nan")], '["+Infinity","NaN"]', "NaN and infinities as text"),
        (b"ok", "ok", "bytes as text"),
        ([b"\xff"], '["\\\\xff"]', "bytes as text with escapes"),
        (Order("a", (1,)), '{"id":"a","lines":[1]}', "Order as an object; tuple as a list"),
        (Point(1), '{"x":1}', "Point as an object"),
        (Model(), '{"name":"a"}', "Model as an object"),
        (OrderedDict(a=1), '{"a":1}', "OrderedDict as an object"),
        ([Colour.RED], '["red"]', "Colour as its value"),
        (Decimal("1.10"), "1.10", "Decimal as text"),
        (datetime.date(2026, 1, 2), "2026-01-02", "date as text"),
        (["\ud800"], '["\ufffd\ufffd\ufffd"]', "lone surrogates as U+FFFD"),
        ([10**5000], f'["{hex(10**5000)}"]', "integers above 4,300 digits in hexadecimal"),
        (print, "<built-in function print>", "builtin_function_or_method as its repr"),
    ],
)
def test_all_else_is_flagged_with_what_was_changed(value: Any, text: str, flag: str) -> None:
    assert value_text(value) == (text, f"lossy: {flag}")


def test_generator_is_not_consumed() -> None:
    numbers = (number for number in range(3))
    text, flag = value_text({"items": numbers})
    assert "generator object" in text
    assert flag == "lossy: generator as its repr"
    assert list(numbers) == [0, 1, 2]


def test_address_of_an_object_is_left_out_so_that_equal_calls_look_equal() -> None:
    assert value_text(object())[0] == value_text(object())[0] == "<object object>"


def test_value_within_itself_ends() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert value_text(value)[1] == "lossy: a value within itself"
    assert json.loads(value_text(value)[0])[0] == 1


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 10_000])
def test_deep_value_is_kept_to_its_hundredth_level(levels: int) -> None:
    text, flag = value_text(nested(levels))
    assert flag == f"lossy: nested deeper than {MAX_LEVELS} levels"
    assert json.loads(text)
    assert value_text(nested(MAX_LEVELS))[1] == "json"


def test_value_of_endless_parts_is_cut_and_stays_json() -> None:
    value: Any = [1]
    for _ in range(90):
        value = [value, value]
    text, flag = value_text(value)
    assert flag == "lossy: the rest is cut"
    assert len(text) < 10 * MAX_ODD_PARTS
    assert json.loads(text)


@pytest.mark.parametrize("sign", ["a", "é", "\x00", '"'])
def test_long_value_is_cut_and_stays_json(sign: str) -> None:
    text, flag = value_text({"key": sign * MAX_VALUE_BYTES, "more": 1})
    assert flag == "lossy: the rest is cut"
    assert len(text.encode()) < MAX_VALUE_BYTES * 1.5
    assert set(json.loads(text)) == {"key"}


def test_wide_text_close_to_the_limit_is_still_plain() -> None:
    assert value_text(["é" * (MAX_VALUE_BYTES // 2 - 10)])[1] == "json"


def test_long_repr_is_cut() -> None:
    class Chatty:
        def __repr__(self) -> str:
            return "x" * 10_000_000

    text, flag = value_text([Chatty()])
    assert len(text) < MAX_SHOWN_CHARS + 10
    assert flag is not None
    assert "cut after" in flag


def test_error_of_the_value_is_named_and_the_rest_is_kept() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    text, flag = value_text({"a": Broken(), "b": 1})
    assert json.loads(text) == {"a": "<Broken that cannot be shown>", "b": 1}
    assert flag == "lossy: Broken as its repr; RuntimeError from Broken"


def test_keyboard_interrupt_of_a_value_is_the_users_and_goes_on() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        value_text(Interrupted())


def test_arguments_that_are_an_object_are_canonical() -> None:
    given = {"b": 1.0, "a": [True, None]}
    clean = canonical_args(given)
    assert args_fields(given) == {
        "args": clean.text,
        "args_digest": clean.digest,
        "args_flag": None,
    }


def test_arguments_of_other_types_have_the_digest_of_what_they_mean() -> None:
    lossy = args_fields({"at": (1, 2)})
    assert lossy["args_flag"] == "lossy: tuple as a list"
    assert lossy["args_digest"] == canonical_args({"at": [1, 2]}).digest
    assert args_fields([1])["args_flag"] == "not_an_object"


def test_long_arguments_are_cut_as_json() -> None:
    found = args_fields({"content": "x" * (2 * MAX_ARGS_BYTES), "path": "a"})
    assert found["args_flag"] == "lossy: the rest is cut"
    assert json.loads(found["args"] or "")["content"].startswith("xxx")
