"""Comment lines of a YAML file: put in before a key, and kept when the file is written anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import yaml

from flightlog.config import parse_yaml
from flightlog.errors import ConfigError

Keys: TypeAlias = tuple[str | int, ...]
Comments: TypeAlias = Mapping[Keys, tuple[str, ...]]

_MAX_CHARS: Final = 160
_END: Final[Keys] = ()
"""Where comments go whose key is gone."""


def comments_of(text: str) -> dict[Keys, tuple[str, ...]]:
    """The comments of a file by the key that they stand before, or behind; () for its end."""
    lines = text.splitlines()
    keys, in_texts, behind = _keys_by_line(text), _lines_of_texts(text), _behind(text)
    found: dict[Keys, tuple[str, ...]] = {}
    waiting: list[str] = []
    for number, line in enumerate(lines, 1):
        if number in keys:
            waiting += behind.get(number, [])
            if waiting:
                found[keys[number]] = tuple(waiting)
            waiting = []
        elif line.lstrip().startswith("#") and number not in in_texts:
            waiting.append(line.lstrip().removeprefix("#").strip())
        elif line.strip():
            waiting = []
    if waiting:
        found[_END] = tuple(waiting)
    return found


def with_comments(text: str, comments: Comments) -> str:
    """The file with comment lines before their keys, indented alike.

    Args:
        text: YAML in block style.
        comments: lines without the sign, by key; hostile content is made harmless.
    """
    keys = _keys_by_line(text)
    at_end = [line for key, lines in comments.items() if key not in keys.values() for line in lines]
    out: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        indent = line[: len(line) - len(line.lstrip())]
        for comment in comments.get(keys[number], ()) if number in keys else ():
            out.append(f"{indent}# {harmless(comment)}".rstrip())
        out.append(line)
    out += [f"# {harmless(comment)}".rstrip() for comment in at_end]
    return "\n".join(out) + "\n"


def harmless(text: str) -> str:
    """A text that stays within its line of comment: printable ASCII as it is, the rest escaped."""
    safe = "".join(map(_printable, text[:_MAX_CHARS]))
    return safe if len(text) <= _MAX_CHARS else f"{safe}..."


def _printable(char: str) -> str:
    if char.isascii() and char.isprintable():
        return char
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _keys_by_line(text: str) -> dict[int, Keys]:
    """The outermost key that begins on each line; items of lists stand on lines of their own."""
    try:
        lines: dict[Any, int] = parse_yaml(text, where="")[1]
    except ConfigError:
        return {}
    found: dict[int, Keys] = {}
    for keys, line in lines.items():
        if keys and (line not in found or len(keys) < len(found[line])):
            found[line] = keys
    return found


def _behind(text: str) -> dict[int, list[str]]:
    """The comments that stand behind something, by line."""
    ends: dict[int, int] = {}
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            ends[token.end_mark.line] = max(ends.get(token.end_mark.line, 0), token.end_mark.column)
    except yaml.YAMLError:
        return {}
    found: dict[int, list[str]] = {}
    for place, line in enumerate(text.splitlines()):
        rest = line[ends.get(place, 0) :].strip()
        if ends.get(place) and rest.startswith("#"):
            found[place + 1] = [rest.removeprefix("#").strip()]
    return found


def _lines_of_texts(text: str) -> set[int]:
    """The lines that belong to a value of several lines, where `#` begins no comment."""
    found: set[int] = set()
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.ScalarToken):
                end = token.end_mark.line + (1 if token.end_mark.column else 0)
                found.update(range(token.start_mark.line + 1, end + 1))
    except yaml.YAMLError:
        return found
    return found
