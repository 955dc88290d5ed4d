"""What a run is given, and what is refused before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from flightlog.control.control import Control
from flightlog.errors import AgentError, PriceError
from flightlog.runtime.agent import Agent
from flightlog.runtime.bounds import Setup
from flightlog.runtime.calls import ToolExecutor
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.credentials import Credentials, ScrubbingSink
from flightlog.runtime.model import provider_of
from flightlog.runtime.policy import chosen
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.trace.clock import Clock, SystemClock
from flightlog.trace.ids import new_id
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import NullSink, Sink


@dataclass(frozen=True, slots=True)
class Around:
    """What a run may be given beside agent and task."""

    sink: Sink | None = None
    clock: Clock | None = None
    executor: ToolExecutor | None = None
    context: RunContext | None = None
    control: Control | None = None
    cancel: CancelToken | None = None


def setup_of(agent: Agent, task: Task, around: Around, *, syncs_later: bool = False) -> Setup:
    """All that a run of the agent on the task needs.

    Args:
        syncs_later: what is to be durable waits for the driver, which has a thread for it.

    Raises:
        AgentError: an allowed tool has no function and there is no executor.
        ConfigError: a credential that a tool needs is not set.
        PriceError: `max_usd` is set and the model has no price.
    """
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
    return Setup(
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
