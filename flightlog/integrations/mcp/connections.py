"""Runs the recorder or the guard between our own stdin and stdout and a server."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flightlog.integrations.mcp.guarding import Begin, Guard
from flightlog.integrations.mcp.observing import Observer
from flightlog.integrations.mcp.server_process import ServerProcess, from_client, to_client
from flightlog.integrations.mcp_tools import NO_RULES, McpRules
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.policy import Policy
from flightlog.trace.vocab import StopReason

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Ending:
    """Why a connection ended: the first reason counts."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.detail: str | None = None
        self._lock = threading.Lock()

    def set(self, reason: StopReason, detail: str | None = None) -> None:
        with self._lock:
            if self.reason is None:
                self.reason, self.detail = reason, detail


def record_connection(
    command: Sequence[str],
    recorder: Recorder,
    columns: Mapping[str, Any],
    *,
    rules: McpRules = NO_RULES,
) -> tuple[Observer, int]:
    """Passes all lines between our client and a server, and records the tool calls.

    Returns:
        What saw them, and the server's exit code.

    Raises:
        UsageError: the server cannot be started.
    """
    observer, ending = Observer(recorder, columns, rules), _Ending()
    with ServerProcess(command) as server, _signals(server, ending):

        def up(line: bytes) -> None:
            observer.from_client(line)
            server.send(line)

        def down(line: bytes) -> None:
            observer.from_server(line)
            if not to_client(line):
                ending.set(StopReason.OK, None)
                server.no_more()

        from_client(up, _client_gone(server, ending))
        server.serve(down)
        code = _left(server, ending)
    assert ending.reason is not None
    observer.end(ending.reason, ending.detail)
    return observer, code


def guard_connection(
    command: Sequence[str], begin: Begin, policy: Policy, *, rules: McpRules = NO_RULES
) -> tuple[Guard, int]:
    """Passes lines between our client and a server, and tool calls through the gateway.

    Returns:
        What guarded them, and the server's exit code.

    Raises:
        UsageError: the server cannot be started.
    """
    ending = _Ending()
    with ServerProcess(command) as server, _signals(server, ending):
        guard, code = asyncio.run(_guarded(server, begin, policy, rules, ending))
    return guard, code


async def _guarded(
    server: ServerProcess, begin: Begin, policy: Policy, rules: McpRules, ending: _Ending
) -> tuple[Guard, int]:
    loop = asyncio.get_running_loop()
    guard = Guard(begin, policy, to_server=server.send, to_client=to_client, rules=rules)

    def take(handle: Callable[[bytes], None]) -> Callable[[bytes], None]:
        return lambda line: _in(loop, handle, line)

    from_client(take(guard.from_client), _client_gone(server, ending))
    await asyncio.to_thread(server.serve, take(guard.from_server))
    await asyncio.sleep(0)  # what came last is taken before the end
    code = await asyncio.to_thread(_left, server, ending)
    assert ending.reason is not None
    await guard.end(ending.reason, ending.detail)
    return guard, code


def _in(loop: asyncio.AbstractEventLoop, handle: Callable[[bytes], None], line: bytes) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(handle, line)


def _client_gone(server: ServerProcess, ending: _Ending) -> Callable[[str | None], None]:
    def gone(why: str | None) -> None:
        reason = StopReason.OK if why is None else StopReason.CRASHED
        ending.set(reason, why)
        server.no_more()

    return gone


def _left(server: ServerProcess, ending: _Ending) -> int:
    """Sees to the server's end, and why it was."""
    code = server.leave()
    if server.broken is not None:
        ending.set(StopReason.CRASHED, server.broken)
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    ending.set(
        StopReason.OK if code == 0 else StopReason.CRASHED,
        None if code == 0 else f"the server ended first, with {how}",
    )
    return code


class _signals:  # noqa: N801  - reads as what it does
    """While it is open, signals that end us end the server, which ends the connection."""

    def __init__(self, server: ServerProcess, ending: _Ending) -> None:
        self._server = server
        self._ending = ending
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        def ended(number: int, _frame: object) -> None:
            self._ending.set(StopReason.CANCELLED, f"ended by {signal.Signals(number).name}")
            self._server.terminate()

        self._before = {one: signal.signal(one, ended) for one in _SIGNALS}

    def __exit__(self, *_exc: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
