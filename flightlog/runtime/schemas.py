"""JSON Schema checks of arguments and results, in bounded time; nothing is ever fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, Final

from flightlog.runtime.schema_lint import LintedSchema, linted, schema_text
from flightlog.runtime.schema_patterns import TooMuchWorkError
from flightlog.runtime.schema_quick import QuickYes

MAX_PROBLEM_CHARS: Final = 500
_END_CHARS: Final = 200
DEFAULT_LIMIT_S: Final = 0.25
"""Longest time of one check, CPU seconds of its thread: a busy machine changes no verdict."""


class SchemaCheck:
    """One JSON Schema (draft 2020-12), made ready to check values.

    `format` and the other annotations are not checked, as the draft has it.

    Args:
        limit_s: a check that takes more CPU seconds ends, and finds the value wrong.

    Raises:
        ToolDefinitionError: `schema` is malformed, or checks against it would not be
            bounded; see `flightlog.runtime.schema_lint`.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, where: str, limit_s: float = DEFAULT_LIMIT_S
    ) -> None:
        self._checker = _checker(schema_text(schema, where=where), where)
        self._kind = schema.get("type")
        self._limit_s = limit_s

    def problem_of(self, value: Any) -> str | None:
        """What is wrong with a value, in one sentence; None when nothing is.

        Never raises: a value that cannot be checked within the limits is wrong.
        """
        return self._checker.problem_of(value, self._limit_s)

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


class _Checker:
    """One schema that passed the lint, with its two validators."""

    def __init__(self, linted_: LintedSchema) -> None:
        self._schema = linted_.schema
        self._quick = QuickYes(linted_)

    @cached_property
    def _reference(self) -> Any:
        from flightlog.runtime.schema_keywords import (  # noqa: PLC0415  - slow to load
            reference_validator,
        )

        return reference_validator(self._schema)

    def problem_of(self, value: Any, limit_s: float) -> str | None:
        if self._quick.says(value):
            return None
        reference = self._reference
        from flightlog.runtime.schema_keywords import OutOfTimeError, best_error  # noqa: PLC0415

        try:
            error = best_error(reference, value, limit_s)
        except OutOfTimeError:
            return f"the check against the schema took longer than {limit_s:g} s"
        except TooMuchWorkError as too_much:
            return _cut(f"cannot be checked against the schema: {too_much}")
        except RecursionError:
            return "nested too deeply to be checked"
        except (ValueError, TypeError, ArithmeticError) as odd:  # no plain JSON value
            return _cut(f"cannot be checked against the schema: {odd}")
        if error is None:
            return None
        path = ".".join(str(part) for part in error.absolute_path)
        return _cut(f"{path}: {error.message}" if path else error.message)


def _cut(text: str) -> str:
    """The text without its middle, where it is long: what is asked for stands at the end."""
    if len(text) <= MAX_PROBLEM_CHARS:
        return text
    return f"{text[: MAX_PROBLEM_CHARS - _END_CHARS]} ... {text[-_END_CHARS:]}"


@lru_cache(maxsize=512)
def _checker(text: str, where: str) -> _Checker:
    return _Checker(linted(text, where=where))
