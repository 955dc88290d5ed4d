"""What is wrong with a settings file: the first problem, its line, and what to write."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from flightlog.config.reading import Keys, plain_scalar
from flightlog.config.settings import KILL_SWITCH_MODES, SETTINGS, file_schema
from flightlog.errors import ConfigError, nearest

_PROBLEMS_READ: Final = 100
_SHOWN_CHARS: Final = 60
_TYPES: Final = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "keys and values",
    "null": "null",
}
_RANGES: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_LARGEST: Final = 1e15
"""Whole numbers from here on are not told digit by digit."""
_SHOW_ALL: Final = "flightlog config show --all lists every key with its default."


def validate(value: Any, lines: Mapping[Keys, int], file: str) -> None:
    """Checks what a settings file holds.

    Raises:
        ConfigError: the problem that stands first in the file.
    """
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415  (0.1 s)

    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, instance: type(instance) is int
    )
    strict: Any = validators.extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    validator = strict(file_schema())
    problems = islice(validator.iter_errors(value), _PROBLEMS_READ)
    first = min(problems, key=lambda e: _line_of(e, lines), default=None)
    if first is not None:
        raise _error(first, lines, file)


def key_text(keys: Keys) -> str:
    """Keys as they are shown: dotted, names with other signs in quotes, positions in brackets."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
            continue
        is_plain = key.replace("_", "").replace("-", "").isalnum() and key.isascii()
        shown = key if is_plain else '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text += f".{shown}" if text else shown
    return text


def _line_of(error: Any, lines: Mapping[Keys, int]) -> int:
    keys = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        keys = (*keys, _unknown_key(error))
    return lines.get(keys, 1)


def _unknown_key(error: Any) -> str:
    known = error.schema["properties"]
    found: str = next(key for key in error.instance if key not in known)
    return found


def _error(error: Any, lines: Mapping[Keys, int], file: str) -> ConfigError:
    keys = tuple(error.absolute_path)
    where = f"{file}:{_line_of(error, lines)}"
    name = _cut(key_text(keys)) or "the file"
    if error.validator == "additionalProperties":
        return _unknown(keys, _unknown_key(error), error.schema["properties"], where)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return ConfigError(f"{name}: {missing} is missing", where=where, hint=f"Add {missing}.")
    if error.validator in ("minItems", "minLength"):
        return ConfigError(
            f"{name} is empty", where=where, hint="Name at least one, or leave the key out."
        )
    shown = _shown(error.instance, keys)
    if error.validator == "type":
        return ConfigError(
            f"{name} is {shown}, not {_types_text(error.validator_value)}",
            where=where,
            hint=_hint_for_type(keys, error.validator_value, error.instance),
        )
    if error.validator == "enum" or (error.validator == "pattern" and keys[0] == "kill_switch"):
        allowed = KILL_SWITCH_MODES if error.validator == "pattern" else error.validator_value
        near = nearest(_cut(str(error.instance)), allowed)
        hint = f"nearest: {', '.join(near)}" if near else f"one of: {', '.join(allowed)}"
        return ConfigError(f"{name}: {shown} is unknown", where=where, hint=hint)
    if error.validator in _RANGES:
        rule = f"{_RANGES[error.validator]} {error.validator_value}"
        hint = f"Write {_range_text(error.schema)}."
        return ConfigError(f"{name} is {shown}, not {rule}", where=where, hint=hint)
    if keys[0] == "credentials":
        return ConfigError(
            f"{name} is no name of an environment variable (its value is not shown)",
            where=where,
            hint="Write the name of a variable that holds it, never the credential itself.",
        )
    return ConfigError(f"{name} is {shown}, which is not allowed", where=where, hint=_SHOW_ALL)


def _unknown(keys: Keys, key: str, known: Mapping[str, Any], where: str) -> ConfigError:
    """The error of a key that nobody knows, with the nearest here, else elsewhere."""
    key = _cut(key)
    near = nearest(key, known)
    elsewhere = [setting.path for setting in SETTINGS if setting.keys[-1] == key]
    if near:
        hint = f"nearest: {', '.join(near)}"
    elif elsewhere:
        hint = f"it belongs under: {', '.join(elsewhere)}"
    else:
        hint = f"known here: {', '.join(known)}"
    name = key_text((*keys, key))
    return ConfigError(f"unknown key {_cut(name)!r}", where=where, hint=hint)


def _range_text(schema: Mapping[str, Any]) -> str:
    """What a number of this schema may be."""
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    ranges = [f"{word} {schema[rule]}" for rule, word in _RANGES.items() if rule in schema]
    null = ", or null" if "null" in types else ""
    return f"{_TYPES[types[0]]} {' and '.join(ranges)}{null}"


def _hint_for_type(keys: Keys, types: str | list[str], value: Any) -> str:
    if keys[:1] == ("credentials",):
        return "Write credentials.<tenant>.<tool>.<name>: {env: NAME_OF_A_VARIABLE}."
    if types == "object":
        parents = [setting for setting in SETTINGS if _is_below(setting.keys, keys)]
        if parents:
            return f"Its keys: {', '.join(setting.path for setting in parents[:4])}."
    if types in ("string", "boolean"):
        return "Put a text in quotes." if types == "string" else "Write true or false."
    if types == "array" and isinstance(value, str):
        return f"Write a list: [{_cut(value)}]."
    return _hint_for_number(types, value) or _SHOW_ALL


def _hint_for_number(types: str | list[str], value: Any) -> str | None:
    """What to write where a number is wanted and was nearly there."""
    is_whole = "integer" in types
    if not (is_whole or "number" in types) or isinstance(value, bool):
        return None
    number = plain_scalar(value) if isinstance(value, str) else value
    if isinstance(number, float) and is_whole and number.is_integer() and number < _LARGEST:
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool):
        return f"Write it as {number}{', without quotes' if isinstance(value, str) else ''}."
    if isinstance(number, float) and not is_whole:
        return f"Write it as {number}, without quotes."
    if isinstance(value, str):
        return f"Write the digits alone, such as {12 if is_whole else 0.5}: no unit, no separator."
    return None


def _is_below(path: tuple[str, ...], keys: Keys) -> bool:
    pairs = zip(path, keys, strict=False)
    return len(path) > len(keys) and all(a == b or a.startswith("<") for a, b in pairs)


def _types_text(types: str | list[str]) -> str:
    names = [types] if isinstance(types, str) else types
    return " or ".join(_TYPES[name] for name in names)


def _shown(value: Any, keys: Keys) -> str:
    """A wrong value, short; never one that could be a credential."""
    if keys[:1] == ("credentials",):
        return "a value that is not shown here"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"a mapping of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
