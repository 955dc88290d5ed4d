"""JSON Schema checks of arguments and results; nothing is ever fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from flightlog.errors import ToolDefinitionError
from flightlog.trace.canonical import canonical_json

MAX_PROBLEM_CHARS = 500


def check_schema(schema: Mapping[str, Any], *, where: str) -> None:
    """Refuses what is not a JSON Schema (draft 2020-12).

    Raises:
        ToolDefinitionError: `schema` is malformed, or holds what JSON lacks.
    """
    try:
        Draft202012Validator.check_schema(dict(schema))
        canonical_json(schema)
    except SchemaError as error:
        path = ".".join(str(part) for part in error.absolute_path) or "the schema"
        raise ToolDefinitionError(
            f"not a JSON Schema: {path}: {error.message}",
            where=where,
            hint="Write it as JSON Schema, draft 2020-12.",
        ) from error
    except ValueError as error:
        raise ToolDefinitionError(
            f"not a JSON Schema: {error}", where=where, hint="A schema is plain JSON."
        ) from error


def problem_of(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with `value` under `schema`, in one sentence; None when nothing is.

    A schema that refers to a place outside itself finds everything wrong, since
    nothing is fetched.
    """
    try:
        error = best_match(_validator(canonical_json(schema)).iter_errors(value))
    except Unresolvable as unresolvable:
        return f"the schema refers to {unresolvable.ref!r}, which is not in it; nothing is fetched"
    if error is None:
        return None
    path = ".".join(str(part) for part in error.absolute_path)
    text = f"{path}: {error.message}" if path else error.message
    return text if len(text) <= MAX_PROBLEM_CHARS else f"{text[:MAX_PROBLEM_CHARS]}..."


def problem_of_text(text: str, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with an observation under an output schema; None when nothing is.

    Observations are text, live and recorded alike. Under a schema of type
    `string` the text itself is checked, under another type its JSON, and where
    the type is open or a list, either may fit.
    """
    kind = schema.get("type")
    if kind == "string":
        return problem_of(text, schema)
    try:
        problem = problem_of(json.loads(text), schema)
    except (ValueError, RecursionError):
        problem = f"not JSON, but the schema asks for {kind or 'JSON'}"
    if problem and not isinstance(kind, str):
        return problem if problem_of(text, schema) else None
    return problem


@lru_cache(maxsize=512)
def _validator(schema_text: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema_text), registry=Registry())
