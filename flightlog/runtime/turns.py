"""The loop itself, once for sync and async: a generator that asks and is answered.

It does no waiting of its own: it yields what is to be called (`Ask`, `AskAll`),
and a driver sends back what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from flightlog.control.control import Control
from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import Ask, Asked, Request
from flightlog.runtime.calls import ToolExecutor, clause, named_error, sentence
from flightlog.runtime.cancel import CancelToken, RunCancelledError
from flightlog.runtime.credentials import Scrubber
from flightlog.runtime.degrade import RunMode
from flightlog.runtime.gate import Gate
from flightlog.runtime.gateway import Gateway
from flightlog.runtime.guards import Guards
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.model import UserTurn
from flightlog.runtime.model_turn import (
    ModelTurn,
    act_on,
    failure_of,
    guard_ms,
    is_past,
    latency_of,
)
from flightlog.runtime.policy import chosen
from flightlog.runtime.repeats import CallMemory
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.signals import TERMINATED
from flightlog.runtime.task import Task
from flightlog.runtime.tenant import TenantBudget
from flightlog.runtime.tool_turn import Stop, ToolTurn
from flightlog.trace.canonical import canonical_json
from flightlog.trace.clock import Clock
from flightlog.trace.fitting import fitted_labels
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Actor, Outcome, StopReason

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


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


class Turns:
    """One run of an agent on a task.

    Attributes:
        writer: of the run's events.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._agent = setup.agent
        self._clock = setup.clock
        self.writer = self._writer = setup.writer
        self._policy = policy = setup.agent.effective_policy
        self._ledger = ledger = Ledger(policy.budget, setup.clock)
        self._over = CancelToken()
        self._gate = gate = _gate(setup, ledger, self._over)
        self._guards = Guards(policy.guards)
        self._model = ModelTurn(gate, self._guards)
        self._gateway = gateway = Gateway(gate, executor=setup.executor)
        self._tools = ToolTurn(policy, gateway, ledger, setup.writer, setup.clock)
        self._messages: list[Message] = []
        self._answer: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._setup.owns_control:
            self._setup.control.end()

    def play(self) -> Generator[Request, Any, RunResult]:
        """Plays the run; gives its result, and records an end whatever happens."""
        cancel = self._setup.cancel
        forget = cancel.subscribe(self._over.cancel) if cancel else None
        self._start()
        try:
            stop = yield from self._turns()
        except RunCancelledError:
            why = clause(cancel.why if cancel else "") or "cancelled from outside"
            stop = Stop(StopReason.CANCELLED, detail=f"{why} at step {self._ledger.step}.")
        except _INTERRUPTS as error:
            detail = f"{_interruption(error)} at step {self._ledger.step}."
            self._finish(Stop(StopReason.CANCELLED, detail=detail))
            raise
        except BaseException as error:  # raised again; but no run is left without its end
            self._finish(Stop(StopReason.CRASHED, detail=named_error(error)))
            raise
        finally:
            self._gateway.abandon()
            if forget is not None:
                forget()
        return self._finish(stop)

    def _start(self) -> None:
        agent, task, context = self._agent, self._setup.task, self._setup.context
        toolset = agent.toolset
        system = [Message("system", agent.system)] if agent.system else []
        self._messages = [*system, *([Message("user", task.prompt)] if task.prompt else [])]
        self._writer.started(
            messages=[toolset, *system, task.message],
            parent_run_id=context.parent_run_id,
            origin=context.origin,
            agent=agent.name,
            agent_version=agent.version,
            model=agent.model.name,
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
            config_digest=self._policy.digest,
            system_digest=system[0].digest if system else None,
            toolset_digest=toolset.digest,
            golden=context.golden,
            **self._policy.budget.limits(),
        )

    def _turns(self) -> Generator[Request, Any, Stop]:
        if not self._setup.task.prompt and self._agent.user:
            stop = yield from self._user_turn()
            if stop:
                return stop
        while True:
            if reason := self._ledger.begin_step():
                return Stop(reason, detail=self._ledger.explain(reason))
            answered = yield from self._model.play(self._messages)
            stop, response = answered.stop, answered.response
            if response is not None and answered.output is not None:
                self._messages.append(answered.output)
                self._answer = response.text if response.text is not None else self._answer
            if stop is None and response is not None and response.tool_requests:
                step = yield from self._tools.play(response.tool_requests, self._ledger.step)
                self._messages.extend(step.messages)
                findings = self._guards.after_tools(self._ledger.step, step.calls)
                found = act_on(findings, self._gate, self._ledger.step)
                stop = step.stop or found
            elif stop is None:
                stop = yield from self._user_turn()
            if stop:
                return stop

    def _user_turn(self) -> Generator[Request, Asked, Stop | None]:
        user = self._agent.user
        if user is None:
            return Stop(StopReason.OK)
        cut_ms = self._ledger.remaining_ms()
        guard = guard_ms(self._clock, user, cut_ms)
        asked = yield Ask(user.reply, (tuple(self._messages),), cut_ms=guard)
        if asked.value is None and asked.error is None and not asked.is_cut:
            return Stop(StopReason.OK)
        error = failure_of(asked, UserTurn)
        turn = UserTurn("") if error else asked.value
        latency_ms = latency_of(self._clock, user, asked, turn.latency_ms)
        is_late = asked.is_cut or is_past(self._clock, latency_ms, cut_ms)
        if is_late:
            latency_ms = cut_ms or 0.0
        self._clock.advance_ms(latency_ms)
        if is_late:
            turn, error = UserTurn(""), self._ledger.explain(StopReason.MAX_SECONDS)
        failed = Outcome.TIMED_OUT if is_late else Outcome.FAILED
        said = None if error else Message("user", turn.text)
        self._writer.model_call(
            output=said,
            actor=Actor.USER,
            step=self._ledger.step or None,
            request_model=user.name,
            outcome=failed if error else Outcome.OK,
            error=error,
            input_tokens=turn.usage.input_tokens,
            output_tokens=turn.usage.output_tokens,
            cost_usd=turn.cost_usd,
            latency_ms=round(latency_ms, 3),
        )
        if said:
            self._messages.append(said)
            findings = self._guards.after_user(self._ledger.step, said.digest)
            act_on(findings, self._gate, self._ledger.step)
            return None
        if is_late:
            return Stop(StopReason.MAX_SECONDS, detail=error)
        detail = f"user {user.name!r} failed at step {self._ledger.step}: {error}"
        return Stop(StopReason.MODEL_ERROR, detail=detail)

    def _finish(self, stop: Stop) -> RunResult:
        self._over.cancel("the run is over")  # first, so that nothing is written behind the end
        used, budget = self._ledger.used(), self._policy.budget
        answer, detail, tool = self._answer, stop.detail, stop.tool
        if (scrubber := self._gate.scrubber) is not None:
            answer = scrubber.clean_optional(answer)
            detail = scrubber.clean_optional(detail)  # before its line breaks are taken out
            tool = scrubber.clean_optional(tool)
        detail = None if detail is None else sentence(detail)
        self._writer.stopped(
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
            run_id=self._writer.run_id,
            status=stop.reason.status,
            answer=answer,
            stop_reason=stop.reason,
            stop_tool=tool,
            stop_detail=detail,
            usage=used,
            budget=budget,
            writer=self._writer,
        )

    def _scoped_budgets(self) -> str | None:
        """What tools and tenant were allowed and used, as the stop event holds it."""
        by_name, used = self._policy.tool_budgets, []
        for tool in self._ledger.tools_used() if by_name else ():
            own = chosen(by_name, tool)
            used += self._ledger.use_of_tool(tool, own) if own else []
        if self._gate.tenant_budget is not None:
            used += self._gate.tenant_budget.use()
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


def _interruption(error: BaseException) -> str:
    """What interrupted a run, in the words of who did it."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (KeyboardInterrupt, such as by Ctrl-C)"
    if isinstance(error, SystemExit) and error.code == TERMINATED:
        return "terminated (SIGTERM)"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled by its caller (CancelledError)"
    return f"ended by {type(error).__name__}"
