"""Dotted keys of a settings file: `tools.allow: [...]` is `tools: {allow: [...]}`."""

from __future__ import annotations

from typing import Any, Final

from flightlog.config.reading import Keys, Lines
from flightlog.config.settings import SETTINGS
from flightlog.errors import ConfigError

_DOTTED: Final = frozenset(
    ".".join(parts[:length])
    for parts in (tuple(setting.root.split(".")) for setting in SETTINGS)
    for length in range(2, len(parts) + 1)
)
"""What may stand at the top of a file in one word. Below the top a name may hold dots itself."""


def with_dotted_keys(value: Any, lines: Lines, file: str) -> tuple[Any, Lines]:
    """The value of a file with its dotted keys taken apart, and the lines to match.

    Raises:
        ConfigError: a setting stands in the file both ways.
    """
    dotted = [key for key in value if key in _DOTTED] if isinstance(value, dict) else []
    if not dotted:
        return value, lines
    whole = {key: item for key, item in value.items() if key not in dotted}
    placed = {keys: line for keys, line in lines.items() if not keys or keys[0] not in dotted}
    for key in dotted:
        line = lines[(key,)]
        *groups, last = key.split(".")
        node = whole
        for depth, group in enumerate(groups, start=1):
            node = _group(node, group, f"{file}:{line}")
            placed.setdefault(tuple(groups[:depth]), line)
        if last in node:
            raise _twice(key, f"{file}:{line}")
        node[last] = value[key]
        placed |= {_moved(keys, key): at for keys, at in lines.items() if keys[:1] == (key,)}
    return whole, placed


def _group(node: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """The group of that name, a copy where the file holds one."""
    found = node.get(name, {})
    if not isinstance(found, dict):
        raise _twice(name, place)
    node[name] = dict(found)
    copy: dict[str, Any] = node[name]
    return copy


def _moved(keys: Keys, key: str) -> Keys:
    return (*key.split("."), *keys[1:])


def _twice(key: str, place: str) -> ConfigError:
    return ConfigError(f"{key!r} is set twice", where=place, hint="Keep one of them.")
