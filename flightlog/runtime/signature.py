"""An input schema derived from a function's signature."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.injected import KEY_PARAMETER, injected_by
from flightlog.trace.canonical import canonical_json

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
_KEYWORD_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_HINT = (
    "Annotate it with str, int, float, bool, list[...], dict[str, ...], Literal[...] or a union "
    "of these with None, or give input_schema= to @tool."
)


def schema_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of the keyword arguments that `fn` takes.

    Raises:
        ToolDefinitionError: a parameter is not annotated, its annotation or its
            default has no JSON form, or it can only be passed by position.
    """
    where = f"tool function {getattr(fn, '__name__', fn)!r}"
    try:
        hints = get_type_hints(fn)
    except (NameError, TypeError) as error:
        raise ToolDefinitionError(
            f"annotations that cannot be resolved: {error}", where=where, hint=_HINT
        ) from error
    injected = injected_by(fn)
    properties: dict[str, Any] = {}
    required: list[str] = []
    is_open = False
    for name, parameter in inspect.signature(fn).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            is_open = True
            continue
        if name == injected.context or (name == KEY_PARAMETER and injected.takes_key):
            continue
        place = f"{where}, parameter {name!r}"
        if parameter.kind not in _KEYWORD_KINDS:
            raise ToolDefinitionError(
                "arguments are passed by name, and this parameter takes them by position",
                where=place,
                hint="Remove the `/` or `*args` from the signature.",
            )
        if name not in hints:
            raise ToolDefinitionError("no annotation", where=place, hint=_HINT)
        properties[name] = _schema_of_hint(hints[name], place)
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        else:
            properties[name] = {**properties[name], "default": _default(parameter.default, place)}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": is_open,
    }


def description_of(fn: Callable[..., Any]) -> str:
    """The first line of the docstring; empty without one."""
    return (inspect.getdoc(fn) or "").split("\n", 1)[0].strip()


def _default(value: Any, place: str) -> Any:
    try:
        canonical_json(value)
    except ValueError as error:
        raise ToolDefinitionError(
            f"the default {value!r} has no JSON form: {error}", where=place, hint=_HINT
        ) from error
    return value


def _schema_of_hint(hint: Any, place: str) -> dict[str, Any]:
    if hint is Any:
        return {}
    if hint is None or hint is type(None):
        return {"type": "null"}
    if isinstance(hint, type) and hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (list, tuple) and (origin is list or arguments[1:] == (...,)):
        items = _schema_of_hint(arguments[0], place) if arguments else {}
        return {"type": "array", "items": items}
    if origin in (dict, Mapping):
        return _schema_of_dict(arguments, place)
    if origin is Literal and all(isinstance(one, (str, int, bool)) for one in arguments):
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _union([_schema_of_hint(one, place) for one in arguments])
    raise ToolDefinitionError(f"the annotation {hint!r} is not supported", where=place, hint=_HINT)


def _schema_of_dict(arguments: tuple[Any, ...], place: str) -> dict[str, Any]:
    if not arguments:
        return {"type": "object"}
    if arguments[0] is not str:
        raise ToolDefinitionError(
            f"a JSON object has string keys, not {arguments[0]!r}", where=place, hint=_HINT
        )
    return {"type": "object", "additionalProperties": _schema_of_hint(arguments[1], place)}


def _union(arms: list[dict[str, Any]]) -> dict[str, Any]:
    if all(set(arm) == {"type"} for arm in arms):
        return {"type": [arm["type"] for arm in arms]}
    return {"anyOf": arms}
