"""The quick yes: jsonschema-rs says that a plain value fits a plain schema.

It is some twenty times as fast as the reference validator, but it can be neither
stopped nor trusted with everything: it holds the interpreter while it works, a
recursive schema over a deep value overflows its stack and ends the process, and its
equality is not the draft's (`enum: [1]` takes `true`). So it is asked only where
the work and the depth are bounded beforehand and both are known to agree, and only
its yes counts.
"""

from __future__ import annotations

from typing import Any, Final

import jsonschema_rs

from flightlog.runtime.schema_graph import Graph, Node
from flightlog.runtime.schema_lint import LintedSchema
from flightlog.runtime.schema_patterns import MAX_COMPILED_BYTES, MAX_WORK

MAX_HEIGHT: Final = 100
"""Longest chain of subschemas: what is applied within what."""

MAX_COMPARISONS: Final = 3_000_000
MAX_EXACT: Final = 2**53

_AGREED: Final = frozenset(
    (
        *("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("multipleOf", "minLength", "maxLength", "pattern", "items", "prefixItems", "contains"),
        *("minContains", "maxContains", "minItems", "maxItems", "uniqueItems", "properties"),
        *("patternProperties", "additionalProperties", "propertyNames", "required"),
        *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas"),
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$defs", "definitions"),
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$comment", "format"),
    )
)


class QuickYes:
    """Asks jsonschema-rs where its answer can be had in bounded time and trusted."""

    def __init__(self, linted: LintedSchema) -> None:
        self._validator: jsonschema_rs.Draft202012Validator | None = None
        self._pattern_kib = linted.pattern_kib
        self._work = linted.graph.work or 0
        if not 0 < self._work <= MAX_COMPARISONS or not _is_plain(linted.graph):
            return
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                linted.schema,
                pattern_options=jsonschema_rs.RegexOptions(size_limit=MAX_COMPILED_BYTES),
                validate_formats=False,
                offline=True,
            )
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
            return  # the reference validator alone then

    def says(self, value: Any) -> bool:
        """True when the value is known to fit; False is no answer."""
        if self._validator is None or not self._is_bounded(value):
            return False
        try:
            return self._validator.is_valid(value)
        except (ValueError, TypeError, OverflowError):  # what Rust cannot hold
            return False

    def _is_bounded(self, value: Any) -> bool:
        """True for plain JSON of numbers that floats hold exactly, small enough for the schema."""
        parts_left = MAX_COMPARISONS // self._work
        characters_left = MAX_WORK // self._pattern_kib if self._pattern_kib else None
        characters = 0
        stack = [value]
        while stack:
            one = stack.pop()
            kind = type(one)
            if kind is str:
                characters += len(one)
            elif kind is dict:
                parts_left -= len(one)
                if parts_left < 0:
                    return False
                for name, item in one.items():
                    if type(name) is not str:
                        return False
                    characters += len(name)
                    stack.append(item)
            elif kind is list:
                parts_left -= len(one)
                if parts_left < 0:
                    return False
                stack += one
            elif kind is int or kind is float:
                if not -MAX_EXACT <= one <= MAX_EXACT:
                    return False
            elif one is not None and kind is not bool:
                return False
        return characters_left is None or characters <= characters_left


def _is_plain(graph: Graph) -> bool:
    return graph.height <= MAX_HEIGHT and all(map(_is_agreed, graph.nodes))


def _is_agreed(node: Node) -> bool:
    schema = node.schema
    if not all(keyword in _AGREED or keyword.startswith("x-") for keyword in schema):
        return False
    if not str(schema.get("$ref", "#")).startswith("#"):
        return False
    if "multipleOf" in schema and type(schema["multipleOf"]) is not int:
        return False
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]
    return all(one is None or type(one) is str for one in values)
