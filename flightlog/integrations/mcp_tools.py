"""Tools of an MCP server, behind the gateway.

Nothing here imports the `mcp` package: a client is known by what it can do. What a
server says of its own tools is a hint: it can make a tool stricter than declared, and
less strict only for a caller that asks for that by name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from flightlog.errors import ToolDefinitionError, ToolError, UnknownNameError
from flightlog.runtime.policy import matches
from flightlog.runtime.tool_sources import distinct, effect_for
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Calls a tool by the server's own name for it; gives a CallToolResult or its JSON form."""

MAX_PAGES: Final = 1_000
MAX_HINT_CHARS: Final = 200
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint", "title")
_STRICTNESS: Final = (Effect.PURE, Effect.READ, Effect.UNKNOWN, Effect.WRITE)


@dataclass(frozen=True, slots=True)
class McpRules:
    """How the tools of one server are taken over.

    Attributes:
        effects: effect by the server's name of a tool, or glob; an exact name goes
            before a glob. A hint that is stricter wins over it.
        trust_hints: True lets `readOnlyHint` make a read of a tool that `effects` does
            not name, and `idempotentHint` an idempotent one. Otherwise such a tool is
            unknown, which counts as a write.
        prefix: put before each name, so that two servers do not clash.
        only: names or globs of the tools that are taken; None takes all.
        media: `describe` gives type, size and digest of images, sounds and blobs;
            `inline` gives the bytes too, in base64.
        timeout_s: longest duration of one call, seconds.
        credentials: names of the credentials that each tool needs.
    """

    effects: Mapping[str, Effect | str] | None = None
    trust_hints: bool = False
    prefix: str = ""
    only: Collection[str] | None = None
    media: Literal["describe", "inline"] = "describe"
    timeout_s: float | None = None
    credentials: tuple[str, ...] = ()


NO_RULES: Final = McpRules()


async def mcp_tools(client: Any, *, rules: McpRules = NO_RULES) -> tuple[Tool, ...]:
    """All tools of a server that a client is connected to.

    Args:
        client: an `mcp.Client` or `ClientSession` that stays connected as long as the
            tools are used: something with `list_tools` and `call_tool`.

    Raises:
        ToolDefinitionError: the server lists what cannot be declared, two tools of one
            name, or pages without an end.
        UnknownNameError: `effects` or `only` names a tool that the server does not have.
    """
    listed: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = wire_form(await _list_page(client, cursor))
        listed += page.get("tools", ())
        cursor = page.get("nextCursor")
        if not cursor:
            return tools_from_mcp(listed, client.call_tool, rules=rules)
    raise ToolDefinitionError(
        f"the list of tools has more than {MAX_PAGES} pages",
        where="MCP server",
        hint="The server repeats itself; take its tools with tools_from_mcp.",
    )


def tools_from_mcp(listed: Any, call: Any, *, rules: McpRules = NO_RULES) -> tuple[Tool, ...]:
    """Tools from a server's list of tools.

    Args:
        listed: what `tools/list` gave, its JSON form, or the tools of it.
        call: an async function of the server's name of a tool and the arguments, or
            something with such a function as `call_tool`.

    Raises:
        ToolDefinitionError: a tool cannot be declared, or two have one name.
        UnknownNameError: `effects` or `only` names a tool that is not listed.
    """
    if not isinstance(listed, Sequence):
        listed = wire_form(listed).get("tools", ())
    calling: Call = getattr(call, "call_tool", call)
    declared = [wire_form(one) for one in listed]
    names = [str(one.get("name", "")) for one in declared]
    for name in [*(rules.effects or ()), *(rules.only or ())]:
        if not any(matches(known, name) for known in names):
            raise UnknownNameError.of("tool", name, names, where="MCP server")
    tools = [
        _tool(one, calling, rules)
        for one, name in zip(declared, names, strict=True)
        if rules.only is None or any(matches(name, entry) for entry in rules.only)
    ]
    return distinct(tools, where="MCP server")


def _tool(listed: Mapping[str, Any], call: Call, rules: McpRules) -> Tool:
    name = str(listed.get("name", ""))
    hints = _hints_of(listed)
    declared = effect_for(name, rules.effects)
    return Tool(
        f"{rules.prefix}{name}",
        _function(name, call, rules.media),
        description=str(listed.get("description") or ""),
        effect=_effect(declared, hints, trust_hints=rules.trust_hints),
        input_schema=listed.get("inputSchema"),
        output_schema=listed.get("outputSchema"),
        timeout_s=rules.timeout_s,
        credentials=rules.credentials,
        is_idempotent=rules.trust_hints and hints.get("idempotentHint") is True,
        hints=hints,
    )


def _effect(declared: Effect | None, hints: Mapping[str, Any], *, trust_hints: bool) -> Effect:
    """The stricter of what is declared and what the server says; unknown without both."""
    is_read_only = hints.get("readOnlyHint")
    said: Effect | None = None
    if is_read_only is False or hints.get("destructiveHint") is True:
        said = Effect.WRITE
    elif is_read_only is True:
        said = Effect.READ
    if declared is None:
        if said is Effect.READ and not trust_hints:
            return Effect.UNKNOWN
        return said or Effect.UNKNOWN
    return max(declared, said or declared, key=_STRICTNESS.index)


def _hints_of(listed: Mapping[str, Any]) -> dict[str, Any]:
    """The server's annotations that are known and of the right type."""
    annotations = listed.get("annotations")
    if not isinstance(annotations, Mapping):
        return {}
    return {
        name: value if isinstance(value, bool) else value[:MAX_HINT_CHARS]
        for name in _HINTS
        if isinstance(value := annotations.get(name), str if name == "title" else bool)
    }


def _function(name: str, call: Call, media: str) -> Callable[..., Awaitable[Any]]:
    async def call_tool(**arguments: Any) -> Any:
        return observed(wire_form(await call(name, arguments)), media)

    call_tool.__name__ = call_tool.__qualname__ = name
    return call_tool


def observed(result: Mapping[str, Any], media: str) -> Any:
    """What the model sees: the structured content, else the texts, else all parts as JSON.

    Raises:
        ToolError: the server says that the call failed.
    """
    if result.get("content") is None and result.get("structuredContent") is None:
        raise ToolError(f"the server answered with {', '.join(result) or 'nothing'}, not a result")
    parts = [_part(one, media) for one in result.get("content") or ()]
    texts = [one["text"] for one in parts if one["type"] == "text"]
    if result.get("isError"):
        raise ToolError("\n".join(texts) or "the server says that the call failed, and not why")
    structured = result.get("structuredContent")
    if structured is not None:
        return structured
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _part(part: Mapping[str, Any], media: str) -> dict[str, Any]:
    """One part of a result without what is the protocol's own business."""
    kind = str(part.get("type"))
    if kind == "text":
        return {"type": "text", "text": str(part.get("text", ""))}
    if kind == "resource" and isinstance(part.get("resource"), Mapping):
        part = {"type": kind, **part["resource"]}
    hidden = ("annotations", "_meta", "icons", "data", "blob")
    kept = {name: one for name, one in part.items() if name not in hidden and one is not None}
    encoded = part.get("data", part.get("blob"))
    if isinstance(encoded, str):
        kept |= _described(encoded)
        if media == "inline":
            kept["base64"] = encoded
    return {**kept, "type": kind}


def _described(encoded: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return {"note": "not base64", "characters": len(encoded)}
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def wire_form(value: Any) -> Mapping[str, Any]:
    """The JSON form of one of the SDK's objects; what is no object has no form here."""
    dump = getattr(value, "model_dump", None)
    wire = dump(mode="json", by_alias=True) if callable(dump) else value
    if not isinstance(wire, Mapping):
        raise ToolDefinitionError(
            f"a {type(value).__name__} is no object of the protocol",
            where="MCP server",
            hint="Give what list_tools and call_tool of an MCP client give.",
        )
    return wire


async def _list_page(client: Any, cursor: str | None) -> Any:
    """One page; clients take the cursor under its name, sessions within params."""
    if cursor is None:
        return await client.list_tools()
    if "cursor" in inspect.signature(client.list_tools).parameters:
        return await client.list_tools(cursor=cursor)
    from mcp.types import PaginatedRequestParams  # noqa: PLC0415  - an SDK that is there

    return await client.list_tools(params=PaginatedRequestParams(cursor=cursor))
