"""JSON texts part by part, with every spelling kept: numbers, double keys and their order.

The slow way, for a text that would be JSON no more once a bare number in it is replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec

_JSON_SIGNS: Final = ("{", "[", '"')
_OF_SCHEMAS: Final = frozenset({"type", "$ref", "properties", "anyOf", "oneOf", "allOf", "enum"})
_string = json.JSONEncoder(ensure_ascii=False).encode


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """The pairs of an object; a key may be there twice."""


def is_json(text: str) -> bool:
    """True for a JSON object, list or string."""
    if text.lstrip()[:1] not in _JSON_SIGNS:
        return False
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):  # also of a lone surrogate
        return False
    return True


def parsed(text: str) -> Any:
    """The value, with `Number` for numbers and `Pairs` for objects.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is too deep.
    """
    return json.loads(
        text,
        object_pairs_hook=Pairs,
        parse_int=Number,
        parse_float=Number,
        parse_constant=Number,
    )


def written(value: Any) -> str:
    """JSON without white space of what `parsed` gave.

    Raises:
        RecursionError: it is too deep.
    """
    if isinstance(value, Number):
        return str.__str__(value)
    if isinstance(value, Pairs):
        pairs = ",".join(f"{_string(key)}:{written(item)}" for key, item in value)
        return f"{{{pairs}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return _string(value)


def mapped(
    value: Any,
    on_text: Callable[[str, str | None, str | None], str],
    on_number: Callable[[Number, str | None], str | Number],
    is_secret: Callable[[str], bool],
) -> Any:
    """The value with every text and number replaced; keys too.

    Args:
        on_text: gets a text, the key that it stands under, for itself and in a list, and the
            nearest secret key above that one.
        on_number: gets a `Number` and the key.
        is_secret: says which keys are.
    """

    def of(item: Any, key: str | None, above: str | None) -> Any:
        if isinstance(item, Number):
            return on_number(item, key)
        if isinstance(item, str):
            return on_text(item, key, above)
        if isinstance(item, Pairs):
            if key is not None and is_secret(key):
                above = key
            if any(name in _OF_SCHEMAS for name, _ in item):
                above = None
            return Pairs(
                (on_text(name, None, None), of(under, name, above)) for name, under in item
            )
        if isinstance(item, list):
            return [of(one, key, above) for one in item]
        return item

    return of(value, None, None)
