"""YAML of the goldens: written so that the strict loader reads back exactly what was written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from flightlog.config import load_yaml, parse_yaml
from flightlog.errors import ConfigError, GoldenError, nearest

Lines: TypeAlias = dict[tuple[str | int, ...], int]
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


class _Dumper(yaml.SafeDumper):
    """Quotes every text that could be read as something else; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    style = None if is_plain else ("|" if "\n" in text else '"')
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump_yaml(value: Any, *, where: str) -> str:
    """A JSON-like value as YAML, checked by reading it back.

    Raises:
        GoldenError: the value would not come back as it is.
    """
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    if not _comes_back(text, value):
        text = yaml.dump(value, Dumper=_QuotingDumper, sort_keys=False, width=100)
        if not _comes_back(text, value):
            raise GoldenError(
                "it would hold a value that YAML cannot carry",
                where=where,
                hint="Keep inputs to JSON values with text keys.",
            )
    return text


def _comes_back(text: str, value: Any) -> bool:
    try:
        return bool(parse_yaml(text, where="")[0] == value)
    except ConfigError:
        return False


class _QuotingDumper(_Dumper):
    """Quotes and escapes every text: longer, but nothing can go wrong in it."""


_QuotingDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """A YAML file and the line of every key.

    Raises:
        GoldenError: missing, not YAML, an alias or a duplicate key.
    """
    try:
        return load_yaml(path)
    except ConfigError as error:
        raise GoldenError(error.what, where=error.where, hint=error.hint) from error


class Fields:
    """Takes checked fields out of a YAML mapping; errors name file, line and nearest key.

    Args:
        value: what the file holds at `keys`.
        lines: line of every key, from `read_yaml`.
        path: the file.
        keys: where in the file the mapping stands.
    """

    def __init__(
        self, value: Any, lines: Lines, path: Path, *, keys: tuple[str | int, ...] = ()
    ) -> None:
        self._lines, self._path, self._keys = lines, path, keys
        if not isinstance(value, dict):
            name = ".".join(map(str, keys)) or "the file"
            raise GoldenError(f"{name} must hold keys and values", where=self.where())
        self._value: dict[str, Any] = value

    def where(self, *keys: str | int) -> str:
        """`file:line` of a key below this mapping; of the mapping where the key is absent."""
        own = self._lines.get(self._keys, 1)
        return f"{self._path}:{self._lines.get((*self._keys, *keys), own)}"

    def allow_only(self, *known: str) -> None:
        """Refuses keys that nobody knows."""
        for key in self._value:
            if key not in known:
                near = nearest(key, known)
                raise GoldenError(
                    f"unknown key {key!r}",
                    where=self.where(key),
                    hint=f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}",
                )

    def text(self, key: str, *, default: str | None = None) -> str | None:
        """A text, or the default where the key is absent or null."""
        value = self._value.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a text (put it in quotes)")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where the key is absent or null."""
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """A mapping as it stands; empty where the key is absent or null."""
        value = self._value.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(key, "keys and values")
        return value

    def fields(self, key: str) -> Fields:
        """A mapping to take fields out of; empty where the key is absent or null."""
        return Fields(self.mapping(key), self._lines, self._path, keys=(*self._keys, key))

    def items(self, key: str) -> list[Fields]:
        """A list of mappings to take fields out of, or one that stands alone; mostly empty."""
        value = self._value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            return [self.fields(key)]
        keys = (*self._keys, key)
        return [
            Fields(item, self._lines, self._path, keys=(*keys, place))
            for place, item in enumerate(value)
        ]

    def get(self, key: str) -> Any:
        """The value as it stands, or None."""
        return self._value.get(key)

    def wrong(self, key: str, expected: str) -> GoldenError:
        """The error of a value of the wrong form."""
        name = ".".join(map(str, (*self._keys, key)))
        return GoldenError(
            f"{name} is {self._value.get(key)!r}", where=self.where(key), hint=f"Give {expected}."
        )
