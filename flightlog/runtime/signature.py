"""Input schema, conversions and result schema derived from a function's signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.annotations import HINT, Convert, form_of, is_model, model_schema
from flightlog.runtime.binding import Arguments, bound
from flightlog.runtime.injected import KEY_PARAMETER, annotated, injected_by
from flightlog.runtime.plain_values import plain_of
from flightlog.runtime.schema_defs import Definitions
from flightlog.trace.canonical import canonical_json

_KEYWORD_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and gives.

    Attributes:
        input_schema: JSON Schema of its keyword arguments.
        output_schema: JSON Schema of its result, where that is a pydantic model.
        arguments_of: makes what the function wants of plain values; None where it wants those.
        is_result_plain: False where the result is to be made plain JSON.
    """

    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    arguments_of: Arguments | None = None
    is_result_plain: bool = True

    def bind(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function for plain arguments with a plain result; itself where it is one."""
        if self.arguments_of is None and self.is_result_plain:
            return fn
        return bound(fn, self.arguments_of or dict)


def schema_of(fn: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of the keyword arguments that `fn` takes; see `signature_of`."""
    return signature_of(fn).input_schema


def signature_of(fn: Callable[..., Any]) -> Signature:
    """What `fn` takes and gives, from its annotations.

    The `ToolContext` and a parameter `idempotency_key` are left out: the gateway
    gives them.

    Raises:
        ToolDefinitionError: a parameter is not annotated, its annotation or its
            default has no JSON form, or it can only be passed by position.
    """
    where = f"tool function {getattr(fn, '__name__', fn)!r}"
    try:
        hints = get_type_hints(annotated(fn), include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolDefinitionError(
            f"annotations that cannot be resolved: {error}", where=where, hint=HINT
        ) from error
    injected = injected_by(fn)
    definitions = Definitions()
    properties: dict[str, Any] = {}
    required: list[str] = []
    converts: dict[str, Convert] = {}
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
            raise ToolDefinitionError("no annotation", where=place, hint=HINT)
        form = form_of(hints[name], place)
        properties[name] = definitions.taken_from(form.schema)
        if form.convert is not None:
            converts[name] = form.convert
        if parameter.default is inspect.Parameter.empty:
            required.append(name)
        else:
            properties[name] = {**properties[name], "default": _default(parameter.default, place)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": is_open,
        **definitions.as_keyword(),
    }
    output_schema, is_result_plain = _result(hints, where)
    arguments_of = _converting(converts) if converts else None
    return Signature(schema, output_schema, arguments_of, is_result_plain)


def description_of(fn: Callable[..., Any]) -> str:
    """The first line of the docstring; empty without one."""
    return (inspect.getdoc(fn) or "").split("\n", 1)[0].strip()


def _converting(converts: Mapping[str, Convert]) -> Arguments:
    def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: converts[name](value) if name in converts else value
            for name, value in values.items()
        }

    return arguments_of


def _result(hints: Mapping[str, Any], where: str) -> tuple[dict[str, Any] | None, bool]:
    """The result's schema where it is a model, and whether the result is plain JSON."""
    hint = hints.get("return")
    if is_model(hint):
        return model_schema(hint, f"{where}, result", mode="serialization"), False
    try:
        return None, form_of(hint, where).convert is None
    except ToolDefinitionError:  # nobody asked for a schema of it
        return None, True


def _default(value: Any, place: str) -> Any:
    try:
        plain = plain_of(value)
        canonical_json(plain)
    except ValueError as error:
        raise ToolDefinitionError(
            f"the default {value!r} has no JSON form: {error}", where=place, hint=HINT
        ) from error
    return plain
