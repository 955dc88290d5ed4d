"""Functions that take all their arguments as one pydantic model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.annotations import is_model, model_of, model_schema
from flightlog.runtime.injected import KEY_PARAMETER, Injected, hints_of, injected_by
from flightlog.runtime.signature import Signature


def model_signature(model: Any, fn: Callable[..., Any], where: str) -> Signature:
    """What a tool takes whose function gets one model of all arguments.

    Raises:
        ToolDefinitionError: `model` is no pydantic model or has no JSON Schema, or
            `fn` has no place for it.
    """
    if not is_model(model):
        raise ToolDefinitionError(
            f"{model!r} is not a pydantic model", where=where, hint="Give a BaseModel class."
        )
    schema = model_schema(model, where)
    injected = injected_by(fn)
    is_key_of_model = KEY_PARAMETER in schema.get("properties", {})
    parameter = _parameter(model, fn, injected, where)
    result = hints_of(fn).get("return")
    given = {injected.context} | (
        {KEY_PARAMETER} if injected.takes_key and not is_key_of_model else set()
    )

    def arguments_of(values: Mapping[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in values.items() if name not in given}
        rest = {name: value for name, value in values.items() if name in given}
        return {parameter: model_of(model, fields), **rest}

    return Signature(
        schema,
        model_schema(result, f"{where}, result", mode="serialization")
        if is_model(result)
        else None,
        arguments_of=arguments_of,
    )


def _parameter(model: Any, fn: Callable[..., Any], injected: Injected, where: str) -> str:
    hints = hints_of(fn)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [
        name
        for name, one in inspect.signature(fn).parameters.items()
        if one.kind in kinds
        and name != injected.context
        and not (name == KEY_PARAMETER and injected.takes_key)
    ]
    chosen = next((name for name in names if hints.get(name) is model), names[0] if names else None)
    needed = [
        name
        for name, one in inspect.signature(fn).parameters.items()
        if name in names and name != chosen and one.default is inspect.Parameter.empty
    ]
    if chosen is None or needed:
        raise ToolDefinitionError(
            f"the function needs {', '.join(needed)} beside the model"
            if needed
            else "the function has no parameter for the model",
            where=where,
            hint=f"Let it take one parameter: {model.__name__}; a ToolContext may stand beside it.",
        )
    return chosen
