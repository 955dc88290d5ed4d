"""The loop itself, once for sync and async: a generator that asks and is answered.

It does no waiting of its own: it yields what is to be called (`Ask`, `AskAll`),
and a driver sends back what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self

from flightlog.runtime.asks import Ask, Asked, Request
from flightlog.runtime.bounds import Bounds, Setup
from flightlog.runtime.calls import clause, named_error
from flightlog.runtime.cancel import RunCancelledError
from flightlog.runtime.model import UserTurn
from flightlog.runtime.model_turn import (
    ModelTurn,
    act_on,
    failure_of,
    guard_ms,
    is_past,
    latency_of,
)
from flightlog.runtime.result import RunResult
from flightlog.runtime.signals import TERMINATED
from flightlog.runtime.tool_turn import Stop
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Actor, Outcome, StopReason

_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


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
        self._bounds = bounds = Bounds(setup)
        self._gate, self._ledger, self._guards = bounds.gate, bounds.ledger, bounds.guards
        self._tools = bounds.tools
        self._model = ModelTurn(bounds.gate, bounds.guards)
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
        forget = cancel.subscribe(self._bounds.over.cancel) if cancel else None
        self._messages = self._bounds.start()
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
            self._bounds.gateway.abandon()
            if forget is not None:
                forget()
        return self._finish(stop)

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

    def _finish(self, stop: Stop) -> RunResult:
        return self._bounds.finish(stop, answer=self._answer)

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


def _interruption(error: BaseException) -> str:
    """What interrupted a run, in the words of who did it."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (KeyboardInterrupt, such as by Ctrl-C)"
    if isinstance(error, SystemExit) and error.code == TERMINATED:
        return "terminated (SIGTERM)"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled by its caller (CancelledError)"
    return f"ended by {type(error).__name__}"
