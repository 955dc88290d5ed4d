"""Functions that take and give more than plain JSON, behind a form that does not."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from flightlog.runtime.plain_values import plain_result
from flightlog.runtime.schemas import MAX_PROBLEM_CHARS, SchemaCheck

Arguments = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Makes the arguments of a function out of plain values."""

MAX_PROBLEMS: Final = 5
_ARGUMENTS_OF: Final = "flightlog_arguments_of"


class ArgumentsCheck(SchemaCheck):
    """Checks arguments against the input schema, and that a bound function would take them.

    Raises:
        ToolDefinitionError: the schema cannot be used, see `SchemaCheck`.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, where: str, fn: Callable[..., Any] | None
    ) -> None:
        super().__init__(schema, where=where)
        self._fn = fn

    def problem_of(self, value: Any) -> str | None:
        """What is wrong with the arguments, in one sentence; None when nothing is."""
        return super().problem_of(value) or problem_of_arguments(self._fn, value)


def is_async(fn: Callable[..., Any] | None) -> bool:
    """True when calling `fn` gives a coroutine, as far as can be seen without calling it."""
    call = getattr(fn, "__call__", None)  # noqa: B004  - an object with an async __call__
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)


def bound(fn: Callable[..., Any], arguments_of: Arguments) -> Callable[..., Any]:
    """`fn` behind a function of plain values with a plain result; async functions stay async."""
    if is_async(fn):

        async def call_async(**kwargs: Any) -> Any:
            return plain_result(await fn(**arguments_of(kwargs)))

        return _as(fn, call_async, arguments_of)

    def call(**kwargs: Any) -> Any:
        return plain_result(fn(**arguments_of(kwargs)))

    return _as(fn, call, arguments_of)


def problem_of_arguments(fn: Callable[..., Any] | None, values: Mapping[str, Any]) -> str | None:
    """Why a bound function would not take the values; None where it would, or is not bound."""
    arguments_of: Arguments | None = getattr(fn, _ARGUMENTS_OF, None)
    if arguments_of is None:
        return None
    try:
        arguments_of(values)
    except Exception as error:  # a model's own validators are foreign code
        return _problem_text(error)[:MAX_PROBLEM_CHARS]
    return None


def _as(fn: Callable[..., Any], call: Any, arguments_of: Arguments) -> Callable[..., Any]:
    made: Callable[..., Any] = functools.update_wrapper(call, fn)
    setattr(made, _ARGUMENTS_OF, arguments_of)
    return made


def _problem_text(error: Exception) -> str:
    """One line; pydantic's errors are told by place, without its links and inputs."""
    listed = getattr(error, "errors", None)
    if callable(listed):
        try:
            parts = [
                f"{'.'.join(map(str, one['loc'])) or 'the arguments'}: {one['msg']}"
                for one in listed()[:MAX_PROBLEMS]
            ]
        except Exception:  # another class with such a method
            parts = []
        if parts:
            return "; ".join(parts)
    return f"{type(error).__name__}: {error}"
