"""What a connection tells of itself: who the client and the server are, and their tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flightlog.errors import FlightlogError
from flightlog.integrations.mcp.jsonrpc import params_of
from flightlog.integrations.mcp_tools import McpRules, tools_from_mcp
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import clean_text

_META: Final = "io.modelcontextprotocol/"
_NAME_CHARS: Final = 200


@dataclass(slots=True)
class Facts:
    """What is known of a connection so far.

    Attributes:
        client: name and version.
        server: name and version.
        protocol: version of the protocol.
        listed: declarations of the server's tools, by name.
    """

    client: str | None = None
    server: str | None = None
    protocol: str | None = None
    listed: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_request(self, message: Mapping[str, Any]) -> None:
        """Learns from a request of the client; the newer protocol tells it with each."""
        params = params_of(message)
        meta = params.get("_meta")
        if message.get("method") == "initialize":
            self.client = _named(params.get("clientInfo")) or self.client
        elif isinstance(meta, Mapping):
            self.client = _named(meta.get(f"{_META}clientInfo")) or self.client
            self.protocol = _text(meta.get(f"{_META}protocolVersion")) or self.protocol

    def of_result(self, result: Mapping[str, Any]) -> None:
        """Learns from an answer of the server."""
        meta = result.get("_meta")
        told = meta.get(f"{_META}serverInfo") if isinstance(meta, Mapping) else None
        self.server = _named(result.get("serverInfo")) or _named(told) or self.server
        self.protocol = _text(result.get("protocolVersion")) or self.protocol

    def of_tools(self, result: Mapping[str, Any]) -> None:
        """Learns from a page of the server's list of tools; the first word on a tool stays."""
        tools = result.get("tools")
        for one in tools if isinstance(tools, list) else []:
            if isinstance(one, Mapping) and isinstance(one.get("name"), str):
                self.listed.setdefault(one["name"], dict(one))

    def changed(self, one: Mapping[str, Any]) -> bool:
        """True for a declaration that is not the one that was first listed under its name."""
        known = self.listed.get(str(one.get("name")))
        return known is not None and _plain(known) != _plain(one)

    def tools(self, call: Any, rules: McpRules) -> tuple[list[Tool], dict[str, str]]:
        """The tools, and by name why others cannot be declared."""
        found: list[Tool] = []
        problems: dict[str, str] = {}
        for name, one in self.listed.items():
            try:
                [tool] = tools_from_mcp([one], call, rules=_for(name, rules))
                found.append(tool)
            except (FlightlogError, ValueError) as error:
                problems[clean_text(name)] = getattr(error, "what", str(error))
        return found, problems

    @property
    def labels(self) -> dict[str, str]:
        """As labels of a run."""
        pairs = {
            "mcp_client": self.client,
            "mcp_server": self.server,
            "mcp_protocol": self.protocol,
        }
        return {name: value for name, value in pairs.items() if value}


def is_of_newer_protocol(params: Mapping[str, Any]) -> bool:
    """True for a request of the protocol without a handshake, 2026-07-28 and later."""
    meta = params.get("_meta")
    return isinstance(meta, Mapping) and f"{_META}protocolVersion" in meta


def _for(name: str, rules: McpRules) -> McpRules:
    """The rules of one tool: a rule that names another would be refused."""
    effects = {
        pattern: effect
        for pattern, effect in (rules.effects or {}).items()
        if pattern == name or any(sign in pattern for sign in "*?[")
    }
    from fnmatch import fnmatchcase  # noqa: PLC0415

    kept = {pattern: one for pattern, one in effects.items() if fnmatchcase(name, pattern)}
    return McpRules(effects=kept or None, trust_hints=rules.trust_hints, timeout_s=rules.timeout_s)


def _named(info: Any) -> str | None:
    if not isinstance(info, Mapping):
        return None
    name, version = _text(info.get("name")), _text(info.get("version"))
    return f"{name} {version}" if name and version else name


def _text(value: Any) -> str | None:
    return clean_text(value)[:_NAME_CHARS] if isinstance(value, str) and value else None


def _plain(declared: Mapping[str, Any]) -> str:
    kept = {name: declared.get(name) for name in ("description", "inputSchema", "outputSchema")}
    return json.dumps(kept, sort_keys=True)
