"""Declarations of the tools of golden tasks as a file: reviewable and sorted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flightlog.errors import GoldenError, ToolDefinitionError
from flightlog.golden.task import TOOLS_FILE
from flightlog.golden.yaml_files import Fields, dump_yaml, read_yaml
from flightlog.replay.matching import ToolRule
from flightlog.replay.write_through import problem_of_write_through
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import canonical_json


def load_tools(path: Path) -> dict[str, Tool]:
    """The declarations of a `tools.yaml`, by name.

    Raises:
        GoldenError: missing, malformed, an unknown key, effect or scope.
    """
    value, lines = read_yaml(path)
    top = Fields(value, lines, path)
    top.allow_only("tools", "fixture")
    declared = top.fields("tools")
    found: dict[str, Tool] = {}
    for name, given in top.mapping("tools").items():
        fields = given or {}
        where = declared.where(name)
        if not isinstance(fields, dict):
            raise declared.wrong(name, "keys and values")
        Fields(fields, lines, path, keys=("tools", name)).allow_only(*_TOOL_KEYS)
        try:
            found[name] = Tool.from_declaration({**fields, "name": name})
            ToolRule.of(found[name], where=where)
        except (ToolDefinitionError, TypeError, ValueError) as error:
            what = error.what if isinstance(error, ToolDefinitionError) else str(error)
            hint = error.hint if isinstance(error, ToolDefinitionError) else ""
            raise GoldenError(f"tool {name!r}: {what}", where=where, hint=hint) from error
    for name, tool in found.items():
        if problem := problem_of_write_through(tool, found):
            raise GoldenError(f"tool {name!r}: {problem}", where=declared.where(name))
    return found


def load_fixture(goldens: Path) -> str | None:
    """The state of the world that recordings begin in, as `tools.yaml` names it.

    Raises:
        GoldenError: the file is malformed.
    """
    path = goldens / TOOLS_FILE
    if not path.exists():
        return None
    value, lines = read_yaml(path)
    return Fields(value, lines, path).text("fixture")


def tools_text(tools: Mapping[str, Tool], *, where: str, fixture: str | None = None) -> str:
    """Declarations as the text of a `tools.yaml`, in order of their names."""
    plain: dict[str, Any] = {} if fixture is None else {"fixture": fixture}
    plain["tools"] = {name: _declared(tools[name]) for name in sorted(tools)}
    return _TOOLS_HEADER + dump_yaml(plain, where=where)


def parse_toolset(text: str | None, *, where: str) -> dict[str, Tool]:
    """The tools of a recorded toolset message, by name.

    Raises:
        GoldenError: the message is not a toolset, or a scope in it cannot be used.
    """
    try:
        tools = [Tool.from_declaration(declared) for declared in json.loads(text or "[]")]
        for tool in tools:
            ToolRule.of(tool)
    except ToolDefinitionError as error:
        hint = "Correct the declaration in a tools file and pin with --tools FILE."
        raise GoldenError(error.what, where=f"{where}, {error.where}", hint=hint) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise GoldenError(f"the recorded toolset cannot be read: {error}", where=where) from error
    return {tool.name: tool for tool in tools}


_TOOL_KEYS: Final = (
    "description",
    "effect",
    "scopes",
    "input_schema",
    "output_schema",
    "timeout_s",
    "volatile",
    "is_consuming",
    "write_through",
    "cost_usd",
)
_TOOLS_HEADER: Final = (
    "# What each tool does to the world; replay matches by it. effect: pure, read, write or\n"
    "# unknown. scopes: what it touches, such as order:{order_id}. See docs/goldens.md.\n"
)


def _declared(tool: Tool) -> dict[str, Any]:
    plain = tool.declaration()
    del plain["name"]
    value: dict[str, Any] = json.loads(canonical_json(plain))
    return {key: value[key] for key in _TOOL_KEYS if key in value}
