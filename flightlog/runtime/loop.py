"""`run` and `run_async`: an agent on a task, bounded and recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flightlog.control.control import Control
from flightlog.errors import AgentError
from flightlog.runtime.agent import Agent
from flightlog.runtime.async_driver import AsyncDriver
from flightlog.runtime.calls import ToolExecutor
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.own_turns import OwnTurns
from flightlog.runtime.replaying import answering, inherited
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.setting_up import Around, setup_of
from flightlog.runtime.signals import terminated_in_order, terminated_in_order_async
from flightlog.runtime.sync_driver import SyncDriver
from flightlog.runtime.task import Task
from flightlog.runtime.tools import is_async
from flightlog.runtime.turns import Turns
from flightlog.trace.clock import Clock, SystemClock
from flightlog.trace.sink import Sink

__all__ = ["RunContext", "RunResult", "run", "run_async"]


def run(
    agent: Agent,
    task: Task,
    *,
    sink: Sink | None = None,
    clock: Clock | None = None,
    executor: ToolExecutor | None = None,
    context: RunContext | None = None,
    control: Control | None = None,
    cancel: CancelToken | None = None,
) -> RunResult:
    """Runs an agent on a task until it answers or a bound stops it.

    A failing tool or model, or a loop of the agent's own, never raises here: it is an outcome,
    and the stop reason says so. While `max_seconds` or a tool's `timeout_s` is set, models
    and tools run in a worker thread, since only so can a blocked call be cut.

    Args:
        sink: where the events go; None keeps nothing.
        clock: None is the machine's; a virtual one moves by stated latencies.
        executor: answers tool calls in the place of their functions; None inside a replay
            is that of the replay.
        context: what the run belongs to.
        control: kill switch, breakers and tenants' budgets; None takes those of the
            sink's store, and without a store those of this run alone.
        cancel: cancels the run from another thread; the result then says `cancelled`.

    Raises:
        AgentError: a model, user or tool is async (use `run_async`), or an
            allowed tool has no function and there is no executor.
        PriceError: `max_usd` is set and the model has no price.
        KeyboardInterrupt: as it came; the run is recorded as cancelled.
        SystemExit: the process got a SIGTERM that nobody else handles; recorded likewise.
    """
    executor = inherited() if executor is None else executor
    _refuse_silent(agent)
    _refuse_async(agent, executor)
    around = Around(sink, clock, executor, context, control, cancel)
    if agent.loop is not None:
        with answering(executor), terminated_in_order():
            own = OwnTurns(agent, task, around)
            return SyncDriver(SystemClock(), cancel).drive(own.play())
    turns = Turns(setup_of(agent, task, around))
    with answering(executor), terminated_in_order(), turns:
        return SyncDriver(SystemClock(), cancel).drive(turns.play())


async def run_async(
    agent: Agent,
    task: Task,
    *,
    sink: Sink | None = None,
    clock: Clock | None = None,
    executor: ToolExecutor | None = None,
    context: RunContext | None = None,
    control: Control | None = None,
    cancel: CancelToken | None = None,
) -> RunResult:
    """The same as `run` for async callers; models, users and tools may be sync or async.

    What is sync runs in a worker thread. An async function that blocks the event
    loop cannot be cut.

    Raises:
        AgentError: an allowed tool has no function and there is no executor.
        PriceError: `max_usd` is set and the model has no price.
        CancelledError: as it came; the run is recorded as cancelled.
    """
    executor = inherited() if executor is None else executor
    _refuse_silent(agent)
    around = Around(sink, clock, executor, context, control, cancel)
    if agent.loop is not None:
        with answering(executor), terminated_in_order_async():
            own = OwnTurns(agent, task, around)
            driver = AsyncDriver(SystemClock(), cancel, writer=own.writer)
            return await driver.drive(own.play())
    turns = Turns(setup_of(agent, task, around, syncs_later=True))
    with answering(executor), terminated_in_order_async(), turns:
        driver = AsyncDriver(SystemClock(), cancel, writer=turns.writer)
        return await driver.drive(turns.play())


def _refuse_silent(agent: Agent) -> None:
    if agent.loop is None and isinstance(agent.model, ForeignModel):
        raise AgentError(
            "the agent has neither a model that answers nor a loop of its own",
            where=f"agent {agent.name!r}",
            hint="Give it model=, or loop=.",
        )


def _refuse_async(agent: Agent, executor: ToolExecutor | None) -> None:
    parts: dict[str, Callable[..., Any]] = {f"model {agent.model.name!r}": agent.model.complete}
    if agent.loop:
        parts["its loop"] = agent.loop
    if agent.user:
        parts[f"user {agent.user.name!r}"] = agent.user.reply
    if executor is None:
        parts |= {f"tool {tool.name!r}": tool.fn for tool in agent.tools if tool.fn}
    for what, fn in parts.items():
        if is_async(fn):
            raise AgentError(
                f"{what} is async and run() is not",
                where=f"agent {agent.name!r}",
                hint="Use: await flightlog.run_async(...)",
            )
