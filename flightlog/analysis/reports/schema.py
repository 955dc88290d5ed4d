"""JSON Schema of a verdict's JSON, made from the dataclasses that it is written from.

Write the published one anew with
`python -m flightlog.analysis.reports.schema > docs/verdict.schema.json`.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from dataclasses import fields, is_dataclass
from enum import EnumType
from typing import Any, Final

from flightlog.analysis.gate import verdict as verdicts
from flightlog.analysis.gate.explanations import Explanation
from flightlog.analysis.gate.reliability import Reliability
from flightlog.analysis.gate.tails import Tail
from flightlog.analysis.gate.verdict import Verdict
from flightlog.analysis.reports.json_ import SCHEMA_VERSION
from flightlog.analysis.stats.cost_parts import CostPart
from flightlog.analysis.verified import Verified

ID: Final = f"flightlog/verdict/{SCHEMA_VERSION}"
_NAMES: Final = {one.__name__: one for one in (CostPart, Explanation, Reliability, Tail, Verified)}
"""Types that the module of the verdict names for the type checker alone."""
_PLAIN: Final = {str: "string", int: "integer", bool: "boolean", float: "number"}


def verdict_schema() -> dict[str, Any]:
    """The schema (draft 2020-12); every key of the JSON is required, and there are no others."""
    schema = _object(Verdict)
    added = {
        "schema_version": {"const": SCHEMA_VERSION},
        "exit_code": {"enum": [0, 1, 2]},
        "exit_code_strict": {"enum": [0, 1, 2]},
    }
    schema["properties"] = {**added, **schema["properties"]}
    schema["required"] = [*added, *schema["required"]]
    metric = schema["properties"]["metrics"]["items"]
    metric["properties"]["from_zero"] = {"type": "boolean"}
    metric["required"].append("from_zero")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Verdict of flightlog check and flightlog gate",
        **schema,
    }


def hints_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, those for the type checker alone too."""
    names = {**vars(sys.modules[kind.__module__]), **vars(verdicts), **_NAMES}
    return typing.get_type_hints(kind, names)


def _object(kind: type) -> dict[str, Any]:
    hints = hints_of(kind)
    properties = {field.name: _schema(hints[field.name]) for field in fields(kind)}
    return {
        "type": "object",
        "description": (kind.__doc__ or "").split("\n", 1)[0],
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(hint: Any) -> dict[str, Any]:
    """The schema of one type; a number that is infinite or unknown is null."""
    if hint is float:
        return {"type": ["number", "null"]}
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if isinstance(hint, EnumType):
        members: list[Any] = list(hint)
        return {"enum": [str(member) for member in members]}
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is tuple:
        parts = [_schema(argument) for argument in arguments]
        return {"type": "array", "prefixItems": parts, "items": False}
    if origin in (types.UnionType, typing.Union):
        [inner] = [argument for argument in arguments if argument is not type(None)]
        schema = _schema(inner)
        if isinstance(schema.get("type"), str) and "properties" not in schema:
            return {**schema, "type": [schema["type"], "null"]}
        return (
            schema
            if schema.get("type") == ["number", "null"]
            else {"anyOf": [schema, {"type": "null"}]}
        )
    raise TypeError(f"no schema for {hint!r}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(verdict_schema(), indent=1) + "\n")
