"""`flightlog.yaml`: settings over the safe defaults, each with the place it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flightlog.config.dotted import with_dotted_keys
from flightlog.config.metrics import check_metrics
from flightlog.config.reading import Keys, load_file
from flightlog.config.reading import load_yaml as load_yaml
from flightlog.config.reading import parse_yaml as parse_yaml
from flightlog.config.settings import SETTINGS as SETTINGS
from flightlog.config.settings import TRACKABLE_METRICS as TRACKABLE_METRICS
from flightlog.config.settings import Setting as Setting
from flightlog.config.validation import validate

DEFAULT_CONFIG_NAME: Final = "flightlog.yaml"
DEFAULT_SOURCE: Final = "default"


@dataclass(frozen=True, slots=True)
class Config:
    """The effective settings.

    Attributes:
        values: setting -> value, every setting present; a mapping by name
            (`retries`, `budgets.per_tool`) is one, and holds what the file sets.
        sources: setting -> `file:line`, or `default`.
        file: the file that was read; None for the defaults.
        lines: line of every key of the file.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)
    file: str | None = field(default=None, compare=False)
    lines: Mapping[Keys, int] = field(default_factory=dict, compare=False, repr=False)

    def __getitem__(self, setting: str) -> Any:
        return self.values[setting]

    def is_set(self, setting: str) -> bool:
        """True when the file sets it, be it to the default."""
        return self.sources.get(setting, DEFAULT_SOURCE) != DEFAULT_SOURCE

    def where(self, setting: str, *names: str | int) -> str:
        """`file:line` of a setting, or of an entry and a key below it; `default` if not set.

        A key that an entry leaves out has the line of the entry.
        """
        keys: Keys = (*setting.split("."), *names)
        while keys and keys not in self.lines:
            if len(keys) <= setting.count(".") + 1:
                return DEFAULT_SOURCE
            keys = keys[:-1]
        return f"{self.file}:{self.lines[keys]}"


def default_config() -> Config:
    """The documented safe default."""
    roots = {setting.root: {} if setting.is_entry else setting.default for setting in SETTINGS}
    return Config(roots, dict.fromkeys(roots, DEFAULT_SOURCE))


def load_config(path: str | Path) -> Config:
    """The settings of a YAML or JSON file over the defaults.

    Raises:
        ConfigError: unreadable, not YAML, an alias, a duplicate or unknown key, a wrong type.
    """
    read, read_lines = load_file(path)
    value, lines = with_dotted_keys({} if read is None else read, read_lines, str(path))
    validate(value, lines, str(path))
    check_metrics(value, lines, str(path))
    default = default_config()
    values, sources = dict(default.values), dict(default.sources)
    for root in values:
        keys = tuple(root.split("."))
        if keys in lines:
            node = value
            for key in keys:
                node = node[key]
            values[root] = tuple(node) if isinstance(node, list) else node
            sources[root] = f"{path}:{lines[keys]}"
    return Config(values, sources, str(path), lines)
