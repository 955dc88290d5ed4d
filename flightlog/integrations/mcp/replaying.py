"""A golden task as an MCP server: its tools, answered from its recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flightlog._version import __version__
from flightlog.errors import MissingExtraError
from flightlog.runtime.session import Session
from flightlog.runtime.tools import Tool
from flightlog.trace.messages import ToolRequest

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

_FAILED = "tool_error"
_OPEN: Mapping[str, Any] = {"type": "object"}


def server_of(name: str, tools: Sequence[Tool], session: Session) -> Server[Any]:
    """A server, by the official SDK, whose calls the session answers.

    Args:
        name: of the golden task.
        tools: as declared in it.
        session: with the executor that answers from the recordings.

    Raises:
        MissingExtraError: the package mcp is not installed.
    """
    try:
        from mcp.server.lowlevel import Server  # noqa: PLC0415  - an extra
        from mcp_types import CallToolResult, ListToolsResult  # noqa: PLC0415
        from mcp_types import Tool as Declared  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "a golden as an MCP server needs the package mcp", hint="pip install 'flightlog[mcp]'"
        ) from error
    declared = {tool.name: tool for tool in tools}

    async def list_tools(_ctx: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Declared.model_validate(declaration(one)) for one in tools])

    async def call_tool(ctx: Any, params: Any) -> CallToolResult:
        request = ToolRequest(str(ctx.request_id), params.name, json.dumps(params.arguments or {}))
        called = await session.call_async([request])
        text = called.messages[0].text or ""
        result = answer(declared.get(params.name), text, is_ok=called.is_ok[0])
        return CallToolResult.model_validate(result)

    return Server(
        f"flightlog replay {name}",
        version=__version__,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def declaration(tool: Tool) -> dict[str, Any]:
    """A tool as a server lists it."""
    found: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": {**_OPEN, **(tool.input_schema or {})},
    }
    if tool.output_schema is not None:
        found["outputSchema"] = dict(tool.output_schema)
    if tool.hints:
        found["annotations"] = dict(tool.hints)
    return found


def answer(tool: Tool | None, text: str, *, is_ok: bool) -> dict[str, Any]:
    """An observation as a server gives it: where the tool declares a form, in that form too."""
    if not is_ok:
        text = _own_words(text)
    found: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": not is_ok}
    if is_ok and tool is not None and tool.output_schema is not None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return found
        if isinstance(value, dict):
            found["structuredContent"] = value
            # Servers that wrap a plain text, as the SDK's do, tell it plainly beside.
            if set(value) == {"result"} and isinstance(value["result"], str):
                found["content"] = [{"type": "text", "text": value["result"]}]
    return found


def _own_words(text: str) -> str:
    """The words of a server whose recorded call failed; all else as it is."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"]) if error["type"] == _FAILED else text
    except (ValueError, TypeError, LookupError, RecursionError):
        return text


async def serve_stdio(server: Server[Any]) -> None:
    """Serves our own stdin and stdout until the client closes them."""
    from mcp.server.stdio import stdio_server  # noqa: PLC0415

    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())
