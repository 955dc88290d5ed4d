"""The model call of one step: bounded, guarded, tried again, recorded."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flightlog.control.breaker_policy import BreakerPolicy, Fallback
from flightlog.runtime.asks import Ask, Asked, Request, Wait, real_cut_ms
from flightlog.runtime.calls import named_error
from flightlog.runtime.checks import degrade
from flightlog.runtime.gate import Gate, kill_text
from flightlog.runtime.guards import GuardAction, GuardFinding, Guards
from flightlog.runtime.ledger import Bound, Shortage
from flightlog.runtime.model import (
    Model,
    ModelRequest,
    ModelResponse,
    User,
    UserTurn,
    problem_of_answer,
    provider_of,
    usage_bound,
)
from flightlog.runtime.policy import chosen
from flightlog.runtime.prices import Cost, PriceTable
from flightlog.runtime.retry import (
    IS_TRIED_AGAIN,
    asked_wait_s,
    attribute_of,
    is_worth_retrying,
    pause_s,
)
from flightlog.runtime.tool_turn import Stop
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import Clock
from flightlog.trace.messages import Message
from flightlog.trace.vocab import FinishReason, Outcome, StopReason, finish_reason_of

OVERFLOW_WORDS: Final = frozenset(
    {"context_length_exceeded", "context_overflow", "model_context_window_exceeded"}
)
_REFUSED = (FinishReason.CONTENT_FILTER, FinishReason.REFUSAL)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What is sent, and what it lacks."""

    request: ModelRequest
    size_bytes: int
    is_truncated: bool
    has_policy: bool | None

    def offering(self, tools: tuple[Tool, ...]) -> _Prompt:
        """The same prompt with other tools."""
        return replace(self, request=replace(self.request, tools=tools))


@dataclass(slots=True)
class Answered:
    """What the model call of one step came to.

    Attributes:
        response: None where there was no answer.
        output: the answer as a message of the conversation.
        stop: ends the run.
    """

    response: ModelResponse | None = None
    output: Message | None = None
    stop: Stop | None = None


@dataclass(slots=True)
class _Try:
    """One attempt: an answer, a stop, or an error that may be tried again."""

    answered: Answered = field(default_factory=Answered)
    error: BaseException | None = None


class ModelTurn:
    """Plays the model call of one step; shared by all steps of a run.

    Args:
        gate: what the guardrails of the run share.
        guards: detectors of the run.
    """

    def __init__(self, gate: Gate, guards: Guards) -> None:
        self._gate = gate
        self._guards = guards
        self._agent = gate.agent
        self._prices = gate.agent.prices or PriceTable()
        self._is_bounding = _has_limits(gate)
        self._degrading = _degrading(gate)

    def play(self, conversation: Sequence[Message]) -> Generator[Request, Any, Answered]:
        """Asks the model; the conversation is not changed."""
        gate, step = self._gate, self._gate.ledger.step
        yield from self._follow_breakers(step)
        prompt, stop = self._prompt(conversation, step)
        stop = stop or self._killed(step) or self._guarded(prompt, len(conversation), step)
        if gate.mode.read_only_because is not None:  # a guard may just have asked for that
            prompt = prompt.offering(gate.mode.offered(self._agent.tools))
        attempt, policy = 1, None if IS_TRIED_AGAIN.get() else gate.policy.model_retry
        while stop is None:
            stop = yield from self._reserved(prompt.request)
            if stop is not None:
                break
            tried = yield from self._try(prompt, attempt)
            if tried.error is None or policy is None:
                return tried.answered
            seed = f"{'' if gate.clock.is_virtual else gate.writer.run_id}:{step}:{attempt}"
            wait_s = pause_s(policy, attempt, asked_s=asked_wait_s(tried.error), seed=seed)
            remaining_ms = gate.ledger.remaining_ms()
            if wait_s is None or (remaining_ms is not None and wait_s * 1000 >= remaining_ms):
                return tried.answered
            yield from self._wait(wait_s, step)
            attempt += 1
            stop = self._killed(step)
        return Answered(stop=stop)

    def _wait(self, seconds: float, step: int) -> Generator[Request, Any, None]:
        if self._gate.clock.is_virtual:
            self._gate.clock.advance_ms(seconds * 1000)
        elif seconds > 0:
            yield Wait(seconds, lambda: self._killed(step) is not None)

    def _killed(self, step: int) -> Stop | None:
        rule = self._gate.kill_rule(None, is_write=False, step=step)
        if rule is None:
            return None
        return Stop(StopReason.KILL_SWITCH, detail=f"the kill switch is on: {kill_text(rule)}")

    def _follow_breakers(self, step: int) -> Generator[Request, Any, None]:
        """Offers a tool while its breaker lets a call through; other runs open and close it too."""
        gate = self._gate
        if not self._degrading:
            return
        asked = yield Ask(gate.control.breakers.states_of, (self._degrading, gate.now_s()))
        if asked.error:
            raise asked.error
        for tool, state in asked.value.items():
            if state == "open":
                degrade(tool, gate, step)
            else:
                why = f"the circuit breaker of {tool!r} is {state.replace('_', '-')}"
                gate.mode.restore(tool, step=step, why=why)

    def _prompt(self, conversation: Sequence[Message], step: int) -> tuple[_Prompt, Stop | None]:
        agent, gate = self._agent, self._gate
        sent, stop = tuple(conversation), None
        if agent.fit is not None:
            try:
                sent = _messages_of(agent.fit(sent))
            except Exception as error:  # the agent's own code
                detail = f"the prompt of step {step} could not be made: {named_error(error)}"
                stop = Stop(StopReason.MODEL_ERROR, detail=detail)
        system = agent.system
        has_policy = None
        if system:
            has_policy = any(m.role == "system" and m.text == system for m in sent)
        is_truncated = agent.fit is not None and not _holds_all(sent, conversation)
        request = ModelRequest(sent, gate.mode.offered(agent.tools), step)
        return _Prompt(request, _size_of(sent), is_truncated, has_policy), stop

    def _guarded(self, prompt: _Prompt, conversation_messages: int, step: int) -> Stop | None:
        findings = self._guards.before_model(
            step,
            prompt_bytes=prompt.size_bytes,
            prompt_messages=len(prompt.request.messages),
            conversation_messages=conversation_messages,
            context_limit=_context_limit(self._agent.model),
            is_truncated=prompt.is_truncated,
            has_policy=prompt.has_policy,
        )
        return act_on(findings, self._gate, step)

    def _reserved(self, request: ModelRequest) -> Generator[Request, Any, Stop | None]:
        """Reserves what the call may take at most, of the run and of the tenant."""
        gate = self._gate
        bound = self._bound(request) if self._is_bounding else Bound()
        if reason := gate.ledger.reserve_model_call(bound):
            return Stop(reason, detail=gate.ledger.explain_bound(reason, bound))
        if gate.tenant_budget is None:
            return None
        asked = yield Ask(gate.tenant_budget.reserve_model_call, (bound,))
        if asked.error:
            raise asked.error
        shortage: Shortage | None = asked.value
        if shortage is None:
            return None
        gate.ledger.release_model_call()
        return Stop(shortage.reason, detail=shortage.text)

    def _bound(self, request: ModelRequest) -> Bound:
        model = self._agent.model
        usage = usage_bound(model, request)
        if usage is None:
            return Bound()
        cost = self._prices.cost(usage, (model.name,), provider_of(model))
        return Bound(cost.usd if cost else None, usage.tokens)

    def _try(self, prompt: _Prompt, attempt: int) -> Generator[Request, Asked, _Try]:
        gate, model = self._gate, self._agent.model
        request = prompt.request
        cut_ms = gate.ledger.remaining_ms()
        asked = yield Ask(model.complete, (request,), cut_ms=guard_ms(gate.clock, model, cut_ms))
        problem = failure_of(asked, ModelResponse)
        response = ModelResponse() if problem else asked.value
        latency_ms = latency_of(gate.clock, model, asked, response.latency_ms)
        is_late = asked.is_cut or is_past(gate.clock, latency_ms, cut_ms)
        gate.clock.advance_ms((cut_ms or 0.0) if is_late else latency_ms)
        if is_late or problem:
            gate.ledger.release_model_call()
            if gate.tenant_budget is not None:
                yield Ask(gate.tenant_budget.release_model_call)
        if is_late:
            return _Try(Answered(stop=self._late(prompt, attempt, cut_ms or 0.0)))
        if problem:
            stop = self._failed(prompt, attempt, asked.error, problem, latency_ms)
            is_final = asked.error is None or not is_worth_retrying(asked.error)
            is_final = is_final or stop.reason is StopReason.CONTEXT_OVERFLOW
            return _Try(Answered(stop=stop), error=None if is_final else asked.error)
        cost = self._cost_of(response)
        if gate.tenant_budget is not None:
            usd = cost.usd if cost else None
            yield Ask(gate.tenant_budget.spend_model_call, (response.usage, usd))
        return _Try(self._answered(prompt, attempt, response, cost, latency_ms))

    def _late(self, prompt: _Prompt, attempt: int, cut_ms: float) -> Stop:
        detail = self._gate.ledger.explain(StopReason.MAX_SECONDS)
        self._write(
            prompt,
            attempt,
            outcome=Outcome.TIMED_OUT,
            error=detail,
            latency_ms=round(cut_ms, 3),
        )
        return Stop(StopReason.MAX_SECONDS, detail=detail)

    def _failed(
        self,
        prompt: _Prompt,
        attempt: int,
        error: BaseException | None,
        text: str,
        latency_ms: float,
    ) -> Stop:
        self._write(
            prompt, attempt, outcome=Outcome.FAILED, error=text, latency_ms=round(latency_ms, 3)
        )
        code = attribute_of(error, "code")
        is_overflow = isinstance(code, str) and code in OVERFLOW_WORDS
        reason = StopReason.CONTEXT_OVERFLOW if is_overflow else StopReason.MODEL_ERROR
        tries = f" ({attempt} attempts)" if attempt > 1 else ""
        where = f"model {self._agent.model.name!r} failed at step {prompt.request.step}{tries}"
        return Stop(reason, detail=f"{where}: {text}")

    def _answered(
        self,
        prompt: _Prompt,
        attempt: int,
        response: ModelResponse,
        cost: Cost | None,
        latency_ms: float,
    ) -> Answered:
        output = Message("assistant", response.text, response.tool_requests)
        usage, finish = response.usage, finish_reason_of(response.finish_reason)
        self._gate.ledger.spend_model_call(usage, cost.usd if cost else None)
        self._guards.after_model(input_tokens=usage.input_tokens, prompt_bytes=prompt.size_bytes)
        self._write(
            prompt,
            attempt,
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
        return Answered(response, output, self._stop_of(response, finish))

    def _stop_of(self, response: ModelResponse, finish: FinishReason | None) -> Stop | None:
        """The stop that a finish reason means; a cut answer without tool calls is an error."""
        where = f"model {self._agent.model.name!r} at step {self._gate.ledger.step}"
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

    def _write(
        self, prompt: _Prompt, attempt: int, *, output: Message | None = None, **fields: Any
    ) -> None:
        model = self._agent.model
        self._gate.writer.model_call(
            prompt=prompt.request.messages,
            output=output,
            step=prompt.request.step,
            attempt=attempt,
            provider=provider_of(model),
            request_model=model.name,
            context_limit=_context_limit(model),
            is_truncated=prompt.is_truncated,
            has_policy=prompt.has_policy,
            **fields,
        )


def act_on(findings: Sequence[GuardFinding], gate: Gate, step: int) -> Stop | None:
    """Records what the guards found and does what the policy says; gives the first stop."""
    stop: Stop | None = None
    for found in findings:
        gate.writer.state_changed(
            step=step,
            subject="guard",
            tool_name=found.tool,
            state_from=found.guard.value if found.is_over else "ok",
            state_to="ok" if found.is_over else found.guard.value,
            detail=found.detail,
            durable=False,
        )
        if found.action is GuardAction.READ_ONLY:
            gate.mode.stay_read_only(step=step, why=found.detail)
        elif found.action is GuardAction.STOP and stop is None:
            stop = Stop(found.guard.stop_reason, detail=found.detail)
    return stop


def failure_of(asked: Asked, expected: type[ModelResponse | UserTurn]) -> str | None:
    """Why a model or user gave no answer that can be used; None when it did."""
    if asked.error is not None:
        return named_error(asked.error)
    return problem_of_answer(asked.value, expected)


def guard_ms(clock: Clock, asked: Model | User, cut_ms: float | None) -> float | None:
    """How long to wait for a model or user; None for one that says that it never blocks."""
    return None if getattr(asked, "never_blocks", False) else real_cut_ms(clock, cut_ms)


def latency_of(clock: Clock, who: Model | User, asked: Asked, stated_ms: float | None) -> float:
    """The stated duration, else the measured one; who answers from memory takes none."""
    if stated_ms is not None:
        return stated_ms
    is_instant = clock.is_virtual and getattr(who, "never_blocks", False)
    return 0.0 if is_instant else asked.latency_ms


def is_past(clock: Clock, latency_ms: float, cut_ms: float | None) -> bool:
    """True past the deadline on a virtual clock; real time has cut what was late."""
    return clock.is_virtual and cut_ms is not None and latency_ms > cut_ms


def _degrading(gate: Gate) -> dict[str, BreakerPolicy]:
    """Tools that are in use, and whose open breaker changes what the model is offered."""
    by_tool = {name: chosen(gate.policy.breakers, name) for name in gate.tools}
    return {
        name: policy
        for name, policy in by_tool.items()
        if policy and policy.fallback is not Fallback.STOP and gate.policy.allows(name)
    }


def _has_limits(gate: Gate) -> bool:
    """True when a budget limits USD or tokens, so that the worst case of a call matters."""
    budget, tenant = gate.policy.budget, gate.tenant_budget
    return (
        any(limit is not None for limit in (budget.max_usd, budget.max_tokens))
        or tenant is not None
    )


def _messages_of(fitted: Iterable[Any]) -> tuple[Message, ...]:
    sent = tuple(fitted)
    strange = next((one for one in sent if not isinstance(one, Message)), None)
    if strange is not None:
        raise TypeError(f"Agent.fit gave a {type(strange).__name__} that is not a Message")
    return sent


def _context_limit(model: Model) -> int | None:
    limit = getattr(model, "context_limit", None)
    return limit if type(limit) is int else None


def _size_of(messages: Sequence[Message]) -> int:
    """UTF-8 bytes of texts and tool requests, near enough for estimates."""
    size = 0
    for message in messages:
        size += message.size_bytes
    return size


def _holds_all(sent: Sequence[Message], conversation: Sequence[Message]) -> bool:
    if len(sent) < len(conversation):
        return False
    ids = {id(message) for message in sent}
    if all(id(message) in ids for message in conversation):
        return True
    digests = {message.digest for message in sent}
    return all(message.digest in digests for message in conversation)
