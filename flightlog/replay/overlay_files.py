"""Overlay files: a list under the key `overlays`, YAML or JSON, kept and reviewed like code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flightlog.config import load_yaml
from flightlog.errors import ConfigError, nearest
from flightlog.replay.overlay import Action, Overlay

_KEYS: Final = ("tool", "nth", "step", "action", "value")


def read_overlays(path: Path) -> tuple[Overlay, ...]:
    """The overlays of a YAML or JSON file: a list under the key `overlays`.

    Raises:
        ConfigError: not YAML, an unknown key or action, a value that does not fit.
    """
    content, lines = load_yaml(path)
    if not isinstance(content, dict) or set(content) != {"overlays"}:
        raise ConfigError("it must hold one key: overlays", where=f"{path}:1")
    items = content["overlays"]
    if not isinstance(items, list) or not items:
        where = f"{path}:{lines.get(('overlays',), 1)}"
        raise ConfigError("overlays must be a list that is not empty", where=where)
    found = []
    for place, item in enumerate(items):
        line = lines.get(("overlays", place), lines.get(("overlays",), 1))
        where = f"{path}:{line}"
        found.append(_overlay_of(item, where))
    return tuple(found)


def _overlay_of(item: Any, where: str) -> Overlay:
    if not isinstance(item, dict):
        raise ConfigError("an overlay must hold keys and values", where=where)
    for key in item:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(_KEYS)}"
            raise ConfigError(f"unknown key {key!r}", where=where, hint=hint)
    try:
        action = Action(str(item.get("action")))
    except ValueError as error:
        raise ConfigError(
            f"action is {item.get('action')!r:.80}",
            where=where,
            hint=f"Give one of: {', '.join(Action)}.",
        ) from error
    try:
        return Overlay(action, **{key: item[key] for key in item if key != "action"})
    except ConfigError as error:
        raise ConfigError(error.what, where=where, hint=error.hint) from error
