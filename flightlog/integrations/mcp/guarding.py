"""The gateway in front of an MCP server: no tool call reaches it but through the policy."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from flightlog.errors import FlightlogError, ToolError
from flightlog.integrations.mcp.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    error_of,
    is_request,
    is_response,
    key_of,
    line_of,
    messages_in,
    params_of,
    result_of,
)
from flightlog.integrations.mcp.session_facts import Facts, is_of_newer_protocol
from flightlog.integrations.mcp_tools import NO_RULES, McpRules
from flightlog.runtime.policy import Policy
from flightlog.runtime.session import Called, Session
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import clean_text
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import StopReason

Send = Callable[[bytes], object]
Begin = Callable[[list[Tool], Facts], Session]
MAX_PAGES: Final = 1000
_LIST_S: Final = 60.0


class ServerError(ToolError):
    """The server answered with a JSON-RPC error."""


@dataclass(slots=True)
class _Asked:
    """One call of the client while the gateway has it."""

    params: Mapping[str, Any]
    raw: Mapping[str, Any] | None = None
    ids: list[str] = field(default_factory=list)


_ASKED: Final[ContextVar[_Asked]] = ContextVar("flightlog_mcp_call")


class Guard:
    """Stands between one client and one server. Of one event loop.

    What the client sends is read and written anew, so that what the server reads is what was
    judged. Tools that the policy does not allow are not listed. The server's first word on a
    tool stays: one that it declares otherwise later is refused.

    Args:
        begin: gives the session once the tools are known.
        policy: what it allows.
        to_server: sends a line to the server.
        to_client: sends a line to the client.
        rules: what the tools do to the world.

    Attributes:
        refused: calls that were answered without the server.
        problems: tools that cannot be declared, by name.
    """

    def __init__(
        self,
        begin: Begin,
        policy: Policy,
        *,
        to_server: Send,
        to_client: Send,
        rules: McpRules = NO_RULES,
    ) -> None:
        self.calls = 0
        self.refused = 0
        self.problems: dict[str, str] = {}
        self._begin = begin
        self._policy = policy
        self._to_server = to_server
        self._to_client = to_client
        self._rules = rules
        self._facts = Facts()
        self._changed: set[str] = set()
        self._session: Session | None = None
        self._starting = asyncio.Lock()
        self._own = f"flightlog-{secrets.token_hex(4)}-"
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Mapping[str, Any]]] = {}
        self._lists: set[str] = set()
        self._gated: dict[str, tuple[_Asked, asyncio.Task[None]]] = {}

    def from_client(self, line: bytes) -> None:
        """Takes a line of the client."""
        if not line.strip():
            return
        messages = messages_in(line)
        if messages is None or len(messages) != 1 or line.lstrip()[:1] == b"[":
            why = "one JSON-RPC message a line is taken; no batch, and nothing else"
            self._answer(error_of(None, INVALID_REQUEST, why))
            return
        [message] = messages
        method = message.get("method")
        if method == "tools/call":
            self._take_call(message)
        elif method == "notifications/cancelled":
            self._cancelled(message)
        else:
            if is_request(message):
                self._facts.of_request(message)
                if method == "tools/list":
                    self._lists.add(key_of(message["id"]))
            self._to_server(line_of(message))

    def from_server(self, line: bytes) -> None:
        """Takes a line of the server."""
        messages = messages_in(line)
        if messages is None:
            return  # a stray print of the server; no client could read it
        for message in messages:
            self._of_server(message)

    async def end(self, reason: StopReason, detail: str | None = None) -> None:
        """The connection is over: what waits for the server gets no answer."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ServerError("the connection ended before the answer came"))
        tasks = [task for _, task in self._gated.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        if self._session is not None:
            self._session.end(reason, detail=detail)

    def _of_server(self, message: dict[str, Any]) -> None:
        if not is_response(message):
            self._answer(message)
            return
        ident, result = message["id"], message.get("result")
        if isinstance(ident, str) and ident.startswith(self._own):
            waiting = self._waiting.pop(ident, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
            return
        if isinstance(result, Mapping):
            key = key_of(ident)
            if key in self._lists:
                self._lists.discard(key)
                message = {**message, "result": self._allowed(result)}
            else:
                self._facts.of_result(result)
        self._answer(message)

    def _allowed(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """A page of the server's list with the tools that the policy allows."""
        tools = result.get("tools")
        listed = (
            [one for one in tools if isinstance(one, Mapping)] if isinstance(tools, list) else []
        )
        self._changed |= {str(one.get("name")) for one in listed if self._facts.changed(one)}
        self._facts.of_tools(result)
        kept = [
            one
            for one in listed
            if self._policy.allows(str(one.get("name")))
            and str(one.get("name")) not in self._changed
        ]
        return {**result, "tools": kept}

    def _take_call(self, message: dict[str, Any]) -> None:
        if not is_request(message):
            return  # a call that wants no answer would pass unseen
        key = key_of(message["id"])
        if key in self._gated:
            why = "the id of this request is in use"
            self._answer(error_of(message["id"], INVALID_REQUEST, why))
            return
        asked = _Asked(params_of(message))
        task = asyncio.ensure_future(self._answered(message, asked))
        self._gated[key] = (asked, task)
        task.add_done_callback(lambda _: self._gated.pop(key, None))

    def _cancelled(self, message: dict[str, Any]) -> None:
        params = params_of(message)
        found = self._gated.get(key_of(params.get("requestId")))
        if found is None:
            self._to_server(line_of(message))
            return
        for ident in found[0].ids:
            self._to_server(line_of({**message, "params": {**params, "requestId": ident}}))
            waiting = self._waiting.pop(ident, None)
            if waiting is not None and not waiting.done():
                waiting.set_exception(ToolError("the client cancelled it"))

    async def _answered(self, message: dict[str, Any], asked: _Asked) -> None:
        """Puts one call through the gateway and answers the client."""
        self._facts.of_request(message)
        params, ident = params_of(message), message["id"]
        name, args = params.get("name"), params.get("arguments")
        try:
            session = await self._ready(params)
        except (FlightlogError, ServerError, TimeoutError) as error:
            why = f"flightlog guard: {getattr(error, 'what', error)}"
            self._answer(error_of(ident, INTERNAL_ERROR, why))
            return
        request = ToolRequest(
            clean_text(str(ident)),
            clean_text(name) if isinstance(name, str) else "",
            json.dumps({} if args is None else args),
        )
        _ASKED.set(asked)
        self.calls += 1
        called = await session.call_async([request])
        self._answer(result_of(ident, self._result(called, asked)))

    def _result(self, called: Called, asked: _Asked) -> Mapping[str, Any]:
        """What the client gets: the server's own result, or error, where the gateway took it."""
        if asked.raw is not None and (called.is_ok[0] or asked.raw.get("isError")):
            return asked.raw
        self.refused += asked.raw is None
        text = called.messages[0].text or ""
        found: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
        if is_of_newer_protocol(asked.params):
            found["resultType"] = "complete"
        return found if called.is_ok[0] else {**found, "isError": True}

    async def _ready(self, params: Mapping[str, Any]) -> Session:
        async with self._starting:
            if self._session is not None and self._is_alive_again(self._session):
                self._session = None
            if self._session is None:
                if not self._facts.listed:
                    await self._list(params.get("_meta"))
                tools, self.problems = self._facts.tools(self._call, self._rules)
                self._session = self._begin(tools, self._facts)
            return self._session

    @staticmethod
    def _is_alive_again(session: Session) -> bool:
        """True when a kill switch had ended the run and is off: what comes now is a new one."""
        stop = session.stop
        return stop is not None and stop.reason is StopReason.KILL_SWITCH and not session.is_killed

    async def _list(self, meta: Any) -> None:
        """Has the server list its tools, for a client that calls without having asked."""
        cursor = None
        for _ in range(MAX_PAGES):
            params: dict[str, Any] = {"_meta": meta} if isinstance(meta, Mapping) else {}
            if cursor is not None:
                params["cursor"] = cursor
            async with asyncio.timeout(_LIST_S):
                answer = await self._ask("tools/list", params, None)
            result = answer.get("result")
            if not isinstance(result, Mapping):
                raise ServerError(f"the server does not list its tools: {_error_text(answer)}")
            self._facts.of_tools(result)
            cursor = result.get("nextCursor")
            if not cursor:
                return

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The function behind every tool: the server's answer to the client's own request."""
        if name in self._changed:
            raise ToolError("the server declares this tool otherwise than when the session began")
        asked = _ASKED.get()
        params = {**asked.params, "name": name, "arguments": arguments}
        answer = await self._ask("tools/call", params, asked)
        result = answer.get("result")
        if not isinstance(result, Mapping):
            raise ServerError(_error_text(answer))
        asked.raw = result
        return result

    async def _ask(
        self, method: str, params: Mapping[str, Any], asked: _Asked | None
    ) -> Mapping[str, Any]:
        self._count += 1
        ident = f"{self._own}{self._count}"
        if asked is not None:
            asked.ids.append(ident)
        waiting: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = waiting
        sent = {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}
        if self._to_server(line_of(sent)) is False:
            self._waiting.pop(ident, None)
            raise ServerError("the server takes no more")
        try:
            return await waiting
        except asyncio.CancelledError:
            told = {"requestId": ident, "reason": "flightlog: its time is up"}
            with suppress(OSError):
                self._to_server(
                    line_of({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": told})
                )
            raise
        finally:
            self._waiting.pop(ident, None)

    def _answer(self, message: Mapping[str, Any]) -> None:
        self._to_client(line_of(message))


def _error_text(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    if not isinstance(error, Mapping):
        return "the server answered with neither result nor error"
    return clean_text(f"{error.get('message', '')} (JSON-RPC {error.get('code')})")[:2000]
