"""Events made to fit their columns: what a text column, a number or a label can hold.

The slow way, for the one event in many that was built with something else. Nothing is
refused: what is no text becomes one, a text without a blob of its own is cut at
`MAX_TEXT_BYTES`, and a number that no column holds is written as it is and put aside,
named, when the journal is sealed.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from flightlog.trace.canonical import clean_text, digest_of_text
from flightlog.trace.events import Event, Label
from flightlog.trace.foreign import value_text
from flightlog.trace.foreign_writer import LOSSY
from flightlog.trace.slices import cut_to_bytes, is_valid_utf8, utf8_size

MAX_TEXT_BYTES: Final = 1 << 19
"""Longest text, in UTF-8, of a column that has no blob: arguments, an answer, an error, a label."""
MAX_LABELS: Final = 1_000
"""Most labels from a mapping that is no dict, and may have no end."""
FLAG_SURROGATES: Final = f"{LOSSY}lone surrogates as U+FFFD"

_SHORT_BYTES: Final = 4_096  # of what stands in a column of numbers until it is put aside
_INT64: Final = range(-(2**63), 2**63)
_FLAGS: Final = {"args": "args_flag", "result": "result_flag"}
_WHOLE: Final = frozenset({"result"})  # is in a blob where it is long


def fitted(event: Event) -> Event:
    """The event with what its columns can hold, flagged where that is less than it had."""
    changed: dict[str, Any] = {}
    for name, fit in _fits(type(event)).items():
        value = getattr(event, name)
        if value is None:
            continue
        fits = clean_text(value_text(value)[0]) if name in _WHOLE else fit(value)
        if fits is not value:
            changed[name] = fits
    for name, flag in _FLAGS.items():
        if name in changed and hasattr(event, flag):
            changed[flag] = _flag(name, getattr(event, flag), getattr(event, name))
    return msgspec.structs.replace(event, **changed) if changed else event


def fitted_text(value: Any) -> str:
    """A value as text of at most `MAX_TEXT_BYTES`, with the rest of it named at its end."""
    text = value if type(value) is str else value_text(value, max_bytes=MAX_TEXT_BYTES)[0]
    return _cut(text) if _is_too_long(text) else clean_text(text)


def _is_too_long(text: str) -> bool:
    return len(text) * 4 > MAX_TEXT_BYTES and utf8_size(text) > MAX_TEXT_BYTES


def _cut(text: str) -> str:
    head = clean_text(cut_to_bytes(text, MAX_TEXT_BYTES))
    return (
        f"{head}… [cut: {MAX_TEXT_BYTES} of {utf8_size(text)} bytes kept; "
        f"digest of the whole: {digest_of_text(text)}]"
    )


def _flag(name: str, before: Any, value: Any) -> str | None:
    flag = before if type(before) is str else None
    if type(value) is not str:
        how = value_text(value)[1]
    elif _is_too_long(value) and name not in _WHOLE:
        how = f"{LOSSY}cut after {MAX_TEXT_BYTES} of {utf8_size(value)} bytes"
    else:
        how = None if is_valid_utf8(value) else FLAG_SURROGATES
    if how is None or flag is None:
        return flag or how
    return flag if how in flag else f"{flag}; {how}"


def fitted_number(value: Any, kind: type[int] | type[float]) -> Any:
    """A number as Python's own; as text, which no such column takes, where it is none."""
    if type(value) is int:
        return value if value in _INT64 else _short(value)
    if type(value) is float:
        is_whole = kind is int and math.isfinite(value) and value.is_integer()
        return int(value) if is_whole and abs(value) < 2**63 else value
    text = _short(value)
    try:
        number = int(text) if kind is int else float(text)
    except ValueError:
        return text
    is_number = math.isfinite(number) and (kind is float or number in _INT64)
    return number if is_number else text


def _short(value: Any) -> str:
    return clean_text(value_text(value, max_bytes=_SHORT_BYTES)[0][:_SHORT_BYTES])


def _fitted_bool(value: Any) -> Any:
    return value if type(value) is bool else _short(value)


def _fitted_texts(value: Any) -> Any:
    if type(value) in (tuple, list):
        return tuple(fitted_text(one) for one in value)
    return fitted_text(value)


def fitted_labels(value: Any) -> tuple[Label, ...]:
    """Labels from a mapping, or from a list of them; all else becomes one label of its text."""
    if issubclass(type(value), Mapping):
        value = _labels_of(value)
    if type(value) not in (tuple, list):
        return (Label("labels", fitted_text(value)),)
    return tuple(
        Label(fitted_text(one.key), fitted_text(one.value))
        if type(one) is Label
        else Label("label", fitted_text(one))
        for one in value
    )


def _labels_of(mapping: Any) -> Any:
    """The mapping as labels; itself where its own code fails. A foreign one may be endless."""
    if issubclass(type(mapping), dict):
        pairs: Iterable[tuple[Any, Any]] = dict.items(mapping)
        return [Label(key, item) for key, item in pairs]
    try:
        keys = list(islice(iter(mapping), MAX_LABELS + 1))
        labels = [Label(key, mapping[key]) for key in keys[:MAX_LABELS]]
    except Exception:  # the mapping's own code
        return mapping
    if len(keys) > MAX_LABELS:
        labels.append(Label("labels", f"… [cut: {MAX_LABELS} labels kept]"))
    return labels


@lru_cache(maxsize=32)
def _fits(event_type: type[Event]) -> dict[str, Callable[[Any], Any]]:
    hints = get_type_hints(event_type, include_extras=True)
    return {name: _fit_of(hints[name]) for name in event_type.__struct_fields__}


def _fit_of(hint: Any) -> Callable[[Any], Any]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arm for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) is tuple:
        return fitted_labels if get_args(hint)[0] is Label else _fitted_texts
    if hint is bool:
        return _fitted_bool
    if hint in (int, float):
        return lambda value: fitted_number(value, hint)
    if issubclass(hint, StrEnum):
        return lambda value: value if type(value) is hint else fitted_text(value)
    return fitted_text
