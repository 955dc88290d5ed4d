"""Values that nobody should give a recorder, and how much of one came back."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections import OrderedDict, deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pyarrow as pa

from flightlog.trace.foreign import value_text
from tests.torture.size import sized

CASES = sized(100, 10_000)
"""Values that each property test goes through."""


class Raising:
    """Every way to look at it raises."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("do not look at me")

    __repr__ = __str__ = __iter__ = __len__ = __bool__ = __eq__ = __getattr__ = _raise  # type: ignore[assignment]
    __int__ = __float__ = __index__ = __bytes__ = __format__ = __getitem__ = _raise

    def __hash__(self) -> int:
        return 7


class Lying:
    """Answers with nonsense wherever an answer is expected."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return str

    def __repr__(self) -> Any:  # type: ignore[override]
        return 5

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 7

    def __iter__(self) -> Any:
        while True:
            yield self


class HugeRepr:
    def __repr__(self) -> str:
        return "x" * 3_000_000


class LyingDict(dict[Any, Any]):
    def items(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no items")

    def __iter__(self) -> Any:
        while True:
            yield "again"


class LyingText(str):
    def encode(self, *_: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("no bytes")

    def __len__(self) -> int:
        return 10**12

    __slots__ = ()


class HostileType(type):
    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(metaclass=HostileType):
    pass


class Answering:
    """Has every attribute, and each is itself."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self


class EndlessMapping(Mapping[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        return key

    def __iter__(self) -> Any:
        while True:
            yield "again"

    def __len__(self) -> int:
        return 10**18


class LyingInt(int):
    def _raise(self, *_: object) -> Any:
        raise RuntimeError("no number")

    __int__ = __index__ = __repr__ = bit_length = _raise


class LyingList(list[Any]):
    def __iter__(self) -> Any:
        while True:
            yield 1

    def __len__(self) -> int:
        raise RuntimeError("no length")


class OddZone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> Any:
        raise RuntimeError("no offset")

    def tzname(self, _: Any) -> str:
        return "\x1b[2J"


class FarZone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> Any:
        return datetime.timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999)

    def dst(self, _: Any) -> Any:
        return None


class EqualToNone(str):
    """A key that no look-up finds."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1


def released() -> memoryview:
    view = memoryview(bytearray(b"x"))
    view.release()
    return view


class Model:
    def model_dump(self) -> Any:
        raise ValueError("cannot be dumped")


class Colour(enum.Enum):
    RED = "red"
    ODD = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Order:
    id: str
    total: Any
    lines: Any = ()


def deep(kind: str, levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind == "dict" else ((value,) if kind == "tuple" else [value])
    return value


def within_itself(kind: str) -> Any:
    value: Any = {} if kind == "dict" else []
    if kind == "dict":
        value["self"] = value
    else:
        value.append([value])
    return value


def doubling(times: int) -> Any:
    value: Any = [1]
    for _ in range(times):
        value = [value, value]
    return value


def _generator() -> Any:
    yield 1


MAKERS: list[Any] = [
        Raising, Lying, HugeRepr, Nameless, Model, object, _generator,
        lambda: LyingDict(a=1), lambda: LyingText("text"), lambda: Colour.RED, lambda: Colour.ODD,
        lambda: Level.HIGH, lambda: Decimal("NaN"), lambda: Decimal("1E+5000"),
        lambda: deep("dict", 10_000), lambda: deep("list", 10_000), lambda: deep("tuple", 300),
        lambda: deep("dict", 99), lambda: deep("dict", 101), lambda: within_itself("dict"),
        lambda: within_itself("list"), lambda: doubling(60), lambda: 10**5_000,
        lambda: -(10**5_000), lambda: 10**4_299, lambda: memoryview(b"abc")[::2],
        lambda: "\x00" * 20_000, lambda: "\ud83d\ude00" * 9_000, lambda: "é" * 9_000,
        lambda: bytearray(b"\xff\x00"), lambda: type, lambda: len, lambda: print,
        lambda: OrderedDict(b=1, a=2), lambda: deque([1, 2]), lambda: Order("1", float("nan")),
        lambda: {1: "a", "1": "b", None: "d"}, lambda: {chr(0xD800): 1, chr(0xDBFF): 2},
        lambda: {(1, 2): 3, frozenset({4}): 5}, lambda: {Raising(): 1}, lambda: range(5),
        lambda: iter([1, 2]), lambda: Exception("x"), lambda: NotImplemented, lambda: ...,
        Answering, EndlessMapping, lambda: LyingInt(5), lambda: LyingList([1]), released,
        lambda: datetime.datetime(2020, 1, 1, tzinfo=OddZone()),
        lambda: datetime.time(1, tzinfo=FarZone()), lambda: {EqualToNone("a"): 1},
        lambda: -0.0, lambda: {"a": [-0.0]}, lambda: np.float64("nan"), lambda: np.int64(5),
        lambda: np.bool_(1), lambda: np.datetime64("2020-01-01"), lambda: np.zeros((100, 100)),
        lambda: np.array([{"a": 1}], dtype=object), lambda: np.str_("\ud800"),
        lambda: np.bytes_(b"\xff"), lambda: np.longdouble("1e4000"), lambda: np.void(b"abc"),
        lambda: pl.DataFrame({"a": [1]}), lambda: pl.Series([None]), lambda: pl.lit(1),
        lambda: pa.table({"a": [1]}), lambda: pa.scalar(5), lambda: pa.py_buffer(b"abc"),
        lambda: {"'; DROP TABLE runs; --": 1, "<script>alert(1)</script>": 2, "\x1b[2J": 3},
]  # fmt: skip
# By number, since hypothesis itself looks at what it picks from.
_SPECIAL = st.integers(0, len(MAKERS) - 1).map(lambda number: MAKERS[number]())

TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
"""Any characters, lone surrogates and NUL among them."""
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    TEXTS,
    st.binary(max_size=30),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.uuids(),
)
_KEYS = st.one_of(
    TEXTS, st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=4)
)


def _containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(TEXTS, children, max_size=4),
        st.dictionaries(_KEYS, children, max_size=4),
        st.tuples(children, children),
        st.frozensets(_KEYS, max_size=4),
        st.sets(_KEYS, max_size=4),
        st.builds(Order, TEXTS, children, st.lists(children, max_size=2)),
    )


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ANY_VALUES = st.one_of(
    JSON_VALUES,
    _SPECIAL,
    st.recursive(st.one_of(_SCALARS, _SPECIAL), _containers, max_leaves=8),
)


class Box:
    """Holds a value that hypothesis must not look at: it prints what fails."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Box({value_text(self.value)[0][:200]!a})"


BOXES = ANY_VALUES.map(Box)


def same(one: Any, other: Any) -> bool:
    """True when both are equal JSON of the same types (a float may have become an int)."""
    if type(one) is not type(other):
        numbers = {type(one), type(other)} == {int, float}
        return numbers and one == other
    if type(one) is dict:
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
