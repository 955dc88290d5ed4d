"""`run` and `run_async`: an agent on a task, bounded and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flightlog.control.control import Control
from flightlog.errors import AgentError, PriceError
from flightlog.runtime.agent import Agent
from flightlog.runtime.async_driver import AsyncDriver
from flightlog.runtime.bounds import Setup
from flightlog.runtime.calls import ToolExecutor
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.credentials import Credentials, ScrubbingSink
from flightlog.runtime.model import provider_of
from flightlog.runtime.policy import chosen
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.replaying import answering, inherited
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.signals import terminated_in_order, terminated_in_order_async
from flightlog.runtime.sync_driver import SyncDriver
from flightlog.runtime.task import Task
from flightlog.runtime.tools import is_async
from flightlog.runtime.turns import Turns
from flightlog.trace.clock import Clock, SystemClock
from flightlog.trace.ids import new_id
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import NullSink, Sink

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

    A failing tool or model never raises here: it is an outcome, and the stop
    reason says so. While `max_seconds` or a tool's `timeout_s` is set, models
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
    _refuse_async(agent, executor)
    turns = _turns(agent, task, _Around(sink, clock, executor, context, control, cancel))
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
    around = _Around(sink, clock, executor, context, control, cancel)
    turns = _turns(agent, task, around, syncs_later=True)
    with answering(executor), terminated_in_order_async(), turns:
        driver = AsyncDriver(SystemClock(), cancel, writer=turns.writer)
        return await driver.drive(turns.play())


@dataclass(frozen=True, slots=True)
class _Around:
    """What a run may be given beside agent and task."""

    sink: Sink | None
    clock: Clock | None
    executor: ToolExecutor | None
    context: RunContext | None
    control: Control | None
    cancel: CancelToken | None


def _turns(agent: Agent, task: Task, around: _Around, *, syncs_later: bool = False) -> Turns:
    context, clock = around.context or RunContext(), around.clock or SystemClock()
    _refuse_unserved(agent, around.executor)
    _refuse_unpriced(agent, context)
    sink = around.sink or NullSink()
    control = around.control or getattr(sink, "control", None)
    scrubber = None
    if agent.credentials is not None:
        if around.executor is None:  # where recordings answer, the values are not needed
            _refuse_unset(agent, agent.credentials, context)
        scrubber = agent.credentials.scrubber(context.tenant)
        sink = ScrubbingSink(sink, scrubber)
    run_id = context.run_id or new_id()
    writer = RunWriter(sink, run_id, clock=clock, syncs_later=syncs_later)
    setup = Setup(
        agent,
        task,
        context,
        writer,
        clock,
        control or Control.in_process(),
        owns_control=control is None,
        executor=around.executor,
        cancel=around.cancel,
        scrubber=scrubber,
        redactor=getattr(around.sink, "redactor", None),
    )
    return Turns(setup)


def _refuse_async(agent: Agent, executor: ToolExecutor | None) -> None:
    parts: dict[str, Callable[..., Any]] = {f"model {agent.model.name!r}": agent.model.complete}
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


def _refuse_unserved(agent: Agent, executor: ToolExecutor | None) -> None:
    policy = agent.effective_policy
    for tool in agent.tools:
        if executor is None and tool.fn is None and policy.allows(tool.name):
            raise AgentError(
                f"tool {tool.name!r} is allowed and has no function",
                where=f"agent {agent.name!r}",
                hint="Give it fn=, or run it with an executor that answers from recordings.",
            )


def _refuse_unset(agent: Agent, credentials: Credentials, context: RunContext) -> None:
    for tool in agent.tools:
        if tool.credentials and agent.effective_policy.allows(tool.name):
            credentials.require(context.tenant, tool.name, tool.credentials)


def _refuse_unpriced(agent: Agent, context: RunContext) -> None:
    policy, model = agent.effective_policy, agent.model
    of_tenant = chosen(policy.tenant_budgets, context.tenant or "")
    setting, max_usd = "budgets.max_usd", policy.budget.max_usd
    if max_usd is None and of_tenant is not None:
        setting, max_usd = "budgets.per_tenant max_usd", of_tenant.max_usd
    if max_usd is None or getattr(model, "states_cost", False):
        return
    if not (agent.prices or PriceTable()).knows(model.name, provider_of(model)):
        raise PriceError(
            f"no price for model {model.name!r} but {setting}={max_usd} is set",
            where=f"agent {agent.name!r}",
            hint="Add the model to the agent's PriceTable, install flightlog[prices], "
            "or remove max_usd.",
        )
