"""Tools from the formats in which model providers take their declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flightlog.errors import ToolDefinitionError, UnknownNameError
from flightlog.runtime.policy import chosen
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect

_SCHEMA_KEYS = ("input_schema", "parameters")
_KNOWN_KEYS = frozenset(
    ("name", "description", *_SCHEMA_KEYS, "strict", "type", "cache_control", "defer_loading")
)


def tools_from_provider(
    declared: Iterable[Mapping[str, Any]],
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    effects: Mapping[str, Effect | str] | None = None,
) -> tuple[Tool, ...]:
    """Tools from the declarations that OpenAI's and Anthropic's interfaces take.

    Args:
        declared: `{"type": "function", "function": {"name", "description", "parameters"}}`,
            the same without the inner object, or `{"name", "description", "input_schema"}`.
        functions: what is called, by tool name, with the arguments by name; None gives
            tools that only recordings can answer.
        effects: effect by tool name or glob; an exact name goes before a glob, and what
            is not named is unknown, which counts as a write.

    Raises:
        ToolDefinitionError: a declaration is malformed, or two have one name.
        UnknownNameError: a function is missing, or one or an effect has no declaration.
    """
    fields = [_fields_of(one, place) for place, one in enumerate(declared)]
    names = [one["name"] for one in fields]
    if functions is not None:
        for name in names:
            if name not in functions:
                raise UnknownNameError.of(
                    "tool", name, list(functions), where="functions of tools_from_provider"
                )
        _check_known(functions, names, "functions of tools_from_provider")
    tools = [
        Tool(
            fn=(functions or {}).get(one["name"]),
            effect=effect_for(one["name"], effects) or Effect.UNKNOWN,
            **one,
        )
        for one in fields
    ]
    _check_known(effects or {}, names, "effects of tools_from_provider")
    return distinct(tools, where="tools_from_provider")


def effect_for(name: str, effects: Mapping[str, Effect | str] | None) -> Effect | None:
    """The effect that is declared for a tool, by its name or the first glob; None without one.

    Raises:
        ToolDefinitionError: it is no effect.
    """
    effect = chosen(effects or {}, name)
    if effect is None:
        return None
    if effect not in list(Effect):
        raise ToolDefinitionError(
            f"unknown effect {effect!r}",
            where=f"tool {name!r}",
            hint=f"Use one of: {', '.join(Effect)}.",
        )
    return Effect(effect)


def distinct(tools: Sequence[Tool], *, where: str) -> tuple[Tool, ...]:
    """The tools, whose names are all different.

    Raises:
        ToolDefinitionError: two have one name.
    """
    seen: set[str] = set()
    for one in tools:
        if one.name in seen:
            raise ToolDefinitionError(
                f"two tools are named {one.name!r}",
                where=where,
                hint="Rename one, or give the tools of one source a prefix.",
            )
        seen.add(one.name)
    return tuple(tools)


def _check_known(given: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuses a name that names nothing: it is a slip of the pen, or a tool that was renamed."""
    for name in given:
        is_glob = any(sign in name for sign in "*?[")
        if not is_glob and name not in names:
            raise UnknownNameError.of("tool", name, names, where=where)


def _fields_of(one: Any, place: int) -> dict[str, Any]:
    where = f"tool declaration {place + 1}"
    if not isinstance(one, Mapping):
        raise _malformed(f"a {type(one).__name__}", where)
    inner = one.get("function", one)
    kind = one.get("type", "function")
    if not isinstance(inner, Mapping) or kind not in ("function", "custom"):
        raise _malformed(f"type {kind!r}", where)
    name = inner.get("name")
    if not isinstance(name, str):
        raise _malformed("no name", where)
    unknown = sorted(set(map(str, inner)) - _KNOWN_KEYS)
    schemas = [inner[key] for key in _SCHEMA_KEYS if key in inner]
    if unknown or len(schemas) > 1:
        what = f"unknown keys {unknown}" if unknown else "both input_schema and parameters"
        raise _malformed(what, f"{where}, {name!r}")
    fields: dict[str, Any] = {"name": name, "description": inner.get("description") or ""}
    if schemas and schemas[0] is not None:
        fields["input_schema"] = schemas[0]
    return fields


def _malformed(what: str, where: str) -> ToolDefinitionError:
    return ToolDefinitionError(
        f"not the declaration of a function: {what}",
        where=where,
        hint="Give {'type': 'function', 'function': {'name', 'description', 'parameters'}} or "
        "{'name', 'description', 'input_schema'}; tools that a provider runs itself have no "
        "place here.",
    )
