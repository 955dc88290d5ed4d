"""What bounds and records a run, whoever decides what it calls next."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from flightlog.control.control import Control
from flightlog.runtime.agent import Agent
from flightlog.runtime.calls import ToolExecutor, sentence
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.credentials import Scrubber
from flightlog.runtime.degrade import RunMode
from flightlog.runtime.gate import Gate
from flightlog.runtime.gateway import Gateway
from flightlog.runtime.guards import Guards
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.policy import chosen
from flightlog.runtime.repeats import CallMemory
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.task import Task
from flightlog.runtime.tenant import TenantBudget
from flightlog.runtime.tool_turn import Stop, ToolTurn
from flightlog.trace.canonical import canonical_json
from flightlog.trace.clock import Clock
from flightlog.trace.fitting import fitted_labels
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor


@dataclass(frozen=True, slots=True)
class Setup:
    """All that one run needs.

    Attributes:
        owns_control: the control ends with the run.
        cancel: cancels the run from outside.
        scrubber: takes the values of the agent's credentials out of texts.
        redactor: of the recorder; None where it records everything, or nothing.
    """

    agent: Agent
    task: Task
    context: RunContext
    writer: RunWriter
    clock: Clock
    control: Control
    owns_control: bool = False
    executor: ToolExecutor | None = None
    cancel: CancelToken | None = None
    scrubber: Scrubber | None = None
    redactor: Redactor | None = None


class Bounds:
    """Budget, gateway and guards of one run, and its first and last event.

    Attributes:
        policy: of the agent.
        ledger: what was spent.
        over: set once the run is over.
        gate: what the checks share.
        guards: look for loops.
        gateway: admits the calls.
        tools: plays them.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.policy = policy = setup.agent.effective_policy
        self.ledger = Ledger(policy.budget, setup.clock)
        self.over = CancelToken()
        self.gate = _gate(setup, self.ledger, self.over)
        self.guards = Guards(policy.guards)
        self.gateway = Gateway(self.gate, executor=setup.executor)
        self.tools = ToolTurn(policy, self.gateway, self.ledger, setup.writer, setup.clock)

    def start(self) -> list[Message]:
        """Records the beginning; gives the first messages of the conversation."""
        agent, task, context = self._setup.agent, self._setup.task, self._setup.context
        toolset = agent.toolset
        system = [Message("system", agent.system)] if agent.system else []
        messages = [*system, *([Message("user", task.prompt)] if task.prompt else [])]
        self._setup.writer.started(
            messages=[toolset, *system, task.message],
            parent_run_id=context.parent_run_id,
            origin=context.origin,
            agent=agent.name,
            agent_version=agent.version,
            model=agent.model.name or None,
            suite=task.suite,
            task_id=task.task_id,
            task_digest=task.digest,
            trial=context.trial,
            variant=context.variant,
            session_id=context.session_id,
            conversation_id=context.conversation_id,
            tenant=context.tenant,
            data_subject=context.data_subject,
            labels=fitted_labels(context.labels),
            config_digest=self.policy.digest,
            system_digest=system[0].digest if system else None,
            toolset_digest=toolset.digest,
            golden=context.golden,
            **self.policy.budget.limits(),
        )
        return messages

    def finish(self, stop: Stop, *, answer: str | None) -> RunResult:
        """Records the end."""
        self.over.cancel("the run is over")  # first, so that nothing is written behind the end
        used, budget = self.ledger.used(), self.policy.budget
        detail, tool = stop.detail, stop.tool
        if (scrubber := self.gate.scrubber) is not None:
            answer = scrubber.clean_optional(answer)
            detail = scrubber.clean_optional(detail)  # before its line breaks are taken out
            tool = scrubber.clean_optional(tool)
        detail = None if detail is None else sentence(detail)
        self._setup.writer.stopped(
            status=stop.reason.status,
            stop_reason=stop.reason,
            stop_tool=tool,
            stop_detail=detail,
            answer=answer,
            scoped_budgets=self._scoped_budgets(),
            **budget.limits(),
            **used.spent(),
        )
        return RunResult(
            run_id=self._setup.writer.run_id,
            status=stop.reason.status,
            answer=answer,
            stop_reason=stop.reason,
            stop_tool=tool,
            stop_detail=detail,
            usage=used,
            budget=budget,
            writer=self._setup.writer,
        )

    def _scoped_budgets(self) -> str | None:
        """What tools and tenant were allowed and used, as the stop event holds it."""
        by_name, used = self.policy.tool_budgets, []
        for tool in self.ledger.tools_used() if by_name else ():
            own = chosen(by_name, tool)
            used += self.ledger.use_of_tool(tool, own) if own else []
        if self.gate.tenant_budget is not None:
            used += self.gate.tenant_budget.use()
        return canonical_json([asdict(one) for one in used]) if used else None


def _gate(setup: Setup, ledger: Ledger, over: CancelToken) -> Gate:
    policy, tenant = setup.agent.effective_policy, setup.context.tenant or ""
    limits = chosen(policy.tenant_budgets, tenant)
    windows = None
    if limits is not None:
        windows = TenantBudget(setup.control.windows, tenant, limits, setup.clock)
    return Gate(
        agent=setup.agent,
        task=setup.task,
        context=setup.context,
        policy=policy,
        ledger=ledger,
        writer=setup.writer,
        clock=setup.clock,
        control=setup.control,
        memory=CallMemory(setup.writer.run_id),
        mode=RunMode(setup.writer),
        cancelled=over,
        is_replay=setup.executor is not None,
        tenant_budget=windows,
        scrubber=setup.scrubber,
        redactor=setup.redactor,
    )
