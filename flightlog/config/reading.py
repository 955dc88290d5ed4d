"""YAML and JSON read strictly: plain values, and the line of every key and item.

YAML is read with the 1.2 meaning of scalars: `no` is a text, `012` is a text,
only `true` and `false` are booleans. Aliases, tags and duplicate keys are
errors that name the file and the line; in JSON duplicate keys are too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from flightlog.config.regular_file import read_regular
from flightlog.errors import ConfigError

Keys: TypeAlias = tuple[str | int, ...]
Lines: TypeAlias = dict[Keys, int]

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_MAX_DIGITS = 19
_JSON_TOKEN = re.compile(
    r"""[ \t\r\n]*+(?:
        (?P<sign>[{}\[\],:])
      | (?P<scalar>"(?:[^"\\\x00-\x1f]|\\.)*+"
          | -?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![\w.+-])
          | (?:true|false|null)\b)
      | (?P<wrong>.)
    )""",
    re.VERBOSE | re.DOTALL,
)


def load_file(path: str | Path) -> tuple[Any, Lines]:
    """A JSON file (by its name) or a YAML file, as `load_yaml` gives it."""
    text = _text_of(path)
    parse = parse_json if Path(path).suffix.lower() == ".json" else parse_yaml
    return parse(text, where=str(path))


def load_yaml(path: str | Path) -> tuple[Any, Lines]:
    """A YAML file as plain values, and the line of every key and item.

    Returns:
        The value, and a mapping from path (keys and list positions) to line, from 1.

    Raises:
        ConfigError: unreadable, above 1 MiB, not YAML, an alias, a tag, or a duplicate key.
    """
    return parse_yaml(_text_of(path), where=str(path))


def _text_of(path: str | Path) -> str:
    try:
        raw = read_regular(Path(path), MAX_CONFIG_BYTES)
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}", where=str(path), hint="Check the path."
        ) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(
            "the file is above 1 MiB", where=str(path), hint="Name a settings file, not a trace."
        )
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"not UTF-8 at byte {error.start}", where=str(path), hint="Save it as UTF-8."
        ) from error


def parse_yaml(text: str, *, where: str) -> tuple[Any, Lines]:
    """`load_yaml` on text; `where` names its origin in errors."""
    import yaml  # noqa: PLC0415  (only commands that read YAML pay for it)

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines: Lines = {}
    try:
        _check_events(yaml.parse(text, Loader=loader), where)
        node = yaml.compose(text, Loader=loader)
        return (None if node is None else _value_of(node, (), lines, where)), lines
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"not YAML: character {error.character!r} cannot stand in it",
            where=f"{where}:{line}",
            hint='Remove it, or write it as an escape in double quotes: "\\x1b".',
        ) from error
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        place = where if mark is None else f"{where}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        if "maximum nesting depth" in problem:  # PyYAML looks itself, since 6.0.4
            raise _too_deep(place) from error
        problem, hint = _explained(problem, text, mark)
        raise ConfigError(f"not YAML: {problem}", where=place, hint=hint) from error


def _explained(problem: str, text: str, mark: Any) -> tuple[str, str]:
    """A problem in words of its own where the parser's say little, and what to do."""
    rest = "" if mark is None else text.split("\n")[mark.line : mark.line + 1]
    if rest and rest[0][mark.column : mark.column + 1] == "\t":
        return "a tab stands where only spaces may", "Indent with spaces."
    if problem == "but found another document":
        return "a second document begins here", "Keep one: remove the line of dashes."
    return problem, "Check brackets, quotes and indentation here and in the line before."


def _check_events(events: Iterable[Any], where: str) -> None:
    """Refuses aliases, tags and deep nesting before anything is built."""
    depth = 0
    for event in events:
        name, place = type(event).__name__, f"{where}:{event.start_mark.line + 1}"
        if name == "AliasEvent":
            raise ConfigError(
                f"alias *{event.anchor} is not allowed", where=place, hint="Write the value out."
            )
        if getattr(event, "tag", None):
            raise ConfigError(
                f"tag {event.tag!r} is not allowed",
                where=place,
                hint="Write the plain value; put a text in quotes.",
            )
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > MAX_DEPTH:
            raise _too_deep(place)


def _too_deep(place: str) -> ConfigError:
    return ConfigError(
        f"nested more than {MAX_DEPTH} levels deep",
        where=place,
        hint="No settings file is; name another file.",
    )


def _twice(key: str, place: str, first_line: int) -> ConfigError:
    what = f"key {key!r} appears twice, first in line {first_line}"
    return ConfigError(what, where=place, hint="Keep one of them.")


def _encodable(text: str, place: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{text!r} is half a character", where=place, hint="Write the character itself."
        ) from error
    return text


def _value_of(node: Any, path: Keys, lines: Lines, where: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if node.id == "scalar":
        text = _encodable(node.value, f"{where}:{node.start_mark.line + 1}")
        return text if node.style else plain_scalar(text)
    if node.id == "sequence":
        return [_value_of(item, (*path, i), lines, where) for i, item in enumerate(node.value)]
    value: dict[str, Any] = {}
    for key_node, item in node.value:
        line = key_node.start_mark.line + 1
        if key_node.id != "scalar":
            hint = "Quote it, or write it out."
            raise ConfigError("a key must be a plain word", where=f"{where}:{line}", hint=hint)
        if key_node.value in value:
            raise _twice(key_node.value, f"{where}:{line}", lines[(*path, key_node.value)])
        _encodable(key_node.value, f"{where}:{line}")
        lines[(*path, key_node.value)] = line
        value[key_node.value] = _value_of(item, (*path, key_node.value), lines, where)
    return value


def plain_scalar(text: str) -> Any:
    """What an unquoted word means: null, true or false, a number, else the text."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text)
    if _NUMBER.fullmatch(text) and any(c.isdigit() for c in text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def parse_json(text: str, *, where: str) -> tuple[Any, Lines]:
    """`parse_yaml` for strict JSON text: no comments, no NaN, no key twice."""
    return _Json(text, where).document()


class _Json:
    """Reads one JSON document part by part, for the line of each key."""

    def __init__(self, text: str, where: str) -> None:
        self._lines: Lines = {}
        self._where = where
        self._line = 1
        self._tokens = self._read(text)

    def document(self) -> tuple[Any, Lines]:
        value = self._value(next(self._tokens), ())
        if next(self._tokens):
            raise self._wrong("text after the end of the value")
        return value, self._lines

    def _read(self, text: str) -> Iterator[str]:
        """The tokens, then empty ones; `_line` is where the last one stood."""
        at = 0
        while found := _JSON_TOKEN.match(text, at):
            part = found[found.lastgroup or 0]
            self._line += text.count("\n", at, found.start(found.lastgroup or 0))
            if found.lastgroup == "wrong":
                raise self._wrong(f"{part!r} is not expected")
            yield part
            at = found.end()
        self._line += text.count("\n", at)
        while True:
            yield ""

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(
            f"not JSON: {what}",
            where=f"{self._where}:{self._line}",
            hint="Check brackets, quotes and commas here and in the line before.",
        )

    def _value(self, part: str, path: Keys) -> Any:
        self._lines.setdefault(path, self._line)
        if len(path) > MAX_DEPTH:
            raise _too_deep(f"{self._where}:{self._line}")
        if part == "[":
            return self._items(path)
        if part == "{":
            return self._members(path)
        if not part:
            raise self._wrong("it ends too early")
        if part in "]},:":
            raise self._wrong(f"{part!r} is not expected")
        return self._decoded(part)

    def _items(self, path: Keys) -> list[Any]:
        items: list[Any] = []
        part = next(self._tokens)
        while part != "]":
            items.append(self._value(part, (*path, len(items))))
            part = self._next_part("]")
        return items

    def _members(self, path: Keys) -> dict[str, Any]:
        members: dict[str, Any] = {}
        part = next(self._tokens)
        while part != "}":
            if not part.startswith('"'):
                raise self._wrong("a key in double quotes is missing")
            key = self._decoded(part)
            if key in members:
                first = self._lines[(*path, key)]
                raise _twice(key, f"{self._where}:{self._line}", first)
            self._lines[(*path, key)] = self._line
            if next(self._tokens) != ":":
                raise self._wrong(f"':' is missing after key {key!r}")
            members[key] = self._value(next(self._tokens), (*path, key))
            part = self._next_part("}")
        return members

    def _next_part(self, end: str) -> str:
        """The end, or the part after a comma."""
        part = next(self._tokens)
        if part == end:
            return part
        if part != ",":
            raise self._wrong(f"',' or {end!r} is missing")
        part = next(self._tokens)
        if part == end:
            raise self._wrong(f"a value is missing between ',' and {end!r}")
        return part

    def _decoded(self, part: str) -> Any:
        if part[0] in "-0123456789":
            return plain_scalar(part)
        try:
            value = json.loads(part)
        except json.JSONDecodeError as error:
            raise self._wrong(error.msg) from error
        place = f"{self._where}:{self._line}"
        return _encodable(value, place) if isinstance(value, str) else value
