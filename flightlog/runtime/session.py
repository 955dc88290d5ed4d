"""The gateway by itself, for agents whose loop is somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.runtime.agent import Agent
from flightlog.runtime.asks import AskAll, Asked, Request
from flightlog.runtime.async_driver import AsyncDriver
from flightlog.runtime.bounds import Bounds
from flightlog.runtime.calls import error_observation
from flightlog.runtime.cancel import RunCancelledError
from flightlog.runtime.foreign_calls import ForeignCall, ForeignCalls, ForeignEnd
from flightlog.runtime.model import Usage
from flightlog.runtime.model_turn import act_on
from flightlog.runtime.replaying import inherited
from flightlog.runtime.result import RunResult
from flightlog.runtime.setting_up import Around, setup_of
from flightlog.runtime.sync_driver import SyncDriver
from flightlog.runtime.task import Task
from flightlog.runtime.tool_turn import Step, Stop
from flightlog.trace.clock import SystemClock
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import StopReason

OVER: Final = "run_over"
"""Error type of calls that come after the end."""


@dataclass(frozen=True, slots=True)
class Called:
    """What the calls of one step came to.

    Attributes:
        messages: tool messages for the model, in call order.
        is_ok: for each call, whether it was made and went well.
        stop: why the run is over; None while it goes on.
    """

    messages: tuple[Message, ...]
    is_ok: tuple[bool, ...]
    stop: Stop | None


class Session:
    """One run of an agent that decides for itself what it does next.

    Each tool call passes the gateway: allowlist, validation, approvals, budgets, deduplication,
    breakers, kill switch. Once something stops the run, every further call is refused with the
    reason. Steps are model calls where they are told, else batches of tool calls. For several
    threads, and for coroutines.

    Args:
        agent: its tools and policy; a `ForeignModel` where its loop asks the model itself.
        task: what it is asked to do.
        around: where the events go, and what the run may be given.

    Attributes:
        writer: writes what else is known of the run.

    Raises:
        AgentError: an allowed tool has no function and there is no executor.
        PriceError: `max_usd` is set and the model has no price.
    """

    def __init__(self, agent: Agent, task: Task, around: Around | None = None) -> None:
        around = around or Around()
        if around.executor is None and (answering := inherited()) is not None:
            around = Around(
                around.sink,
                around.clock,
                answering,
                around.context,
                around.control,
                around.cancel,
            )
        self._setup = setup_of(agent, task, around)
        self._bounds = Bounds(self._setup)
        self._lock = threading.RLock()
        self._under_way = 0
        self._stop: Stop | None = None
        self._answer: str | None = None
        self._result: RunResult | None = None
        self._next_ix = 0
        self._foreign = ForeignCalls(self._bounds)
        cancel = self._setup.cancel
        self._forget = cancel.subscribe(self._bounds.over.cancel) if cancel else None
        self._bounds.start()

    @property
    def writer(self) -> RunWriter:
        """Of the run's events."""
        return self._setup.writer

    @property
    def run_id(self) -> str:
        """Its id in the store."""
        return self._setup.writer.run_id

    @property
    def stop(self) -> Stop | None:
        """Why the run is over; None while it goes on."""
        return self._stop

    @property
    def step(self) -> int:
        """The step that it is in, from 1; 0 before the first."""
        return self._bounds.ledger.step

    @property
    def is_killed(self) -> bool:
        """True while the kill switch stops everything."""
        gate = self._bounds.gate
        rule = gate.control.kill_switch.rule_for(
            tenant=gate.context.tenant,
            tool=None,
            is_write=False,
            configured=gate.policy.kill_mode,
        )
        return rule is not None

    @property
    def is_virtual(self) -> bool:
        """True where time passes only as it is told: in a replay."""
        return self._setup.clock.is_virtual

    def remaining_ms(self) -> float | None:
        """Until the deadline, at least 0; None without one."""
        return self._bounds.ledger.remaining_ms()

    def advance_ms(self, milliseconds: float) -> None:
        """Tells a virtual clock that the agent's loop took this long."""
        self._setup.clock.advance_ms(milliseconds)

    def begin_model_call(self, *, is_new_step: bool = True) -> Stop | None:
        """Begins a model call of the agent's loop, or says why there is none any more.

        The run ends only after `end_model_call`, whatever ends it meanwhile.

        Args:
            is_new_step: False for a further attempt of the same call.
        """
        with self._lock:
            stop = self.begin_step() if is_new_step or self.step == 0 else self._stop
            if stop is None:
                self._under_way += 1
            return stop

    def end_model_call(self) -> None:
        """Ends what `begin_model_call` began; its event has been written."""
        self._done()

    def begin_foreign(self, name: str, ident: str | None, args: Any) -> ForeignCall | str:
        """Admits a call of a tool that somebody else makes; gives why not.

        Allowlist, kill switch and budgets hold; nothing else of the gateway does. What is
        admitted ends by `end_foreign`.
        """
        with self._lock:
            if self._stop is not None:
                return f"the run is over: {self._stop.detail or self._stop.reason}"
            if self.step == 0:
                self.begin_step()
            call = ForeignCall(name, ident, args, self.step, self._next_ix)
            self._next_ix += 1
            refused = self._foreign.refuse(call)
            if refused is None:
                self._under_way += 1
                return call
            why, stop = refused
            if stop is not None:
                self._over(stop)
            return why

    def end_foreign(self, call: ForeignCall, end: ForeignEnd) -> None:
        """Records what came of a call that was admitted."""
        with self._lock:
            if not self.is_finished:
                self._foreign.end(call, end)
        self._done()

    def next_step_stop(self) -> Stop | None:
        """Why there is no further step; None while there is one. Begins none."""
        with self._lock:
            ledger = self._bounds.ledger
            if self._stop is None and (reason := ledger.next_step_refusal()):
                self._over(Stop(reason, detail=ledger.explain(reason)))
            return self._stop

    @property
    def is_finished(self) -> bool:
        """True once the end of the run is recorded: nothing is written behind it."""
        return self._result is not None

    def begin_step(self) -> Stop | None:
        """Begins a step, as before a model call; gives why there is none any more."""
        with self._lock:
            if self._stop is not None:
                return self._stop
            self._next_ix = 0
            if reason := self._bounds.ledger.begin_step():
                self._over(Stop(reason, detail=self._bounds.ledger.explain(reason)))
            return self._stop

    def call(self, requests: Sequence[ToolRequest], *, begins_step: bool = True) -> Called:
        """Makes the tool calls of one step; blocks until all are over.

        Args:
            requests: what the model asked for.
            begins_step: False where `begin_step` was called for the model's answer.
        """
        playing = self._begin(requests, begins_step=begins_step)
        if isinstance(playing, Called):
            return playing
        driver = SyncDriver(SystemClock(), self._setup.cancel)
        try:
            return self._settled(driver.drive(self._locked(playing)))
        except RunCancelledError:
            return self._cancelled(requests)
        finally:
            self._done()

    async def call_async(
        self, requests: Sequence[ToolRequest], *, begins_step: bool = True
    ) -> Called:
        """The same for coroutines; tools may be async."""
        playing = self._begin(requests, begins_step=begins_step)
        if isinstance(playing, Called):
            return playing
        driver = AsyncDriver(SystemClock(), self._setup.cancel, writer=self._setup.writer)
        try:
            return self._settled(await driver.drive(self._locked(playing)))
        except RunCancelledError:
            return self._cancelled(requests)
        finally:
            self._done()

    def spend_model_call(self, usage: Usage, cost_usd: float | None) -> None:
        """Books a model call that the agent's loop made; the writer records it."""
        self._bounds.ledger.spend_model_call(usage, cost_usd)

    def end(
        self,
        reason: StopReason = StopReason.OK,
        *,
        answer: str | None = None,
        detail: str | None = None,
    ) -> RunResult:
        """Ends the run, unless something has; gives how it ended.

        Calls that are under way are not waited for, and count as cancelled.
        """
        with self._lock:
            self._answer = answer
            self._stop = self._stop or Stop(reason, detail=detail)
            return self._finish()

    def end_late(self, *, answer: str | None = None) -> RunResult:
        """Ends the run at its deadline, unless something has."""
        detail = self._bounds.ledger.explain(StopReason.MAX_SECONDS)
        return self.end(StopReason.MAX_SECONDS, answer=answer, detail=detail)

    def _begin(
        self, requests: Sequence[ToolRequest], *, begins_step: bool
    ) -> Called | Generator[Request, Any, Step]:
        with self._lock:
            stop = self._stop
            if stop is None and (begins_step or self.step == 0):
                stop = self.begin_step()
            if stop is not None:
                return _refused(requests, stop)
            self._under_way += 1
            first_ix, self._next_ix = self._next_ix, self._next_ix + len(requests)
            return self._played(requests, self.step, first_ix)

    def _played(
        self, requests: Sequence[ToolRequest], step: int, first_ix: int
    ) -> Generator[Request, Any, Step]:
        playing = self._bounds.tools.play(requests, step, first_ix=first_ix)
        played: Step = yield from playing
        findings = self._bounds.guards.after_tools(step, played.calls)
        found = act_on(findings, self._bounds.gate, step)
        return Step(played.messages, played.calls, played.stop or found)

    def _locked(self, playing: Generator[Request, Any, Step]) -> Generator[Request, Any, Step]:
        """The same, with what the run's threads share changed by one at a time."""
        try:
            with self._lock:
                request = next(playing)
            while True:
                try:
                    reply = yield self._answered_alone(request)
                except BaseException as error:
                    with self._lock:
                        request = playing.throw(error)
                else:
                    with self._lock:
                        request = playing.send(reply)
        except StopIteration as end:
            played: Step = end.value
            return played

    def _answered_alone(self, request: Request) -> Request:
        """A request whose answers are taken in by one thread at a time."""
        if not isinstance(request, AskAll):
            return request
        taken = request.on_done

        def on_done(place: int, asked: Asked) -> None:
            with self._lock:
                taken(place, asked)

        return AskAll(request.asks, on_done)

    def _settled(self, step: Step) -> Called:
        with self._lock:
            if step.stop is not None and self._stop is None:
                self._stop = step.stop
            ok = tuple(call.is_ok for call in step.calls)
            return Called(tuple(step.messages), ok, self._stop)

    def _cancelled(self, requests: Sequence[ToolRequest]) -> Called:
        with self._lock:
            cancel = self._setup.cancel
            why = (cancel.why if cancel else "") or "cancelled from outside"
            self._stop = self._stop or Stop(StopReason.CANCELLED, detail=why)
            return _refused(requests, self._stop)

    def _done(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._stop is not None:
                self._over(self._stop)

    def _over(self, stop: Stop) -> None:
        """Records the end as soon as no call is under way any more."""
        self._stop = stop
        if not self._under_way:
            self._finish()

    def _finish(self) -> RunResult:
        if self._result is None:
            assert self._stop is not None
            self._bounds.gateway.abandon()
            self._result = self._bounds.finish(self._stop, answer=self._answer)
            if self._forget is not None:
                self._forget()
            if self._setup.owns_control:
                self._setup.control.end()
        return self._result


def _refused(requests: Sequence[ToolRequest], stop: Stop) -> Called:
    """What a call gets once the run is over."""
    why = f"the run is over: {stop.reason}" + (f", {stop.detail}" if stop.detail else "")
    text = error_observation(OVER, why)
    messages = (Message("tool", text, tool_call_id=one.id, name=one.name) for one in requests)
    return Called(tuple(messages), tuple(False for _ in requests), stop)
