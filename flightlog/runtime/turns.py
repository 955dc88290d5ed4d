"""The loop itself, once for sync and async: a generator that asks and is answered.

It does no waiting of its own: it yields what is to be called (`Ask`, `AskAll`),
and a driver sends back what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import Ask, AskAll, Asked
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.calls import ToolExecutor, error_text
from flightlog.runtime.checks import Gate
from flightlog.runtime.gateway import Gateway
from flightlog.runtime.model import (
    Model,
    ModelRequest,
    ModelResponse,
    User,
    UserTurn,
    problem_of_answer,
    provider_of,
)
from flightlog.runtime.prices import Cost, PriceTable
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.task import Task
from flightlog.runtime.tool_turn import Stop, ToolTurn
from flightlog.runtime.tools import toolset_message
from flightlog.trace.clock import Clock
from flightlog.trace.events import Label
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Actor, FinishReason, Outcome, StopReason, finish_reason_of

OVERFLOW_WORDS: Final = frozenset(
    {"context_length_exceeded", "context_overflow", "model_context_window_exceeded"}
)
_REFUSED = (FinishReason.CONTENT_FILTER, FinishReason.REFUSAL)
_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


@dataclass(frozen=True, slots=True)
class Setup:
    """All that one run needs."""

    agent: Agent
    task: Task
    context: RunContext
    writer: RunWriter
    clock: Clock
    executor: ToolExecutor | None = None


class Turns:
    """One run of an agent on a task."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._agent = setup.agent
        self._clock = setup.clock
        self._writer = setup.writer
        self._policy = policy = setup.agent.effective_policy
        self._prices = setup.agent.prices or PriceTable()
        self._ledger = ledger = Ledger(policy.budget, setup.clock)
        gate = Gate(policy, ledger, setup.agent.tools_by_name, setup.writer)
        gateway = Gateway(gate, executor=setup.executor)
        self._tools = ToolTurn(policy, gateway, ledger, setup.writer, setup.clock)
        self._messages: list[Message] = []
        self._answer: str | None = None

    def play(self) -> Generator[Ask | AskAll, Any, RunResult]:
        """Plays the run; gives its result, and records an end whatever happens."""
        self._start()
        try:
            stop = yield from self._turns()
        except _INTERRUPTS as error:
            detail = f"{type(error).__name__} at step {self._ledger.step}."
            self._finish(Stop(StopReason.CANCELLED, detail=detail))
            raise
        except BaseException as error:  # raised again; but no run is left without its end
            detail = f"{type(error).__name__}: {error_text(error)}"
            self._finish(Stop(StopReason.CRASHED, detail=detail))
            raise
        return self._finish(stop)

    def _start(self) -> None:
        agent, task, context = self._agent, self._setup.task, self._setup.context
        toolset = toolset_message(agent.tools)
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
            labels=tuple(Label(str(key), str(value)) for key, value in context.labels.items()),
            config_digest=self._policy.digest,
            system_digest=system[0].digest if system else None,
            toolset_digest=toolset.digest,
            golden=context.golden,
            **self._policy.budget.limits(),
        )

    def _turns(self) -> Generator[Ask | AskAll, Any, Stop]:
        if not self._setup.task.prompt and self._agent.user:
            stop = yield from self._user_turn()
            if stop:
                return stop
        while True:
            if reason := self._ledger.begin_step():
                return Stop(reason, detail=self._ledger.explain(reason))
            response, stop = yield from self._model_turn()
            if stop is None and response.tool_requests:
                messages, stop = yield from self._tools.play(
                    response.tool_requests, self._ledger.step
                )
                self._messages.extend(messages)
            elif stop is None:
                stop = yield from self._user_turn()
            if stop:
                return stop

    def _model_turn(self) -> Generator[Ask, Asked, tuple[ModelResponse, Stop | None]]:
        model, step, ledger = self._agent.model, self._ledger.step, self._ledger
        request = ModelRequest(tuple(self._messages), tuple(self._agent.tools), step)
        cut_ms = ledger.remaining_ms()
        asked = yield Ask(model.complete, (request,), cut_ms=_guard_ms(model, cut_ms))
        problem = _failure_of(asked, ModelResponse)
        response = ModelResponse() if problem else asked.value
        latency_ms = self._latency_ms(model, asked, response.latency_ms)
        if asked.is_cut or self._is_late(latency_ms, cut_ms):
            return response, self._model_late(request, cut_ms or 0.0)
        self._clock.advance_ms(latency_ms)
        if problem:
            return response, self._model_failed(request, asked.error, problem, latency_ms)
        return response, self._model_answered(request, response, latency_ms)

    def _model_late(self, request: ModelRequest, cut_ms: float) -> Stop:
        self._clock.advance_ms(cut_ms)
        detail = self._ledger.explain(StopReason.MAX_SECONDS)
        self._write_model_call(
            request, outcome=Outcome.TIMED_OUT, error=detail, latency_ms=round(cut_ms, 3)
        )
        return Stop(StopReason.MAX_SECONDS, detail=detail)

    def _model_failed(
        self, request: ModelRequest, error: BaseException | None, text: str, latency_ms: float
    ) -> Stop:
        name = self._agent.model.name
        self._write_model_call(
            request, outcome=Outcome.FAILED, error=text, latency_ms=round(latency_ms, 3)
        )
        is_overflow = getattr(error, "code", None) in OVERFLOW_WORDS
        reason = StopReason.CONTEXT_OVERFLOW if is_overflow else StopReason.MODEL_ERROR
        return Stop(reason, detail=f"model {name!r} failed at step {request.step}: {text}")

    def _model_answered(
        self, request: ModelRequest, response: ModelResponse, latency_ms: float
    ) -> Stop | None:
        output = Message("assistant", response.text, response.tool_requests)
        cost = self._cost_of(response)
        self._ledger.spend_model_call(response.usage, cost.usd if cost else None)
        usage, finish = response.usage, finish_reason_of(response.finish_reason)
        self._write_model_call(
            request,
            output=output,
            response_model=response.model,
            response_id=response.response_id,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=cost.usd if cost else None,
            price_id=cost.price_id if cost else None,
            latency_ms=round(latency_ms, 3),
            time_to_first_token_ms=response.time_to_first_token_ms,
            finish_reason=finish,
        )
        self._messages.append(output)
        self._answer = response.text if response.text is not None else self._answer
        return self._stop_of(response, finish)

    def _stop_of(self, response: ModelResponse, finish: FinishReason | None) -> Stop | None:
        """The stop that a finish reason means; a cut answer without tool calls is an error."""
        where = f"model {self._agent.model.name!r} at step {self._ledger.step}"
        word = response.finish_reason
        if word in OVERFLOW_WORDS:
            return Stop(StopReason.CONTEXT_OVERFLOW, detail=f"{where}: the context is full.")
        if finish in _REFUSED:
            return Stop(StopReason.MODEL_REFUSED, detail=f"{where} refused ({word}).")
        if finish is FinishReason.ERROR:
            return Stop(StopReason.MODEL_ERROR, detail=f"{where} ended with an error ({word}).")
        if finish is FinishReason.LENGTH and not response.tool_requests:
            detail = f"{where}: the answer was cut at the output limit ({word}); its part is kept."
            return Stop(StopReason.MODEL_ERROR, detail=detail)
        return None

    def _cost_of(self, response: ModelResponse) -> Cost | None:
        if response.cost_usd is not None:
            return Cost(response.cost_usd, "stated")
        model = self._agent.model
        names = (response.model, model.name) if response.model else (model.name,)
        return self._prices.cost(response.usage, names, provider_of(model))

    def _write_model_call(
        self, request: ModelRequest, *, output: Message | None = None, **fields: Any
    ) -> None:
        model, system = self._agent.model, self._agent.system
        has_policy = None
        if system:
            has_policy = any(m.role == "system" and m.text == system for m in request.messages)
        self._writer.model_call(
            prompt=request.messages,
            output=output,
            step=request.step,
            provider=provider_of(model),
            request_model=model.name,
            context_limit=getattr(model, "context_limit", None),
            is_truncated=False,
            has_policy=has_policy,
            **fields,
        )

    def _user_turn(self) -> Generator[Ask, Asked, Stop | None]:
        user = self._agent.user
        if user is None:
            return Stop(StopReason.OK)
        cut_ms = self._ledger.remaining_ms()
        asked = yield Ask(user.reply, (tuple(self._messages),), cut_ms=_guard_ms(user, cut_ms))
        if asked.value is None and asked.error is None and not asked.is_cut:
            return Stop(StopReason.OK)
        error = _failure_of(asked, UserTurn)
        turn = UserTurn("") if error else asked.value
        latency_ms = self._latency_ms(user, asked, turn.latency_ms)
        is_late = asked.is_cut or self._is_late(latency_ms, cut_ms)
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
            return None
        if is_late:
            return Stop(StopReason.MAX_SECONDS, detail=error)
        detail = f"user {user.name!r} failed at step {self._ledger.step}: {error}"
        return Stop(StopReason.MODEL_ERROR, detail=detail)

    def _latency_ms(self, who: Model | User, asked: Asked, stated_ms: float | None) -> float:
        """The stated duration, else the measured one; who answers from memory takes none."""
        if stated_ms is not None:
            return stated_ms
        is_instant = self._clock.is_virtual and getattr(who, "never_blocks", False)
        return 0.0 if is_instant else asked.latency_ms

    def _is_late(self, latency_ms: float, cut_ms: float | None) -> bool:
        """True past the deadline on a virtual clock; real time has cut what was late."""
        return self._clock.is_virtual and cut_ms is not None and latency_ms > cut_ms

    def _finish(self, stop: Stop) -> RunResult:
        used, budget = self._ledger.used(), self._policy.budget
        self._writer.stopped(
            status=stop.reason.status,
            stop_reason=stop.reason,
            stop_tool=stop.tool,
            stop_detail=stop.detail,
            answer=self._answer,
            **budget.limits(),
            **used.spent(),
        )
        return RunResult(
            run_id=self._writer.run_id,
            status=stop.reason.status,
            answer=self._answer,
            stop_reason=stop.reason,
            stop_tool=stop.tool,
            stop_detail=stop.detail,
            usage=used,
            budget=budget,
            writer=self._writer,
        )


def _failure_of(asked: Asked, expected: type[ModelResponse | UserTurn]) -> str | None:
    """Why a model or user gave no answer that can be used; None when it did."""
    if asked.error is not None:
        return f"{type(asked.error).__name__}: {error_text(asked.error)}"
    return problem_of_answer(asked.value, expected)


def _guard_ms(asked: Model | User, cut_ms: float | None) -> float | None:
    """How long to wait for a model or user; None for one that says that it never blocks."""
    return None if getattr(asked, "never_blocks", False) else cut_ms
