"""Reads JSON lines of any shape, by a mapping file that says where what stands.

The mapping gives names of run lines (docs/import.md) a path in the line: names with dots, a
number for a place in a list. A line is a run with a list of events, or one event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from flightlog.config.reading import load_yaml
from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import ForeignRun
from flightlog.integrations.importers.json_input import LineFile, decode
from flightlog.integrations.importers.run_lines import Row, RowEvent, run_of_row
from flightlog.integrations.messages import text_of

FORMAT: Final = "mapped"
LOOKS_LIKE: Final = "one JSON object a line"
_HINT: Final = "Nothing was imported."
_TEXTS: Final = frozenset(
    {"result", "error", "name", "call_id", "finish_reason", "ts", "requestor"}
)
_ROW_TEXTS: Final = frozenset(
    {
        "run_id",
        "task_id",
        "agent",
        "task_group",
        "task_digest",
        "model",
        "variant",
        "stop_reason",
        "started_at",
        "ended_at",
        "run_error",
    }
)


class Mapped(msgspec.Struct, forbid_unknown_fields=True):
    """A mapping file.

    Attributes:
        source: name of what the lines come from.
        each_line: what a line is.
        run: name in a run line -> path in the line; `run_id` is needed.
        events: path of the list of events in a line that is a run.
        event: name in an event of a run line -> path in the event.
        types: value at `event.type` -> `model`, `tool` or `user`; others are left out.
    """

    source: str
    run: dict[str, str]
    event: dict[str, str]
    types: dict[str, Literal["model", "tool", "user"]]
    each_line: Literal["run", "event"] = "run"
    events: str | None = None


def load_mapping(path: Path) -> Mapped:
    """The mapping of a file.

    Raises:
        ConfigError: it cannot be read, or is no YAML.
        TraceFormatError: it is no mapping.
    """
    try:
        value, _ = load_yaml(path)
        mapping = msgspec.convert(value, Mapped)
    except msgspec.ValidationError as error:
        raise TraceFormatError(
            f"not a mapping: {error}", where=str(path), hint="docs/import.md describes it."
        ) from error
    known_run, known_event = set(Row.__struct_fields__), set(RowEvent.__struct_fields__)
    for given, known, what in (
        (mapping.run, known_run - {"source", "events", "totals"}, "run"),
        (mapping.event, known_event, "event"),
    ):
        unknown = sorted(set(given) - known)
        if unknown:
            raise TraceFormatError(
                f"{what}: {unknown[0]!r} is not known",
                where=str(path),
                hint=f"Known are {', '.join(sorted(known))}.",
            )
    for what, name, given in (("run", "run_id", mapping.run), ("event", "type", mapping.event)):
        if name not in given:
            raise TraceFormatError(
                f"{what}: {name!r} has no path", where=str(path), hint="docs/import.md has more."
            )
    if (mapping.each_line == "run") == (mapping.events is None):
        raise TraceFormatError(
            "events: the path of a run's events, where each_line is run, and only there",
            where=str(path),
            hint="docs/import.md describes it.",
        )
    return mapping


def mapped_reader(mapping: Mapped) -> Callable[[Path], Iterable[ForeignRun]]:
    """What reads files by a mapping."""
    return lambda path: MappedLines(path, mapping)


class MappedLines:
    """The runs of a file; each iteration reads it anew, line by line.

    The lines of one run have to stand together where a line is an event.

    Args:
        path: the file.
        mapping: where what stands.

    Raises:
        TraceFormatError: while iterating, at the first line that is not as the mapping says.
    """

    def __init__(self, path: Path, mapping: Mapped) -> None:
        self._path = path
        self._mapping = mapping
        self._lines = LineFile(path)

    def __iter__(self) -> Iterator[ForeignRun]:
        rows = self._runs() if self._mapping.each_line == "run" else self._grouped()
        for where, head, events in rows:
            yield run_of_row(self._row(head, events, where), where, format_name=FORMAT)

    def _runs(self) -> Iterator[tuple[str, Any, list[Any]]]:
        for where, line in self._decoded():
            events = at_path(line, self._mapping.events or "")
            if not isinstance(events, list):
                raise _wrong(f"no list of events at {self._mapping.events!r}", where)
            yield where, line, events

    def _grouped(self) -> Iterator[tuple[str, Any, list[Any]]]:
        seen: set[str] = set()
        current: tuple[str, Any, list[Any]] | None = None
        run_id = None
        for where, line in self._decoded():
            found = text_of(at_path(line, self._mapping.run["run_id"]))
            if found is None:
                raise _wrong(f"no id of a run at {self._mapping.run['run_id']!r}", where)
            if current is not None and found == run_id:
                current[2].append(line)
                continue
            if current is not None:
                yield current
            if found in seen:
                raise _wrong(f"the lines of run {found[:100]!r} do not stand together", where)
            seen.add(found)
            run_id, current = found, (where, line, [line])
        if current is not None:
            yield current

    def _decoded(self) -> Iterator[tuple[str, Any]]:
        for number, line in self._lines:
            where = f"{self._path}:{number}"
            yield where, decode(line, dict[str, Any], where=where, looks_like=LOOKS_LIKE)

    def _row(self, head: Any, events: list[Any], where: str) -> Row:
        plain = _picked(head, self._mapping.run, _ROW_TEXTS)
        made = [self._event(one) for one in events]
        row = {"task_id": "", **plain, "source": self._mapping.source}
        try:
            return msgspec.convert({**row, "events": [one for one in made if one]}, Row)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            raise _wrong(f"not as the mapping says: {error}", where) from error

    def _event(self, event: Any) -> dict[str, Any] | None:
        plain = _picked(event, self._mapping.event, _TEXTS)
        kind = self._mapping.types.get(str(plain.get("type")))
        if kind is None:
            return None
        calls = plain.get("calls")
        if isinstance(calls, list):
            plain["calls"] = [_call_id(one) for one in calls]
        else:
            plain.pop("calls", None)
        return {**plain, "type": kind}


def at_path(value: Any, path: str) -> Any:
    """What stands at a path such as `meta.usage.0.count`; None where nothing does."""
    for name in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and len(name) < 9:
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


def _picked(value: Any, paths: Mapping[str, str], texts: frozenset[str]) -> dict[str, Any]:
    found = {name: at_path(value, path) for name, path in paths.items()}
    return {
        name: text_of(one) if name in texts else one
        for name, one in found.items()
        if one is not None
    }


def _call_id(call: Any) -> str:
    """An id, or that of an object that has one."""
    if isinstance(call, Mapping):
        call = next((call[name] for name in ("id", "call_id", "tool_call_id") if name in call), "")
    return text_of(call) or ""


def _wrong(what: str, where: str) -> TraceFormatError:
    return TraceFormatError(what, where=where, hint=f"Check the mapping. {_HINT}")
