"""`flightlog.yaml`: one table of settings, loaded strictly.

YAML (or JSON, which is YAML too) is read with the 1.2 meaning of scalars:
`no` is a string, `012` is a string, only `true` and `false` are booleans.
Aliases, duplicate keys, unknown keys and wrong types are errors that name the
file and the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flightlog.errors import ConfigError, nearest

MAX_CONFIG_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
TRACKABLE_METRICS: Final = (
    "success",
    "tool_calls_per_run",
    "tokens_per_request",
    "cost_usd",
    "latency_p95",
    "stop_reason",
)
KILL_SWITCH_MODES: Final = ("disable_writes", "stop_all")
DEFAULT_CONFIG_NAME: Final = "flightlog.yaml"

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        path: dotted key in the file.
        schema: JSON Schema of its value.
        default: value when the file does not set it.
        description: what it does, one sentence.
    """

    path: str
    schema: Mapping[str, Any]
    default: Any
    description: str


def _limit(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"], "exclusiveMinimum": 0}


_USD_PER_MTOK = {"type": "number", "minimum": 0}
_PRICE_NAMES = ("input", "output", "cache_read", "cache_write")

SETTINGS: Final = (
    Setting(
        "tools.allow",
        {"type": "array", "items": {"type": "string", "minLength": 1}},
        ("search.read", "kb.read", "http.get"),
        "Tools that may be called: exact names, or globs where one is written.",
    ),
    Setting("budgets.max_steps", _limit("integer"), 30, "Steps per run."),
    Setting("budgets.max_seconds", _limit("number"), 90, "Seconds per run."),
    Setting("budgets.max_tool_calls", _limit("integer"), 15, "Tool call attempts per run."),
    Setting("budgets.max_usd", _limit("number"), None, "USD per run; needs a price per model."),
    Setting("budgets.max_tokens", _limit("integer"), None, "Tokens per run."),
    Setting(
        "writes.require_approval",
        {"type": "boolean"},
        default=True,
        description="A write needs an approver's yes.",
    ),
    Setting(
        "monitoring.track",
        {"type": "array", "items": {"enum": list(TRACKABLE_METRICS)}},
        ("tool_calls_per_run", "tokens_per_request", "stop_reason", "latency_p95"),
        "Metrics that `flightlog check` compares by default.",
    ),
    Setting(
        "kill_switch.mode_when_enabled",
        {"enum": list(KILL_SWITCH_MODES)},
        "disable_writes",
        "What the kill switch does once it is on.",
    ),
    Setting(
        "prices",
        {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {f"{name}_usd_per_mtok": _USD_PER_MTOK for name in _PRICE_NAMES},
                "required": ["input_usd_per_mtok", "output_usd_per_mtok"],
                "additionalProperties": False,
            },
        },
        {},
        "Own prices by model name, USD per million tokens.",
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The effective settings.

    Attributes:
        values: setting path -> value, every setting present.
        sources: setting path -> `file:line`, or `default`.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Any:
        return self.values[path]


def default_config() -> Config:
    """The documented safe default."""
    return Config(
        {setting.path: setting.default for setting in SETTINGS},
        {setting.path: "default" for setting in SETTINGS},
    )


def load_config(path: str | Path) -> Config:
    """The settings of a YAML or JSON file over the defaults.

    Raises:
        ConfigError: unreadable, not YAML, an alias, a duplicate or unknown key, a wrong type.
    """
    value, lines = load_yaml(path)
    if value is None:
        value = {}
    _validate(value, lines, path)
    values, sources = dict(default_config().values), dict(default_config().sources)
    for setting in SETTINGS:
        keys = tuple(setting.path.split("."))
        found, node = True, value
        for key in keys:
            found = isinstance(node, dict) and key in node
            node = node[key] if found else None
            if not found:
                break
        if found:
            values[setting.path] = tuple(node) if isinstance(node, list) else node
            sources[setting.path] = f"{path}:{lines[keys]}"
    return Config(values, sources)


def load_yaml(path: str | Path) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """A YAML file as plain values, and the line of every key and item.

    Returns:
        The value, and a mapping from path (keys and list positions) to line, from 1.

    Raises:
        ConfigError: unreadable, above 1 MiB, not YAML, an alias, or a duplicate key.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}", where=str(path), hint="Check the path."
        ) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(
            "the file is above 1 MiB", where=str(path), hint="Name a settings file, not a trace."
        )
    try:
        return parse_yaml(raw.decode("utf-8"), where=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"not UTF-8 at byte {error.start}", where=str(path), hint="Save it as UTF-8."
        ) from error


def parse_yaml(text: str, *, where: str) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """`load_yaml` on text; `where` names its origin in errors."""
    import yaml  # noqa: PLC0415  (only commands that read YAML pay for it)

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines: dict[tuple[str | int, ...], int] = {}
    try:
        _check_events(yaml.parse(text, Loader=loader), where)
        node = yaml.compose(text, Loader=loader)
        return (None if node is None else _value_of(node, (), lines, where)), lines
    except yaml.YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        place = where if mark is None else f"{where}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        hint = "Check brackets, quotes and indentation here and in the line before."
        raise ConfigError(f"not YAML: {problem}", where=place, hint=hint) from error


def _check_events(events: Iterable[Any], where: str) -> None:
    """Refuses aliases and deep nesting before anything is built."""
    depth = 0
    for event in events:
        name, place = type(event).__name__, f"{where}:{event.start_mark.line + 1}"
        if name == "AliasEvent":
            raise ConfigError(
                f"alias *{event.anchor} is not allowed", where=place, hint="Write the value out."
            )
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} levels deep", where=place)


def _value_of(
    node: Any, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], where: str
) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if node.id == "scalar":
        return _scalar(node.value) if not node.style else node.value
    if node.id == "sequence":
        return [_value_of(item, (*path, i), lines, where) for i, item in enumerate(node.value)]
    value: dict[str, Any] = {}
    for key_node, item in node.value:
        line = key_node.start_mark.line + 1
        if key_node.id != "scalar":
            hint = "Quote it, or write it out."
            raise ConfigError("a key must be a plain word", where=f"{where}:{line}", hint=hint)
        if key_node.value in value:
            raise ConfigError(
                f"key {key_node.value!r} appears twice",
                where=f"{where}:{line}",
                hint="Keep one of them.",
            )
        lines[(*path, key_node.value)] = line
        value[key_node.value] = _value_of(item, (*path, key_node.value), lines, where)
    return value


def _scalar(text: str) -> Any:
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text) and len(text) < 20:
        return int(text)
    if _NUMBER.fullmatch(text) and any(c.isdigit() for c in text):
        return float(text)
    return text


def _file_schema() -> dict[str, Any]:
    root: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    for setting in SETTINGS:
        node = root
        *groups, last = setting.path.split(".")
        for group in groups:
            node = node["properties"].setdefault(
                group, {"type": "object", "properties": {}, "additionalProperties": False}
            )
        node["properties"][last] = dict(setting.schema)
    return root


def _validate(value: Any, lines: Mapping[tuple[str | int, ...], int], path: str | Path) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415  (import costs 0.1 s)

    errors = list(Draft202012Validator(_file_schema()).iter_errors(value))
    if not errors:
        return
    error = min(errors, key=lambda e: lines.get(tuple(e.absolute_path), 0))
    keys = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        near = nearest(unknown, known)
        raise ConfigError(
            f"unknown key {'.'.join(map(str, (*keys, unknown)))!r}",
            where=f"{path}:{lines.get((*keys, unknown), 1)}",
            hint=f"nearest: {', '.join(near)}" if near else f"known here: {', '.join(known)}",
        )
    name = ".".join(map(str, keys)) or "the file"
    hint = "flightlog config show lists every key with its default."
    if error.validator == "enum":
        allowed = [str(item) for item in error.validator_value]
        hint = f"one of: {', '.join(nearest(str(error.instance), allowed) or allowed)}"
    raise ConfigError(f"{name}: {error.message}", where=f"{path}:{lines.get(keys, 1)}", hint=hint)
