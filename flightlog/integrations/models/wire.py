"""What the clients of all providers share: names of tools, endpoints, JSON of arguments."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flightlog.runtime.tools import Tool

MAX_NAME_CHARS: Final = 64
"""Longest name of a tool that the providers take."""

OPEN_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]")
_PORTS: Final = {"http": 80, "https": 443}


class ToolNames:
    """Names of tools as a provider takes them (letters, digits, `_`, `-`), and back.

    `orders.get` goes out as `orders_get`; two that would be alike get a digest each.

    Args:
        names: of all tools that the request offers, and of those that its messages name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._out: dict[str, str] = {}
        self._back: dict[str, str] = {}
        distinct = sorted(set(names))
        plain = [_NOT_ALLOWED.sub("_", name)[:MAX_NAME_CHARS] for name in distinct]
        for name, short in zip(distinct, plain, strict=True):
            is_taken = short != name and plain.count(short) > 1
            sent = _with_digest(short, name) if is_taken else short
            self._out[name] = sent
            self._back[sent] = name

    def out(self, name: str) -> str:
        """The name on the wire."""
        return self._out[name]

    def back(self, name: str) -> str:
        """The tool that the provider means; a name that it made up stays as it is."""
        return self._back.get(name, name)


def _with_digest(short: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{short[: MAX_NAME_CHARS - len(digest) - 1]}_{digest}"


def schema_of(tool: Tool) -> dict[str, Any]:
    """The input schema as the providers want it: always that of an object."""
    return dict(tool.input_schema or OPEN_OBJECT)


def object_of(arguments: str) -> dict[str, Any]:
    """The arguments of an earlier call as an object, which some providers insist on."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {"arguments": arguments}
    return value if isinstance(value, dict) else {"arguments": arguments}


def endpoints_at(base_url: str) -> tuple[tuple[str, int], ...]:
    """Host and port that a client connects to: its server, or the proxy in between."""
    server = urlsplit(base_url)
    host = server.hostname or ""
    found = [(host, server.port or _PORTS.get(server.scheme, 0))]
    proxies = urllib.request.getproxies()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(host):
        through = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        found.append((through.hostname or "", through.port or 0))
    return tuple((name, port) for name, port in found if name)
