"""The official client on one side, real servers on the other, a command of ours between them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mcp import Client, StdioServerParameters

from flightlog.analysis.db import Traces

T = TypeVar("T")
TIME = (sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC")
ZONE = {"timezone": "Europe/Berlin"}
BAD_ZONE = {"timezone": "Mars/Olympus"}
SERVER = """
import asyncio, sys
from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations
server = MCPServer("desk", version="1.2")
state = {"A1": "open"}
@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def get_order(order_id: str) -> dict[str, str]:
    "Looks an order up."
    if order_id not in state:
        raise LookupError(f"no order {order_id}")
    return {"order_id": order_id, "state": state[order_id]}
@server.tool()
def close_order(order_id: str) -> str:
    "Closes an order."
    state[order_id] = "closed"
    return "closed"
@server.tool()
async def slow(seconds: float) -> str:
    "Takes its time."
    await asyncio.sleep(seconds)
    return "at last"
@server.tool()
def die() -> str:
    "Ends the server."
    import os
    os._exit(3)
server.run("stdio")
"""
DESK = (sys.executable, "-c", SERVER)


def through(*arguments: object, server: Sequence[str] = ()) -> StdioServerParameters:
    """A command of ours in front of a server, as a client starts it."""
    tail = ["--", *server] if server else []
    parts = ["-m", "flightlog", "mcp", *map(str, arguments), *tail]
    return StdioServerParameters(command=sys.executable, args=parts)


def talk(
    parameters: StdioServerParameters, say: Callable[[Client], Awaitable[T]], **options: Any
) -> T:
    """What a client gets out of one connection."""

    async def talking() -> T:
        async with asyncio.timeout(60), Client(parameters, **options) as client:
            return await say(client)

    return asyncio.run(talking())


def text_of(result: Any) -> str:
    """All the texts of a result."""
    return "\n".join(part.text for part in result.content if part.type == "text")


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    """Rows of a store."""
    with Traces(store) as traces:
        return traces.rows(query)
