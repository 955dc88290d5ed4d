"""Anthropic's tool runner: tools behind the gateway, and its own limit as a stop reason.

Importing it needs the package anthropic. Source: anthropic 2.x, `client.beta.messages.tool_runner`,
`BetaBuiltinFunctionTool`, `ToolError`.
"""

from __future__ import annotations

from typing import Any, Final

from anthropic.lib.tools import (
    BetaAsyncBuiltinFunctionTool,
    BetaBuiltinFunctionTool,
    ToolError,
)

from flightlog.integrations.models.wire import ToolNames, schema_of
from flightlog.runtime.own_loop import OwnLoop, Refused
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import StopReason

_LIMIT: Final = "the tool runner ended with tool calls open: max_iterations"


def anthropic_tools(run: OwnLoop) -> list[BetaBuiltinFunctionTool]:
    """The tools of a run as the tool runner of `Anthropic` takes them.

    A call that is refused, or fails, is a result with `is_error`.
    """
    names = ToolNames(one.name for one in run.agent.tools)
    return [_Tool(run, one, names.out(one.name)) for one in run.agent.tools]


def anthropic_async_tools(run: OwnLoop) -> list[BetaAsyncBuiltinFunctionTool]:
    """The same for `AsyncAnthropic`; the tools may be async."""
    names = ToolNames(one.name for one in run.agent.tools)
    return [_AsyncTool(run, one, names.out(one.name)) for one in run.agent.tools]


def until_done(run: OwnLoop, runner: Any) -> Any:
    """The last message of a tool runner that is run to its end.

    Args:
        run: whose tools it has.
        runner: what `tool_runner` gave.

    Raises:
        RunOverError: a bound ended the run, or `max_iterations` of the runner did, which is
            `max_steps`.
    """
    return _answer(run, runner.until_done())


async def until_done_async(run: OwnLoop, runner: Any) -> Any:
    """The same for the runner of `AsyncAnthropic`."""
    return _answer(run, await runner.until_done())


def _answer(run: OwnLoop, message: Any) -> Any:
    if message.stop_reason == "tool_use":
        run.stop(StopReason.MAX_STEPS, _LIMIT)
    return message


def _declaration(tool: Tool, name: str) -> Any:
    return {"name": name, "description": tool.description, "input_schema": schema_of(tool)}


def _arguments(given: object) -> dict[str, Any]:
    return dict(given) if isinstance(given, dict) else {"input": given}


def _told(observed: str) -> str:
    if isinstance(observed, Refused):
        raise ToolError(str(observed))
    return observed


class _Tool(BetaBuiltinFunctionTool):
    """A tool of a run."""

    def __init__(self, run: OwnLoop, tool: Tool, name: str) -> None:
        self._run = run
        self._tool = tool
        self._name = name

    def to_dict(self) -> Any:
        """Its declaration."""
        return _declaration(self._tool, self._name)

    def call(self, input: object) -> str:  # noqa: A002 - theirs
        """Makes the call."""
        return _told(self._run.call(self._tool.name, **_arguments(input)))


class _AsyncTool(BetaAsyncBuiltinFunctionTool):
    """The same for coroutines."""

    def __init__(self, run: OwnLoop, tool: Tool, name: str) -> None:
        self._run = run
        self._tool = tool
        self._name = name

    def to_dict(self) -> Any:
        """Its declaration."""
        return _declaration(self._tool, self._name)

    async def call(self, input: object) -> str:  # noqa: A002 - theirs
        """Makes the call."""
        return _told(await self._run.call_async(self._tool.name, **_arguments(input)))
