"""Writes any Python value as JSON, or as the text nearest to it, and says what was changed."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import numbers
import operator
import pathlib
import re
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from json.encoder import encode_basestring
from typing import Any, Final

import msgspec

from flightlog.trace.canonical import clean_text
from flightlog.trace.slices import cut_to_bytes, is_valid_utf8, text_slices, utf8_size

MAX_VALUE_BYTES: Final = 1 << 22
"""Longest text, in UTF-8, of a value that is not text itself; a text is kept whole."""
MAX_PARTS: Final = 500_000
"""Most items of lists and objects in a value of plain JSON."""
MAX_ODD_PARTS: Final = 100_000
"""Most of them in any other value, which is looked at item by item."""
MAX_LEVELS: Final = 100
"""Deepest nesting that is kept; what readers of JSON take differs from 128 to 1,000."""
MAX_SHOWN_CHARS: Final = 4_096
"""Longest `repr` of a value that has no JSON form."""
FLAG_JSON: Final = "json"
"""The tool gave a value that was not text, and the text is its JSON, whole."""
LOSSY: Final = "lossy: "
"""Begins every flag of a text that is less than the value."""

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")  # differs from run to run, and tells nothing
_EXACT: Final = frozenset({str, bool, int, float, type(None), dict, list})
_MAX_INT_BITS: Final = 14_000  # Python itself writes and reads up to 4,300 digits
_MAX_NOTES: Final = 8
_SHORT_CHARS: Final = 60
_Children = Iterator[tuple[str | None, Any]]
_name_of_type = type.__dict__["__name__"].__get__
_ELEMENTS: Final = (list, tuple, set, frozenset, deque)
_WRITTEN: Final = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    pathlib.PurePath,
    complex,
)


def type_name(value: Any) -> str:
    """Name of the value's class, whatever the class does to hide it."""
    return clean_text(str(_name_of_type(type(value))))[:_SHORT_CHARS]


def is_plain(value: Any, max_bytes: int = MAX_VALUE_BYTES) -> bool:
    """True when the value is JSON as it stands, and surely within the limits."""
    level, parts, size = [value], 1, 0
    for _ in range(MAX_LEVELS + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                size += len(item) if item.isascii() else 4 * len(item)
            elif kind is dict or kind is list:
                parts += len(item)
                if parts > MAX_PARTS:
                    return False
                if kind is list:
                    below += item
                    continue
                for key in item:
                    if type(key) is not str:
                        return False
                    size += len(key) if key.isascii() else 4 * len(key)
                below += item.values()
            elif not _is_plain_number(item, kind):
                return False
        if size + parts > max_bytes:
            return False
        if not below:
            return True
        level = below
    return False


def _is_plain_number(item: Any, kind: type) -> bool:
    if kind is float:
        return math.isfinite(item)
    if kind is int:
        return bool(item.bit_length() <= _MAX_INT_BITS)
    return item is None or kind is bool


@dataclasses.dataclass(slots=True)
class _Frame:
    """A list or object that is being written."""

    identity: int
    end: str
    children: _Children
    value: Any  # keeps what `identity` names alive
    is_first: bool = True


class ForeignWriter:
    """Writes one value without recursion, so that neither its depth nor the caller's matters."""

    def __init__(self, max_bytes: int = MAX_VALUE_BYTES) -> None:
        self._pieces: list[str] = []
        self._left = max_bytes
        self._parts = MAX_ODD_PARTS
        self._notes: dict[str, None] = {}
        self._frames: list[_Frame] = []

    @property
    def flag(self) -> str:
        """What was changed on the way; `json` where nothing was."""
        notes = list(self._notes)
        if not notes:
            return FLAG_JSON
        more = f" and {len(notes) - _MAX_NOTES} more" if len(notes) > _MAX_NOTES else ""
        return LOSSY + "; ".join(notes[:_MAX_NOTES]) + more

    def text_of(self, value: Any) -> str:
        """The text; `flag` is complete then."""
        if (alone := self._open(self._simpler(value))) is not None:
            # A value that is no list and no object is text as it is, without quotes.
            self._append_text(alone)
        while self._frames:
            frame = self._frames[-1]
            child = next(frame.children, None) if self._has_room() else None
            if child is None:
                self._pieces.append(frame.end)
                self._frames.pop()
                continue
            self._begin(frame, child[0])
            self._write_item(child[1])
        return "".join(self._pieces)

    def _has_room(self) -> bool:
        if self._left > 0 and self._parts > 0:
            return True
        self._note("the rest is cut")
        return False

    def _begin(self, frame: _Frame, key: str | None) -> None:
        if not frame.is_first:
            self._pieces.append(",")
        frame.is_first = False
        self._parts -= 1
        if key is not None:
            self._append_quoted(key)
            self._pieces.append(":")

    def _write_item(self, value: Any) -> None:
        value = self._simpler(value)
        if _is_plain_number(value, type(value)):
            self._append(json.dumps(value))
        elif (text := self._open(value)) is not None:
            self._append_quoted(text)

    def _simpler(self, value: Any) -> Any:
        """Enums as their values, numbers of foreign classes as Python's own."""
        kind = type(value)
        if kind in _EXACT:
            return value
        name = type_name(value)
        try:
            if issubclass(kind, enum.Enum):
                self._note(f"{name} as its value")
                value = value.value
                kind = type(value)
            if kind in _EXACT or issubclass(kind, fractions.Fraction):
                return value
            if issubclass(kind, int):
                number: int | float = int.__int__(value)
            elif issubclass(kind, float):
                number = float.__float__(value)
            elif issubclass(kind, numbers.Integral):
                number = operator.index(value)
            elif issubclass(kind, numbers.Real):
                number = float(value)
            else:
                return value
        except Exception as error:
            self._note(f"{type_name(error)} from {name}")
            return value
        self._note(f"{name} as a number")
        return number

    def _open(self, value: Any) -> str | None:
        """Begins a list or object; the text of what is neither."""
        kind = type(value)
        if kind is str:
            return str(value)
        found = self._children_of(value, kind)
        if found is None:
            return self._scalar(value, kind)
        begin, end, children = found
        if any(frame.identity == id(value) for frame in self._frames):
            self._note("a value within itself")
            return "<the value that holds this>"
        if len(self._frames) >= MAX_LEVELS:
            self._note(f"nested deeper than {MAX_LEVELS} levels")
            return "<nested too deeply>"
        self._pieces.append(begin)
        self._frames.append(_Frame(id(value), end, children, value))
        return None

    def _children_of(self, value: Any, kind: type) -> tuple[str, str, _Children] | None:
        if issubclass(kind, dict):
            if kind is not dict:
                self._note(f"{type_name(value)} as an object")
            return "{", "}", self._named(list(islice(dict.items(value), self._parts + 1)))
        for base in _ELEMENTS:
            if issubclass(kind, base):
                if kind is not list:
                    self._note(f"{type_name(value)} as a list")
                items = list(islice(base.__iter__(value), self._parts + 1))
                return "[", "]", iter([(None, item) for item in _in_order(items, base)])
        fields = self._fields_of(value, kind)
        if fields is None:
            return None
        self._note(f"{type_name(value)} as an object")
        return "{", "}", self._named(fields)

    def _fields_of(self, value: Any, kind: type) -> list[tuple[Any, Any]] | None:
        """What a model, a dataclass, a struct or a foreign mapping holds; None for all else."""
        if issubclass(kind, type):
            return None
        try:
            if hasattr(kind, "model_dump"):
                dumped = kind.model_dump(value)
                return list(dict.items(dumped)) if issubclass(type(dumped), dict) else None
            if dataclasses.is_dataclass(kind):
                return [(one.name, getattr(value, one.name)) for one in dataclasses.fields(kind)]
            if issubclass(kind, msgspec.Struct):
                return [(name, getattr(value, name)) for name in kind.__struct_fields__]
            if issubclass(kind, Mapping):
                return [(key, value[key]) for key in islice(iter(value), self._parts + 1)]
        except Exception as error:
            self._note(f"{type_name(error)} from {type_name(value)}")
        return None

    def _named(self, items: list[tuple[Any, Any]]) -> _Children:
        if all(type(key) is str and is_valid_utf8(key) for key, _ in items):
            yield from items
            return
        taken = {key for key, _ in items if type(key) is str}
        for key, item in items:
            name = plain = clean_text(key) if type(key) is str else self._key_text(key)
            number = 1
            while name in taken and name is not key:
                number += 1
                name = f"{plain} ({type_name(key)} {number})"
                self._note("equal keys renamed")
            taken.add(name)
            yield name, item

    def _key_text(self, key: Any) -> str:
        self._note("keys as text")
        return ForeignWriter(min(self._left, MAX_SHOWN_CHARS)).text_of(key)

    def _scalar(self, value: Any, kind: type) -> str:
        if issubclass(kind, str):
            self._note(f"{type_name(value)} as text")
            return str.__str__(value)
        if value is None or kind is bool:
            return json.dumps(value)
        if kind is float:
            if math.isfinite(value):
                return repr(value)
            self._note("NaN and infinities as text")
            return "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Infinity")
        if kind is int:
            if value.bit_length() <= _MAX_INT_BITS:
                return str(value)
            self._note("integers above 4,300 digits in hexadecimal")
            return hex(value)
        if issubclass(kind, (bytes, bytearray, memoryview)):
            return self._bytes_text(value)
        return self._written(value, kind)

    def _written(self, value: Any, kind: type) -> str:
        name = type_name(value)
        try:
            if issubclass(kind, (datetime.date, datetime.time)):
                text = value.isoformat()
            elif issubclass(kind, _WRITTEN):
                text = str(value)
            else:
                self._note(f"{name} as its repr")
                return self._shown(repr(value))
        except Exception as error:
            self._note(f"{type_name(error)} from {name}")
            return f"<{name} that cannot be shown>"
        self._note(f"{name} as text")
        return self._shown(text)

    def _bytes_text(self, value: Any) -> str:
        try:
            raw = bytes(memoryview(value).cast("B")[: self._left + 1])
        except Exception as error:
            self._note(f"{type_name(error)} from {type_name(value)}")
            return f"<{type_name(value)} that cannot be shown>"
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self._note(f"{type_name(value)} as text with escapes")
            return raw.decode("utf-8", "backslashreplace")
        self._note(f"{type_name(value)} as text")
        return text

    def _shown(self, text: str) -> str:
        if len(text) > MAX_SHOWN_CHARS:
            self._note(f"cut after {MAX_SHOWN_CHARS} of {len(text)} characters")
        return _ADDRESS.sub("", str.__str__(text)[:MAX_SHOWN_CHARS])

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._left -= utf8_size(text)

    def _append_text(self, text: str) -> None:
        for piece in text_slices(text):
            self._append(self._within(piece))
            if self._left <= 0:
                break

    def _append_quoted(self, text: str) -> None:
        self._pieces.append('"')
        for piece in text_slices(text):
            self._append(encode_basestring(self._within(piece))[1:-1])
            if self._left <= 0:
                break
        self._pieces.append('"')

    def _within(self, piece: str) -> str:
        """The piece as valid UTF-8 and no longer than what is left."""
        clean = clean_text(piece)
        if clean != piece:
            self._note("lone surrogates as U+FFFD")
        if utf8_size(clean) > self._left:
            self._note("the rest is cut")
            clean = cut_to_bytes(clean, max(0, self._left))
            self._left = utf8_size(clean)  # nothing comes after what is cut
        return clean

    def _note(self, text: str) -> None:
        self._notes.setdefault(text)


def _in_order(items: list[Any], base: type) -> list[Any]:
    """The items of a set in an order that repeats, where they are all texts or all numbers."""
    kinds = {type(item) for item in items} if base in (set, frozenset) else set()
    return sorted(items) if kinds in ({str}, {int}) else items
