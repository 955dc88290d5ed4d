"""Runs an agent whose loop is its own, and says how an exception of it ended the run."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import PurePath
from typing import Any, Final

from flightlog.errors import AgentError
from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import Ask, Asked, Request
from flightlog.runtime.calls import clause, error_text, named_error
from flightlog.runtime.cancel import RunCancelledError
from flightlog.runtime.model_turn import OVERFLOW_WORDS
from flightlog.runtime.own_loop import OwnLoop, RunOverError
from flightlog.runtime.result import RunResult
from flightlog.runtime.retry import attribute_of
from flightlog.runtime.session import Session
from flightlog.runtime.setting_up import Around
from flightlog.runtime.task import Task
from flightlog.trace.stop_words import stop_of, stop_word
from flightlog.trace.vocab import StopReason

_INTERRUPTS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)

_GRACE_MS: Final = 60_000.0
"""Real time beyond the budget that a loop has on a virtual clock: no blocked one is waited for
for ever, and how busy a machine is decides nothing."""


class OwnTurns:
    """One run of an agent with a loop of its own, on a task."""

    def __init__(self, agent: Agent, task: Task, around: Around) -> None:
        session = Session(agent, task, around)
        self._agent = agent
        self._session = session
        self._run = OwnLoop(session, agent, task)
        self._cancel = around.cancel
        self.writer = session.writer

    def play(self) -> Generator[Request, Any, RunResult]:
        """Calls the loop; gives the result, and records an end whatever happens."""
        session, run, loop = self._session, self._run, self._agent.loop
        assert loop is not None
        try:
            asked: Asked = yield Ask(loop, (run,), cut_ms=self._cut_ms())
        except RunOverError:
            return session.end(answer=run.answer)
        except RunCancelledError:
            why = clause(self._cancel.why if self._cancel else "") or "cancelled from outside"
            detail = f"{why} at step {session.step}."
            return session.end(StopReason.CANCELLED, answer=run.answer, detail=detail)
        except BaseException as error:
            result = ended_by(error, run)
            if is_over(error):
                return result
            raise
        if asked.is_cut:
            return session.end_late(answer=run.answer)
        if asked.error is not None:
            return ended_by(asked.error, run)
        return self._answered(asked.value)

    def _answered(self, value: Any) -> RunResult:
        run = self._run
        if value is not None and not isinstance(value, str):
            given = type(value).__name__
            error = AgentError(f"the loop gave a {given}, not the text of an answer or None")
            return ended_by(error, run)
        return self._session.end(answer=run.answer if value is None else value)

    def _cut_ms(self) -> float | None:
        remaining_ms = self._session.remaining_ms()
        if remaining_ms is None or not self._session.is_virtual:
            return remaining_ms
        return remaining_ms + _GRACE_MS


def ended_by(error: BaseException, run: OwnLoop) -> RunResult:
    """Ends a run as what an exception of its loop means, unless a bound has ended it."""
    reason = reason_of(error)
    detail = named_error(error)
    if reason is StopReason.CRASHED and (place := _place_of(error)):
        detail = f"{detail} ({place})"
    return run.session.end(reason, answer=run.answer, detail=detail)


def is_over(error: BaseException) -> bool:
    """True for a group of nothing but the ends of runs, as a framework's tasks raise it."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    _, others = error.split(RunOverError)
    return others is None


def reason_of(error: BaseException) -> StopReason:
    """Why an exception ended a run: frameworks and SDKs tell their own limits so."""
    if isinstance(error, _INTERRUPTS):
        return StopReason.CANCELLED
    if str(attribute_of(error, "code")) in OVERFLOW_WORDS:
        return StopReason.CONTEXT_OVERFLOW
    word = stop_word(type(error).__name__, error_text(error))
    return stop_of(word, is_error=True) or StopReason.CRASHED


def _place_of(error: BaseException) -> str | None:
    """File and line that raised it."""
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
