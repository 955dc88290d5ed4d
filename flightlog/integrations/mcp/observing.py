"""Records the tool calls between a client and its server, and changes nothing of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flightlog.errors import ToolDefinitionError, ToolError
from flightlog.integrations.mcp.jsonrpc import (
    is_request,
    is_response,
    key_of,
    messages_in,
    params_of,
)
from flightlog.integrations.mcp.session_facts import Facts
from flightlog.integrations.mcp_tools import NO_RULES, McpRules, observed
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool, toolset_message
from flightlog.trace.canonical import clean_text
from flightlog.trace.fitting import fitted_labels
from flightlog.trace.foreign import args_fields
from flightlog.trace.ids import new_id
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect, Outcome, ServedHow, StopReason

SOURCE: Final = "mcp"
_MAX_OPEN: Final = 10_000
_ERROR_CHARS: Final = 2000


@dataclass(slots=True)
class _Call:
    name: str
    args: Mapping[str, Any]
    ident: str
    step: int
    call_ix: int
    started_s: float


@dataclass(slots=True)
class _Open:
    """Requests that wait for their answers, by id."""

    calls: dict[str, _Call] = field(default_factory=dict)
    lists: dict[str, None] = field(default_factory=dict)
    hellos: dict[str, None] = field(default_factory=dict)


class Observer:
    """Sees the lines of one connection. For two threads, one for each direction.

    Its run begins with the first tool call; a connection without one is no run. A call is
    recorded before its answer is passed on.

    Args:
        recorder: takes the events.
        columns: of the run's start.
        rules: what the tools do to the world.

    Attributes:
        calls: that were recorded.
        unread: lines that are no JSON-RPC; they are passed on.
    """

    def __init__(
        self, recorder: Recorder, columns: Mapping[str, Any], rules: McpRules = NO_RULES
    ) -> None:
        self.calls = 0
        self.unread = 0
        self._recorder = recorder
        self._columns = dict(columns)
        self._rules = rules
        self._facts = Facts()
        self._tools: dict[str, Tool] = {}
        self._open = _Open()
        self._writer: RunWriter | None = None
        self._step = 0
        self._next_ix = 0
        self._lock = threading.Lock()

    def from_client(self, line: bytes) -> None:
        """Sees a line on its way to the server."""
        self._see(line, self._of_client)

    def from_server(self, line: bytes) -> None:
        """Sees a line on its way to the client."""
        self._see(line, self._of_server)

    def end(self, reason: StopReason, detail: str | None = None) -> None:
        """The connection is over: what waits for an answer gets none."""
        with self._lock:
            for key in list(self._open.calls):
                self._failed(key, "the connection ended before the answer came", "no_answer")
            if self._writer is not None:
                self._writer.stopped(status=reason.status, stop_reason=reason, stop_detail=detail)

    def _see(self, line: bytes, take: Callable[[Mapping[str, Any]], None]) -> None:
        if not line.strip():
            return
        messages = messages_in(line)
        with self._lock:
            self.unread += messages is None
            for message in messages or ():
                take(message)

    def _of_client(self, message: Mapping[str, Any]) -> None:
        method, params = message.get("method"), params_of(message)
        if method == "notifications/cancelled":
            self._failed(key_of(params.get("requestId")), "the client cancelled it", "cancelled")
        if not is_request(message):
            return
        self._facts.of_request(message)
        key = key_of(message["id"])
        if method == "tools/call" and isinstance(params.get("name"), str):
            self._begin(key, message)
        elif method == "tools/list":
            _keep(self._open.lists, key, None)
        else:
            _keep(self._open.hellos, key, None)

    def _of_server(self, message: Mapping[str, Any]) -> None:
        if not is_response(message):
            return
        key, result = key_of(message["id"]), message.get("result")
        if key in self._open.calls:
            self._end(self._open.calls.pop(key), message)
            return
        if not isinstance(result, Mapping):
            return
        if key in self._open.lists:
            del self._open.lists[key]
            self._facts.of_tools(result)
            tools, _ = self._facts.tools(_never, self._rules)
            self._tools = {tool.name: tool for tool in tools}
        elif key in self._open.hellos:
            del self._open.hellos[key]
        self._facts.of_result(result)

    def _begin(self, key: str, message: Mapping[str, Any]) -> None:
        self._failed(key, "its id was used again before the answer came", "no_answer")
        if not self._open.calls:  # else it is beside others, in one step with them
            self._step, self._next_ix = self._step + 1, 0
        params = params_of(message)
        args = params.get("arguments")
        if self._writer is None:
            self._writer = self._started()
        call = _Call(
            name=clean_text(params["name"]),
            args=args if isinstance(args, Mapping) else {},
            ident=clean_text(str(message["id"])),
            step=self._step,
            call_ix=self._next_ix,
            started_s=time.perf_counter(),
        )
        self._next_ix += 1
        _keep(self._open.calls, key, call)

    def _started(self) -> RunWriter:
        writer = RunWriter.with_system_clock(self._recorder, new_id())
        columns = dict(self._columns)
        task = Task(columns.get("task_id") or "", "", suite=columns.get("suite")).message
        toolset = toolset_message(list(self._tools.values())) if self._tools else None
        columns.setdefault("agent", self._facts.client)
        writer.started(
            messages=[one for one in (task, toolset) if one is not None],
            source=SOURCE,
            task_digest=task.digest,
            toolset_digest=None if toolset is None else toolset.digest,
            labels=fitted_labels(self._facts.labels),
            **columns,
        )
        return writer

    def _end(self, call: _Call, message: Mapping[str, Any]) -> None:
        error = message.get("error")
        if isinstance(error, Mapping):
            text = clean_text(str(error.get("message", "")))[:_ERROR_CHARS]
            kind = f"jsonrpc {error.get('code')}"
            self._write(call, outcome=Outcome.FAILED, error=text, error_type=kind)
            return
        result = message.get("result")
        try:
            value = observed(result if isinstance(result, Mapping) else {}, self._rules.media)
        except (ToolError, ToolDefinitionError, ValueError, TypeError, KeyError) as failed:
            told = isinstance(result, Mapping) and result.get("isError")
            self._write(
                call,
                outcome=Outcome.FAILED,
                error=clean_text(str(failed))[:_ERROR_CHARS],
                error_type="tool_error" if told else type(failed).__name__,
            )
            return
        self._write(call, outcome=Outcome.OK, result=value)

    def _failed(self, key: str, why: str, kind: str) -> None:
        call = self._open.calls.pop(key, None)
        if call is not None:
            self._write(call, outcome=Outcome.FAILED, error=why, error_type=kind)

    def _write(self, call: _Call, **fields: Any) -> None:
        assert self._writer is not None
        tool = self._tools.get(call.name)
        self.calls += 1
        self._writer.tool_call(
            step=call.step,
            call_ix=call.call_ix,
            tool_name=call.name,
            tool_call_id=call.ident,
            effect=Effect.UNKNOWN if tool is None else tool.effect,
            latency_ms=round((time.perf_counter() - call.started_s) * 1000, 3),
            served_how=ServedHow.LIVE,
            **args_fields(call.args),
            **fields,
        )


async def _never(name: str, arguments: Mapping[str, Any]) -> Any:
    raise NotImplementedError(name)


def _keep(table: dict[str, Any], key: str, value: Any) -> None:
    """Remembers an open request; of too many the oldest is forgotten."""
    table[key] = value
    if len(table) > _MAX_OPEN:
        del table[next(iter(table))]
