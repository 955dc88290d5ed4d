"""The reference validator: jsonschema's, under a deadline and with linear regular expressions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import create
from referencing import Registry

from flightlog.runtime.schema_patterns import TooMuchWorkError, pattern_of

MAX_ERRORS: Final = 64
"""Errors that are looked at to find the one that says most."""

MAX_ENTRIES: Final = 100_000
"""Longest array or object whose entries one keyword goes through."""

MAX_UNEVALUATED_ITEMS: Final = 2_000
"""Longest array under `unevaluatedItems`, whose cost grows with the square of it."""

_LOOKS: Final = 16
_LOOPS: Final = ("items", "contains", "propertyNames", "unevaluatedProperties")

Keyword = Callable[[Any, Any, Any, Mapping[str, Any]], Iterable[ValidationError] | None]


class OutOfTimeError(Exception):
    """A check reached its time limit."""


@dataclass(slots=True)
class _Timer:
    """Ends a check; what other threads take does not count.

    Attributes:
        ends_s: CPU time of this thread, seconds.
        looks: left before the clock is read again, which costs more than most keywords.
    """

    ends_s: float
    looks: int = _LOOKS


_timer: Final[ContextVar[_Timer]] = ContextVar("flightlog_schema_timer")


def look() -> None:
    """Ends the check where its time is over."""
    timer = _timer.get()
    timer.looks -= 1
    if timer.looks <= 0:
        timer.looks = _LOOKS
        if time.thread_time() > timer.ends_s:
            raise OutOfTimeError


@contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    token = _timer.set(_Timer(time.thread_time() + limit_s))
    try:
        yield
    finally:
        _timer.reset(token)


def best_error(validator: Any, value: Any, limit_s: float) -> ValidationError | None:
    """The error that says most about a value; None for a valid one.

    Raises:
        OutOfTimeError: the limit came before the first error.
    """
    errors: list[ValidationError] = []
    with _time_limit(limit_s):
        try:
            for error in islice(validator.iter_errors(value), MAX_ERRORS):
                errors.append(error)
        except (OutOfTimeError, TooMuchWorkError, RecursionError):
            if not errors:
                raise
    best: ValidationError | None = best_match(iter(errors))
    return best


def schema_error(schema: Any) -> ValidationError | None:
    """What the metaschema finds wrong with a schema; regular expressions are not its matter."""
    metaschema = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    best: ValidationError | None = best_match(metaschema.iter_errors(schema))
    return best


def _pattern(
    validator: Any, pattern: str, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if isinstance(value, str) and not pattern_of(pattern).is_in(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for text, subschema in patterns.items():
        pattern = pattern_of(text)
        for name, item in value.items():
            look()
            if pattern.is_in(name):
                yield from validator.descend(item, subschema, path=name, schema_path=text)


def _additional_properties(
    validator: Any, additional: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict) or additional is True:
        return
    known = schema.get("properties", {})
    patterns = [pattern_of(text) for text in schema.get("patternProperties", {})]
    extras = []
    for name in value:
        look()
        if name not in known and not any(pattern.is_in(name) for pattern in patterns):
            extras.append(name)
    if additional is not False:
        for name in extras:
            yield from validator.descend(value[name], additional, path=name)
    elif extras:
        names = ", ".join(repr(name) for name in sorted(extras))
        was = "was" if len(extras) == 1 else "were"
        yield ValidationError(f"Additional properties are not allowed ({names} {was} unexpected)")


def _unique_items(
    validator: Any, asked: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Linear; the library's own is quadratic on items that cannot be sorted."""
    if not asked or not isinstance(value, list):
        return
    seen = set()
    for item in value:
        look()
        one = _identity(item)
        if one in seen:
            yield ValidationError(f"{value!r} has non-unique elements")
            return
        seen.add(one)


def _identity(value: Any) -> Any:
    """Equal for values that JSON Schema calls equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, list):
        look()
        return ("list", *(_identity(item) for item in value))
    if isinstance(value, dict):
        look()
        return ("dict", frozenset((name, _identity(item)) for name, item in value.items()))
    return value


def _multiple_of(
    validator: Any, factor: float, value: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """Exact on the decimals that are written: 19.99 is a multiple of 0.01."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (_decimal(value) / _decimal(factor)).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {factor!r}")


def _decimal(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _timed(keyword: Keyword, most: int | None) -> Keyword:
    def timed(
        validator: Any, asked: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterable[ValidationError] | None:
        look()
        if most is not None and isinstance(value, (list, dict)) and len(value) > most:
            raise TooMuchWorkError(f"{len(value)} entries are too many, more than {most}")
        return keyword(validator, asked, value, schema)

    return timed


def _applicable(schema: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    look()
    return schema.items()


def _keywords() -> dict[str, Keyword]:
    keywords: dict[str, Keyword] = {**Draft202012Validator.VALIDATORS}
    keywords |= {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "multipleOf": _multiple_of,
    }
    del keywords["format"]  # an annotation, as the draft has it
    most = dict.fromkeys(_LOOPS, MAX_ENTRIES) | {"unevaluatedItems": MAX_UNEVALUATED_ITEMS}
    return {name: _timed(keyword, most.get(name)) for name, keyword in keywords.items()}


_create: Final[Any] = create  # its stub knows no keyword that gives None, as the library's own do
_Validator: Final[Any] = _create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators=_keywords(),
    type_checker=Draft202012Validator.TYPE_CHECKER,
    applicable_validators=_applicable,
)


def reference_validator(schema: Mapping[str, Any]) -> Any:
    """The validator of a schema that the lint has passed; nothing is ever fetched."""
    with _time_limit(float("inf")):
        return _Validator(schema, registry=Registry())
