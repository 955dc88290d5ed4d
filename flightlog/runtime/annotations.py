"""Annotations as JSON Schema, and the way from plain JSON to what the annotation names.

pydantic is recognised by what its models can do and never imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from flightlog.errors import ToolDefinitionError

Convert = Callable[[Any], Any]

HINT: Final = (
    "Annotate it with str, int, float, bool, list[...], dict[str, ...], Literal[...], an Enum, "
    "a date or datetime, a dataclass, a TypedDict, a pydantic model or a union of these with "
    "None, or give input_schema= to @tool."
)
_PLAIN: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}
_TIMES: Final[Mapping[type, str]] = {
    datetime.datetime: "date-time",
    datetime.date: "date",
    datetime.time: "time",
}
_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_LIMITS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_MARKS: Final = (typing.Required, typing.NotRequired)


@dataclass(frozen=True, slots=True)
class Form:
    """What an annotation asks for.

    Attributes:
        schema: JSON Schema of the plain value.
        convert: makes the annotated thing of a plain value; None where it is the plain
            value. Raises ValueError or TypeError on what does not fit.
    """

    schema: dict[str, Any]
    convert: Convert | None = None


def form_of(hint: Any, place: str, within: tuple[Any, ...] = ()) -> Form:
    """The form of one annotation.

    Args:
        place: names the parameter in an error.
        within: classes around this one; one that contains itself has no form.

    Raises:
        ToolDefinitionError: the annotation has no JSON form.
    """
    if hint is Any:
        return Form({})
    if hint is None or hint is type(None):
        return Form({"type": "null"})
    if isinstance(hint, type) and not get_origin(hint):
        return _form_of_class(hint, place, within)
    if hasattr(hint, "__supertype__"):  # a NewType
        return form_of(hint.__supertype__, place, within)
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if hasattr(hint, "__metadata__"):
        form = form_of(arguments[0], place, within)
        return Form({**form.schema, **_extras(hint.__metadata__, form.schema)}, form.convert)
    if origin in _MARKS:
        return form_of(arguments[0], place, within)
    if origin is tuple and arguments[1:] == (...,):
        return _form_of_list(arguments, place, within, make=tuple)
    if origin in (list, Sequence):
        return _form_of_list(arguments, place, within, make=list)
    if origin in (dict, Mapping):
        return _form_of_dict(arguments, place, within)
    if origin is Literal and all(
        isinstance(one, (str, int, bool, type(None))) for one in arguments
    ):
        return Form({"enum": list(arguments)})
    if origin in (Union, types.UnionType):
        return _form_of_union([form_of(one, place, within) for one in arguments])
    raise _unsupported(hint, place)


def is_model(hint: Any) -> bool:
    """True for a pydantic model, known by what it can do."""
    return isinstance(hint, type) and all(
        callable(getattr(hint, name, None))
        for name in ("model_validate_json", "model_json_schema", "model_dump")
    )


def model_of(model: Any, value: Any) -> Any:
    """The model of a plain JSON value."""
    return model.model_validate_json(json.dumps(value))


def model_schema(model: Any, place: str, *, mode: str = "validation") -> dict[str, Any]:
    """The JSON Schema of a pydantic model, with its properties at the top.

    Args:
        mode: `validation` for what the model takes, `serialization` for what it gives.

    Raises:
        ToolDefinitionError: a field has no JSON form.
    """
    try:
        schema = dict(model.model_json_schema(mode=mode))
    except Exception as error:  # pydantic's own classes of errors, which are not imported
        raise ToolDefinitionError(
            f"the model {model.__name__!r} has no JSON Schema: {error}",
            where=place,
            hint="Give its fields types with a JSON form, or give the schema by hand.",
        ) from error
    reference = schema.pop("$ref", None)
    if reference is not None:  # a model that contains itself
        schema = {**schema["$defs"][reference.removeprefix("#/$defs/")], **schema}
    return schema


def _form_of_class(hint: Any, place: str, within: tuple[Any, ...]) -> Form:
    if hint in _PLAIN:
        return Form({"type": _PLAIN[hint]})
    if hint in (list, tuple):
        return Form({"type": "array", "items": {}})
    if hint in (dict, Mapping):
        return Form({"type": "object"})
    if hint in _TIMES:
        return Form({"type": "string", "format": _TIMES[hint]}, hint.fromisoformat)
    if issubclass(hint, enum.Enum):
        values = [member.value for member in hint]
        if all(isinstance(value, (str, int, bool)) for value in values):
            return Form({"enum": values}, hint)
    if is_model(hint):
        # Not `model_validate`: a strict model takes a date from JSON text only.
        return Form(model_schema(hint, place), lambda value: model_of(hint, value))
    is_typed_dict = typing.is_typeddict(hint)
    if (is_typed_dict or dataclasses.is_dataclass(hint)) and hint not in within:
        fields = _typed_dict(hint) if is_typed_dict else _dataclass(hint, place)
        return _form_of_fields(hint, fields, place, within)
    raise _unsupported(hint, place)


def _typed_dict(hint: Any) -> Iterator[tuple[str, Any, bool]]:
    for name, inner in get_type_hints(hint, include_extras=True).items():
        yield name, inner, name in hint.__required_keys__


def _dataclass(hint: Any, place: str) -> Iterator[tuple[str, Any, bool]]:
    try:
        hints = get_type_hints(hint, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolDefinitionError(
            f"annotations of {hint.__name__!r} that cannot be resolved: {error}",
            where=place,
            hint="Define the classes that it names at the top of a module.",
        ) from error
    for one in dataclasses.fields(hint):
        if one.init:
            missing = dataclasses.MISSING
            yield one.name, hints[one.name], one.default is missing is one.default_factory


def _form_of_fields(
    hint: Any, fields: Iterator[tuple[str, Any, bool]], place: str, within: tuple[Any, ...]
) -> Form:
    properties: dict[str, Any] = {}
    required: list[str] = []
    converts: dict[str, Convert] = {}
    for name, inner, is_required in fields:
        form = form_of(inner, f"{place}, field {name!r}", (*within, hint))
        properties[name] = form.schema
        if is_required:
            required.append(name)
        if form.convert:
            converts[name] = form.convert

    def convert(value: Any) -> Any:
        made = {
            name: converts[name](one) if name in converts else one for name, one in value.items()
        }
        return hint(**made)

    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    return Form(schema, convert if converts or not typing.is_typeddict(hint) else None)


def _form_of_list(
    arguments: tuple[Any, ...], place: str, within: tuple[Any, ...], *, make: type
) -> Form:
    form = form_of(arguments[0], place, within) if arguments else Form({})
    schema = {"type": "array", "items": form.schema}
    inner = form.convert
    return Form(schema, None if inner is None else lambda value: make(map(inner, value)))


def _form_of_dict(arguments: tuple[Any, ...], place: str, within: tuple[Any, ...]) -> Form:
    if not arguments:
        return Form({"type": "object"})
    if arguments[0] is not str:
        raise ToolDefinitionError(
            f"a JSON object has string keys, not {arguments[0]!r}", where=place, hint=HINT
        )
    form = form_of(arguments[1], place, within)
    schema = {"type": "object", "additionalProperties": form.schema}
    inner = form.convert
    if inner is None:
        return Form(schema)
    return Form(schema, lambda value: {name: inner(one) for name, one in value.items()})


def _form_of_union(forms: Sequence[Form]) -> Form:
    if all(set(form.schema) == {"type"} for form in forms):
        schema: dict[str, Any] = {"type": [form.schema["type"] for form in forms]}
    else:
        schema = {"anyOf": [form.schema for form in forms]}
    if not any(form.convert for form in forms):
        return Form(schema)

    def convert(value: Any) -> Any:
        """The first that takes the value, in the order in which they are written."""
        refused: list[Exception] = []
        for form in forms:
            if not _has_type(value, form.schema):
                continue
            if form.convert is None:
                return value
            try:
                return form.convert(value)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                refused.append(error)
        if refused:
            raise refused[0]
        raise ValueError("fits none of the types")

    return Form(schema, convert)


def _has_type(value: Any, schema: Mapping[str, Any]) -> bool:
    if "enum" in schema:
        return any(value == one and type(value) is type(one) for one in schema["enum"])
    kind = schema.get("type")
    if not isinstance(kind, str):
        return True
    is_odd = isinstance(value, bool) and kind != "boolean"
    return isinstance(value, _JSON_TYPES[kind]) and not is_odd


def _extras(metadata: Sequence[Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """What `Annotated` adds: a description, and the limits of annotated-types and pydantic."""
    extras: dict[str, Any] = {}
    is_text = schema.get("type") == "string"
    limits = _LIMITS | {
        "min_length": "minLength" if is_text else "minItems",
        "max_length": "maxLength" if is_text else "maxItems",
    }
    for one in metadata:
        if isinstance(one, str):
            extras.setdefault("description", one)
            continue
        text = getattr(one, "description", None) or getattr(one, "documentation", None)
        if isinstance(text, str):
            extras.setdefault("description", text)
        for part in (one, *(getattr(one, "metadata", None) or ())):
            for name, keyword in limits.items():
                limit = getattr(part, name, None)
                if isinstance(limit, (int, float, str)):
                    extras[keyword] = limit
    return extras


def _unsupported(hint: Any, place: str) -> ToolDefinitionError:
    return ToolDefinitionError(f"the annotation {hint!r} is not supported", where=place, hint=HINT)
