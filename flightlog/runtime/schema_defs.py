"""Schemas that refer to `#/$defs/...`, joined into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flightlog.trace.canonical import canonical_json

_PREFIX: Final = "#/$defs/"


class Definitions:
    """The `$defs` of several schemas under one roof; equal names of unequal parts are renamed."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}
        self._texts: dict[str, str] = {}

    def taken_from(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema without its `$defs`, wherever they stand, referring to those kept here."""
        taken: dict[str, Any] = self._without(schema, {})
        return taken

    def as_keyword(self) -> dict[str, Any]:
        """`$defs` with all parts; empty where there are none."""
        return {"$defs": self._parts} if self._parts else {}

    def _without(self, value: Any, names: Mapping[str, str]) -> Any:
        if isinstance(value, Mapping):
            own = value.get("$defs")
            if isinstance(own, Mapping):
                names = {**names, **{name: self._name_for(name, own) for name in own}}
                for name, part in own.items():
                    if names[name] not in self._parts:
                        self._parts[names[name]] = True  # its place, while it is gone through
                        self._parts[names[name]] = self._without(part, names)
            is_joined = isinstance(own, Mapping)
            return {
                key: _renamed(one, names)
                if key == "$ref" and isinstance(one, str)
                else self._without(one, names)
                for key, one in value.items()
                if not (is_joined and key == "$defs")
            }
        if isinstance(value, (list, tuple)):
            return [self._without(one, names) for one in value]
        return value

    def _name_for(self, name: str, own: Mapping[str, Any]) -> str:
        """A name that is free, or that stands for the very same with all that it refers to."""
        text = canonical_json({one: own[one] for one in _reached(name, own)})
        number, chosen = 1, name
        while self._texts.setdefault(chosen, text) != text:
            number += 1
            chosen = f"{name}_{number}"
        return chosen


def _reached(name: str, own: Mapping[str, Any]) -> set[str]:
    """The definitions that one refers to, itself among them."""
    reached: set[str] = set()
    stack = [name]
    while stack:
        one = stack.pop()
        if one in own and one not in reached:
            reached.add(one)
            stack += [_name_in(reference) for reference in _references(own[one])]
    return reached


def _references(value: Any) -> Iterator[str]:
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and isinstance(value.get("$ref"), str):
        yield value["$ref"]
    if isinstance(value, (Mapping, list, tuple)):
        for part in parts:
            yield from _references(part)


def _name_in(reference: str) -> str:
    return reference.removeprefix(_PREFIX).partition("/")[0]


def _renamed(reference: str, names: Mapping[str, str]) -> str:
    if not reference.startswith(_PREFIX):
        return reference
    name, slash, rest = reference.removeprefix(_PREFIX).partition("/")
    return f"{_PREFIX}{names.get(name, name)}{slash}{rest}"
