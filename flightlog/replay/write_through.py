"""Declared write-through: after a write, a read that its own result answers.

    update_order:
      effect: write
      scopes: ["order:{order_id}"]
      write_through:
        get_order: {order_id: order_id}                  # the read gives the write's result
        get_total: {args: {id: result.id}, answer: result.total}     # or a part of it

The left side names an argument of the read, the right side where its value comes from: an
argument of the write, or `result` and a path into its result. Such an answer belongs to the
state that the write left behind: after any later write to what the read reads, nobody asks
for it any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flightlog.errors import ToolDefinitionError, nearest
from flightlog.replay.state import parse_result
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import CanonicalArgs, canonical_json
from flightlog.trace.vocab import Effect

_PATH: Final = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_RESULT: Final = "result"
_EXAMPLE: Final = (
    "Write {read tool: {its argument: where it comes from}}, such as "
    "{get_order: {order_id: result.id}}, or {get_order: {args: {...}, answer: result.order}}."
)
_MISSPELT: Final = 0.85
_ABSENT: Final = object()
_STYLES: Final[tuple[Callable[[Any], str], ...]] = (
    canonical_json,
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False),
    lambda value: json.dumps(value, indent=2),
)


@dataclass(frozen=True, slots=True)
class WriteThrough:
    """One read that a successful write answers.

    Attributes:
        tool_name: the read.
        args: argument of the read -> path of its value, in pieces.
        answer: path of the answer within the write's result; empty for the whole.
    """

    tool_name: str
    args: Mapping[str, tuple[str, ...]]
    answer: tuple[str, ...]

    def args_after(self, args: CanonicalArgs, result: str | None) -> dict[str, Any] | None:
        """The read's arguments after one write; None where a value is not there."""
        values = {**args.value, _RESULT: parse_result(result)}
        found = {name: _at(values, path) for name, path in self.args.items()}
        return None if any(value is _ABSENT for value in found.values()) else found

    def answer_after(self, result: str | None) -> str | None:
        """What the read shows after one write; None where the result lacks it."""
        if result is None or not self.answer:
            return result
        whole = parse_result(result)
        part = _at(whole, self.answer)
        if part is _ABSENT:
            return None
        if isinstance(part, str):
            return part
        # Spaces and escapes as the tool's own: the model never saw them otherwise.
        return next((style for style in _STYLES if style(whole) == result), canonical_json)(part)


def parse_write_through(
    declared: Mapping[str, Any], effect: Effect, *, where: str
) -> tuple[WriteThrough, ...]:
    """The reads that a write answers, as it declares them.

    Raises:
        ToolDefinitionError: not a write, or a declaration that is not as above.
    """
    if declared and not effect.is_write:
        raise ToolDefinitionError(
            f"write_through on a tool whose effect is {effect.value}",
            where=where,
            hint="Only a write has it; declare effect: write, or remove it.",
        )
    return tuple(_parse(name, given, where) for name, given in declared.items())


def problem_of_write_through(tool: Tool, tools: Mapping[str, Tool]) -> str | None:
    """What is wrong with the reads that a tool names, seen beside all declared tools."""
    for name, given in tool.write_through.items():
        read = tools.get(name)
        if read is None:
            near = nearest(name, tools, cutoff=_MISSPELT)
            if near:
                return f"write_through names {name!r}, not declared; nearest: {', '.join(near)}"
            continue
        if read.effect is not Effect.READ or read.is_consuming:
            kind = "a consuming read" if read.is_consuming else f"effect {read.effect.value}"
            return f"write_through names {name!r}, which is {kind}; only a plain read can be"
        properties = (read.input_schema or {}).get("properties")
        args = given.get("args", given) if isinstance(given, Mapping) else {}
        unknown = [a for a in args if isinstance(properties, Mapping) and a not in properties]
        if unknown:
            return (
                f"write_through gives {name!r} an argument {unknown[0]!r}, which it does not take"
            )
    return None


def _parse(name: str, given: Any, where: str) -> WriteThrough:
    is_long = isinstance(given, Mapping) and isinstance(given.get("args"), Mapping)
    args = given["args"] if is_long else given
    answer = given.get("answer", _RESULT) if is_long else _RESULT
    problem = ""
    if not isinstance(args, Mapping):
        problem = f"{args!r} does not say where the read's arguments come from"
    elif is_long and (unknown := sorted(map(str, set(given) - {"args", "answer"}))):
        problem = f"unknown key {unknown[0]!r}"
    elif bad := [path for path in (*args.values(), answer) if not _is_path(path)]:
        problem = f"{bad[0]!r} does not name an argument or a field of the result"
    elif answer.split(".")[0] != _RESULT:
        problem = f"the answer {answer!r} is not 'result' or a field of it"
    if problem:
        raise ToolDefinitionError(
            f"write_through of {name!r}: {problem}", where=where, hint=_EXAMPLE
        )
    paths = {str(argument): tuple(path.split(".")) for argument, path in args.items()}
    return WriteThrough(name, paths, tuple(answer.split(".")[1:]))


def _is_path(path: Any) -> bool:
    return isinstance(path, str) and _PATH.fullmatch(path) is not None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return _ABSENT
    return value
