"""The Claude Agent SDK: tools behind the gateway, its own tools admitted, model calls recorded.

Importing it needs the package claude-agent-sdk. The SDK runs its loop in a program of its own
and tells of it in messages; what it is told back goes by hooks. Source: claude-agent-sdk 0.2,
`query`, hooks, `StreamEvent`, `ResultMessage`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any, Final

import anyio
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    HookMatcher,
    McpSdkServerConfig,
    ResultError,
    ResultMessage,
    SdkMcpTool,
    StreamEvent,
    SystemMessage,
    UserMessage,
    create_sdk_mcp_server,
)

from flightlog.integrations.dialects.anthropic import Messages
from flightlog.integrations.models.wire import ToolNames, schema_of
from flightlog.runtime.foreign_calls import ForeignCall, ForeignEnd
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.own_loop import ModelCall, OwnLoop, Refused, RunOverError
from flightlog.runtime.tools import Tool
from flightlog.trace.messages import Message
from flightlog.trace.stop_words import stop_of
from flightlog.trace.vocab import StopReason

SERVER: Final = "flightlog"
"""Name of the MCP server that serves the tools of a run."""
PROGRAM: Final = "claude"
"""Program that the SDK starts, for `ForeignModel.programs`."""
INTERRUPT_S: Final = 2.0
"""How long the program may take to hear that it is to stop, before it is ended."""
_OURS: Final = f"mcp__{SERVER}__"


def claude_server(run: OwnLoop) -> McpSdkServerConfig:
    """The tools of a run as an MCP server within the process; each call passes the gateway."""
    names = ToolNames(one.name for one in run.agent.tools)
    tools = [_tool(run, one, names.out(one.name)) for one in run.agent.tools]
    return create_sdk_mcp_server(SERVER, tools=tools)


def claude_options(run: OwnLoop, **options: Any) -> ClaudeAgentOptions:
    """Options for `query` or a client: with the tools of the run, and hooks that bound it.

    Tools of Claude Code itself (`tools=`) and of other MCP servers are admitted where the policy
    allows their names and the budgets have room, and recorded; they are run by Claude Code.
    Without `tools=` there are none.

    Args:
        run: that is told.
        options: of `ClaudeAgentOptions`.
    """
    hooks = _Hooks(run)
    merged = {name: list(given) for name, given in (options.pop("hooks", None) or {}).items()}
    for name, hook in hooks.by_event.items():
        merged[name] = [HookMatcher(hooks=[hook], on_failure="block"), *merged.get(name, ())]
    servers = {SERVER: claude_server(run), **(options.pop("mcp_servers", None) or {})}
    allowed = [f"{_OURS}{name}" for name in _names(run)]
    given = {"tools": [], "system_prompt": run.agent.system} | options
    given["allowed_tools"] = [*allowed, *(options.get("allowed_tools") or ())]
    return ClaudeAgentOptions(
        mcp_servers=servers,
        hooks=merged,
        include_partial_messages=True,
        **{name: value for name, value in given.items() if name != "include_partial_messages"},
    )


async def claude_query(run: OwnLoop, prompt: str, **options: Any) -> AsyncIterator[Any]:
    """What `query` of the SDK gives, as a run: with `claude_options` and `claude_messages`.

    Whatever ends it, the program that the SDK started is ended too.

    Args:
        run: that is told.
        prompt: what is asked.
        options: of `ClaudeAgentOptions`.

    Raises:
        RunOverError: as `claude_messages`.
    """
    made = claude_options(run, **options)
    system = made.system_prompt if isinstance(made.system_prompt, str) else None
    asked = [Message("system", system)] if system else []
    async with ClaudeSDKClient(made) as client:
        await client.query(prompt)
        told = claude_messages(
            run, client.receive_response(), prompt=[*asked, Message("user", prompt)]
        )
        try:
            async for message in told:
                yield message
        except BaseException:  # else it goes on until its end is waited for
            with anyio.move_on_after(INTERRUPT_S, shield=True):
                await client.interrupt()
            raise


async def claude_messages(
    run: OwnLoop, messages: AsyncIterable[Any], *, prompt: Sequence[Message] = ()
) -> AsyncIterator[Any]:
    """The messages of the SDK as they come, but for the pieces of answers; records model calls.

    Args:
        run: whose options the SDK was given.
        messages: what `query` or `ClaudeSDKClient.receive_response` gives.
        prompt: system prompt and question, for the record.

    Raises:
        RunOverError: a bound ended the run, or the SDK's own did (`max_turns`, `max_budget_usd`),
            or the API refused.
    """
    told = _Told(run, prompt)
    try:
        async for message in messages:
            if isinstance(message, StreamEvent):
                told.piece(message.parent_tool_use_id, message.event)
                continue
            if isinstance(message, SystemMessage) and message.subtype == "init":
                told.model = str(message.data.get("model") or "") or None
                told.sent(None)
            yield message
            if isinstance(message, UserMessage):
                told.results(message)
            if isinstance(message, ResultMessage):  # also of a run that the hooks have ended
                if (stop := run.session.stop) is not None:
                    raise RunOverError(stop)
                told.result(message)
    except ResultError as error:
        told.close(str(error))
        word = error.subtype if stop_of(error.subtype) else error.terminal_reason
        run.stop(stop_of(word, is_error=True) or StopReason.CRASHED, str(error))
    finally:
        told.close()
        if (close := getattr(messages, "aclose", None)) is not None:
            await close()  # which ends the program


def _names(run: OwnLoop) -> list[str]:
    names = ToolNames(one.name for one in run.agent.tools)
    return [names.out(one.name) for one in run.agent.tools]


def _tool(run: OwnLoop, tool: Tool, name: str) -> SdkMcpTool[Any]:
    async def called(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            observed = await run.call_async(tool.name, **arguments)
        except RunOverError as over:  # told to the SDK here, raised where its messages are read
            return _content(f"the run is over: {over.stop.reason}", is_error=True)
        return _content(str(observed), is_error=isinstance(observed, Refused))

    return SdkMcpTool(name, tool.description or name, schema_of(tool), called)


def _content(text: str, *, is_error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "is_error": is_error}


class _Hooks:
    """What the SDK asks before and after each tool call."""

    def __init__(self, run: OwnLoop) -> None:
        self._run = run
        self._foreign: dict[str, ForeignCall] = {}
        self.by_event: dict[Any, Any] = {
            "PreToolUse": self._before,
            "PostToolUse": self._after,
            "PostToolUseFailure": self._after,
            "PostToolBatch": self._after_all,
        }

    async def _before(self, given: Any, ident: Any, _: Any) -> Any:
        session = self._run.session
        name = str(given.get("tool_name") or "")
        key = str(given.get("tool_use_id") or ident)
        if session.stop is not None:
            return self._over()
        if not name.startswith(_OURS):
            admitted = session.begin_foreign(name, key, given.get("tool_input"))
            if isinstance(admitted, str):
                return self._denied(admitted)
            self._foreign[key] = admitted
        return {}

    async def _after(self, given: Any, ident: Any, _: Any) -> Any:
        session: Any = self._run.session
        key = str(given.get("tool_use_id") or ident)
        if (call := self._foreign.pop(key, None)) is not None:
            took = given.get("duration_ms")
            response = given.get("tool_response")
            end = ForeignEnd(
                response if isinstance(response, str) or response is None else json.dumps(response),
                given.get("error"),
                float(took) if isinstance(took, (int, float)) else None,
            )
            session.end_foreign(call, end)
        return {}

    async def _after_all(self, _: Any, __: Any, ___: Any) -> Any:
        """The next request is sent after this; not where there is no step left."""
        return {} if self._run.session.next_step_stop() is None else self._over()

    def _denied(self, why: str) -> Any:
        if self._run.session.stop is not None:
            return self._over()
        decided = {"permissionDecision": "deny", "permissionDecisionReason": why}
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **decided}}

    def _over(self) -> Any:
        stop: Any = self._run.session.stop
        return {"continue_": False, "stopReason": f"the run is over: {stop.detail or stop.reason}"}


class _Told:
    """Puts model calls together out of what the SDK tells; one for each (sub)agent at a time."""

    def __init__(self, run: OwnLoop, prompt: Sequence[Message]) -> None:
        self.model: str | None = None
        self._run = run
        self._calls: dict[str | None, ModelCall] = {}
        self._pieces: dict[str | None, Any] = {}
        self._sent_s: dict[str | None, float] = {}
        self._said: dict[str | None, list[Message]] = {None: list(prompt)}

    def sent(self, agent: str | None) -> None:
        """A request goes out; whether there is a step for it was asked before."""
        self._sent_s.setdefault(agent, time.perf_counter())

    def _begin(self, agent: str | None) -> None:
        model = self._run.agent.model.name or self.model
        said = tuple(self._said.setdefault(agent, []))
        call = self._calls[agent] = self._run.begin_model_call(model, prompt=said)
        call.provider = "anthropic"
        if (sent_s := self._sent_s.pop(agent, None)) is not None:
            call.started_s = sent_s

    def piece(self, agent: str | None, event: Mapping[str, Any]) -> None:
        """A piece of an answer came."""
        kind = str(event.get("type"))
        if kind == "message_start":
            if agent not in self._calls:
                self._begin(agent)
            self._pieces[agent] = Messages().gatherer()
        pieces, call = self._pieces.get(agent), self._calls.get(agent)
        if pieces is None or call is None:
            return
        pieces.feed(kind, event)
        if pieces.is_begun:
            call.first_token()
        if pieces.is_done:
            self._end(agent)

    def results(self, message: UserMessage) -> None:
        """Results of tools came, with which the next request goes out."""
        agent, content = message.parent_tool_use_id, message.content
        blocks: list[Any] = list(content) if isinstance(content, list) else []
        results = [one for one in blocks if getattr(one, "tool_use_id", None) is not None]
        self._said.setdefault(agent, []).extend(
            Message("tool", _text_of(one.content), tool_call_id=one.tool_use_id) for one in results
        )
        if results:
            self.sent(agent)

    def result(self, message: ResultMessage) -> None:
        """It is over."""
        word = message.terminal_reason or message.subtype
        if message.api_error_status is not None:
            detail = f"HTTP {message.api_error_status}: {message.result or ''}"[:500]
            self.close(detail)
            self._run.stop(StopReason.MODEL_ERROR, detail)
        if message.is_error or message.subtype != "success":
            self.close()
            reason = stop_of(message.subtype) or stop_of(word, is_error=True)
            self._run.stop(reason or StopReason.CRASHED, "; ".join(message.errors or [word])[:500])

    def close(self, why: str = "no answer came") -> None:
        """Nothing comes any more: what is open was not answered."""
        for agent in list(self._calls):
            self._end(agent, "the answer was not read to its end")
        is_going_on = self._run.session.stop is None
        for agent in list(self._sent_s) if is_going_on else ():
            self._begin(agent)
            self._run.end_model_call(self._calls.pop(agent), error=why)

    def _end(self, agent: str | None, error: str | None = None) -> None:
        call, answered = self._calls.pop(agent), self._pieces.pop(agent).answered()
        output = answered.output
        if output is not None:
            self._said.setdefault(agent, []).append(output)
        call.answer(
            ModelResponse(
                text=None if output is None else output.text,
                tool_requests=() if output is None else output.tool_requests,
                usage=answered.usage,
                model=answered.model,
                response_id=answered.response_id,
                finish_reason=answered.finish_reason,
            )
        )
        self._run.end_model_call(call, error=error or answered.error)


def _text_of(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(str(one.get("text", "")) for one in content if isinstance(one, Mapping))
