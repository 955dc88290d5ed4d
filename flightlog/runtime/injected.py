"""What the gateway adds to a tool function's arguments; the model never sees it."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.tool_context import ToolContext

KEY_PARAMETER: Final = "idempotency_key"
"""A parameter of this name gets the idempotency key of the call."""

_AS_TEXT = re.compile(
    r"(?:(?:typing\.)?Optional\[)?(?:None\s*\|)?\s*((?:\w+\.)*ToolContext)\s*(?:\|\s*None)?\]?"
)


@dataclass(frozen=True, slots=True)
class Injected:
    """Parameters of one function that are no part of its input schema.

    Attributes:
        context: name of the parameter that gets the `ToolContext`; None without one.
        takes_key: the function has a parameter `idempotency_key`.
    """

    context: str | None = None
    takes_key: bool = False


def injected_by(fn: Callable[..., Any]) -> Injected:
    """The parameters of `fn` that the gateway fills.

    Raises:
        ToolDefinitionError: two parameters ask for the context, or one can only
            be passed by position.
    """
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # a function of C without a signature asks for nothing
        return Injected()
    hints = hints_of(fn)
    named = _named(parameters)
    contexts = [
        name
        for name, parameter in parameters.items()
        if _is_context(hints.get(name, parameter.annotation), fn)
    ]
    where = f"tool function {getattr(fn, '__name__', fn)!r}"
    if len(contexts) > 1:
        raise ToolDefinitionError(
            f"two parameters take the ToolContext: {', '.join(contexts)}",
            where=where,
            hint="Keep one of them.",
        )
    if contexts and contexts[0] not in named:
        raise ToolDefinitionError(
            "the ToolContext is passed by name, and this parameter takes it by position",
            where=f"{where}, parameter {contexts[0]!r}",
            hint="Remove the `/` or the `*` before it.",
        )
    return Injected(contexts[0] if contexts else None, KEY_PARAMETER in named)


def hints_of(fn: Callable[..., Any]) -> Mapping[str, Any]:
    """The annotations of `fn`, those that can be resolved; never raises."""
    source = annotated(fn)
    try:
        return get_type_hints(source, include_extras=True)
    except Exception:  # one name that is imported for type checkers alone hides all others
        return {}


def annotated(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that carries the annotations: below `partial`, or an object's `__call__`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return fn
    return type(fn).__call__


def _named(parameters: Mapping[str, inspect.Parameter]) -> frozenset[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(name for name, one in parameters.items() if one.kind in kinds)


def _is_context(hint: Any, fn: Callable[..., Any]) -> bool:
    if isinstance(hint, str):
        return _is_context_text(hint, fn)
    if hasattr(hint, "__metadata__"):
        return _is_context(get_args(hint)[0], fn)
    if get_origin(hint) in (Union, types.UnionType):
        arms = [arm for arm in get_args(hint) if arm is not type(None)]
        return arms == [ToolContext]
    return hint is ToolContext


def _is_context_text(hint: str, fn: Callable[..., Any]) -> bool:
    """Judges an annotation that stayed text, since some name of the signature is unknown."""
    match = _AS_TEXT.fullmatch(hint.strip())
    if match is None:
        return False
    first, *rest = match[1].split(".")
    known = getattr(inspect.unwrap(annotated(fn)), "__globals__", {}).get(first)
    for part in rest:
        known = getattr(known, part, None)
    return known is None or known is ToolContext
