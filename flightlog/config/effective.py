"""The effective settings as a list: each value and the place that it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flightlog.config import DEFAULT_SOURCE, Config
from flightlog.config.reading import Keys
from flightlog.config.settings import REQUIRED, SETTINGS, Setting


@dataclass(frozen=True, slots=True)
class Effective:
    """One value that is in force.

    Attributes:
        keys: where it stands in a settings file; for a key that no entry sets,
            with the part in `<>` that names the choice.
        value: None is off or no limit.
        source: `file:line`, or `default`.
        setting: its row in the table.
    """

    keys: Keys
    value: Any
    source: str
    setting: Setting

    @property
    def is_off(self) -> bool:
        """True when nobody set it and it does nothing."""
        return self.source == DEFAULT_SOURCE and (self.value is None or self.value == {})


def effective(config: Config) -> tuple[Effective, ...]:
    """Every setting with its value, in the order of the table; an entry's keys stand together."""
    found: list[Effective] = []
    seen: set[str] = set()
    for setting in SETTINGS:
        if not setting.is_entry:
            value, source = config[setting.path], config.sources[setting.path]
            found.append(Effective(setting.keys, value, source, setting))
        elif setting.root not in seen:
            seen.add(setting.root)
            found += _of_mapping(config, setting.root)
    return tuple(found)


def _of_mapping(config: Config, root: str) -> Iterator[Effective]:
    """What the entries of a mapping by name say; its keys with no value where it has none."""
    leaves = [setting for setting in SETTINGS if setting.is_entry and setting.root == root]
    depth = len(root.split("."))
    chosen = leaves[0].keys[depth:-1]
    names = list(_names(config[root], len(chosen)))
    for entry in names:
        node = config[root]
        for name in entry:
            node = node[name]
        for leaf in leaves:
            key = leaf.keys[-1]
            is_set = key in node
            yield Effective(
                (*leaf.keys[:depth], *entry, key),
                node.get(key, leaf.default),
                config.where(root, *entry, key) if is_set else DEFAULT_SOURCE,
                leaf,
            )
    if not names:
        for leaf in leaves:
            yield Effective(leaf.keys, None, DEFAULT_SOURCE, leaf)


def _names(node: Mapping[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    """The chosen names of every entry, `depth` of them each."""
    for name, child in node.items():
        if depth == 1:
            yield (name,)
        else:
            yield from ((name, *rest) for rest in _names(child, depth - 1))


def default_text(setting: Setting) -> str:
    """The default in words."""
    if setting.default is REQUIRED:
        return "required"
    if setting.default is None:
        return "none"
    return str(setting.default)
