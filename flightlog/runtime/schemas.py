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


class SchemaCheck:
    """One JSON Schema (draft 2020-12), made ready to check values.

    Raises:
        ToolDefinitionError: `schema` is malformed, or holds what JSON lacks.
    """

    def __init__(self, schema: Mapping[str, Any], *, where: str) -> None:
        if not isinstance(schema, Mapping):
            raise ToolDefinitionError(
                f"not a JSON Schema: a {type(schema).__name__}",
                where=where,
                hint="A schema is a JSON object.",
            )
        try:
            self._validator = _validator(canonical_json(dict(schema)))
            self._kind = schema.get("type")
        except SchemaError as error:
            path = ".".join(str(part) for part in error.absolute_path) or "the schema"
            raise ToolDefinitionError(
                f"not a JSON Schema: {path}: {error.message}",
                where=where,
                hint="Write it as JSON Schema, draft 2020-12.",
            ) from error
        except (ValueError, TypeError) as error:
            raise ToolDefinitionError(
                f"not a JSON Schema: {error}", where=where, hint="A schema is plain JSON."
            ) from error

    def problem_of(self, value: Any) -> str | None:
        """What is wrong with a value, in one sentence; None when nothing is.

        A schema that refers to a place outside itself finds everything wrong,
        since nothing is fetched; so does one that follows a value too deep.
        """
        try:
            error = best_match(self._validator.iter_errors(value))
        except Unresolvable as missing:
            return f"the schema refers to {missing.ref!r}, which is not in it; nothing is fetched"
        except RecursionError:
            return "nested too deeply to be checked"
        if error is None:
            return None
        path = ".".join(str(part) for part in error.absolute_path)
        text = f"{path}: {error.message}" if path else error.message
        return text if len(text) <= MAX_PROBLEM_CHARS else f"{text[:MAX_PROBLEM_CHARS]}..."

    def problem_of_text(self, text: str) -> str | None:
        """What is wrong with an observation; None when nothing is.

        Observations are text, live and recorded alike. Under a schema of type
        `string` the text itself is checked, under another type its JSON, and
        where the type is open or a list, either may fit.
        """
        if self._kind == "string":
            return self.problem_of(text)
        try:
            problem = self.problem_of(json.loads(text))
        except (ValueError, RecursionError):
            problem = f"not JSON, but the schema asks for {self._kind or 'JSON'}"
        if problem and not isinstance(self._kind, str):
            return problem if self.problem_of(text) else None
        return problem


@lru_cache(maxsize=512)
def _validator(schema_text: str) -> Draft202012Validator:
    schema = json.loads(schema_text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, registry=Registry())
