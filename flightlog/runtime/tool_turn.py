"""The tool calls of one step: admitted in order, run beside each other, recorded."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flightlog.runtime.asks import MAX_PARALLEL, Ask, AskAll, Asked
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.calls import (
    Admission,
    PendingCall,
    Refusal,
    Served,
    Settled,
    error_observation,
)
from flightlog.runtime.gateway import NO_CUT, Cut, Gateway
from flightlog.runtime.policy import Policy
from flightlog.trace.canonical import clean_text
from flightlog.trace.clock import Clock
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Outcome, ServedHow, StopReason

_STOP_REASONS = {
    Outcome.FAILED: StopReason.TOOL_FAILED,
    Outcome.TIMED_OUT: StopReason.TOOL_FAILED,
    Outcome.DENIED: StopReason.TOOL_DENIED,
    Outcome.INVALID_INPUT: StopReason.INVALID_TOOL_INPUT,
    Outcome.INVALID_OUTPUT: StopReason.INVALID_TOOL_OUTPUT,
    Outcome.CIRCUIT_OPEN: StopReason.CIRCUIT_OPEN,
    Outcome.APPROVAL_DENIED: StopReason.APPROVAL_DENIED,
    Outcome.KILL_SWITCH: StopReason.KILL_SWITCH,
    Outcome.REPLAY_MISS: StopReason.REPLAY_MISS,
}
_WITHOUT_TOOL = frozenset({StopReason.KILL_SWITCH, StopReason.RECORDER_FAILED})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends, before it is written down."""

    reason: StopReason
    tool: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class _Ending:
    """What one call of the step came to."""

    observation: str = ""
    stop: Stop | None = None


class ToolTurn:
    """Plays the tool calls of one step; shared by all steps of a run.

    Every call runs to its end before the step ends, also when one of them stops
    the run: the calls of a step have no order for the model. The first stop in
    call order is the stop reason.
    """

    def __init__(
        self, policy: Policy, gateway: Gateway, ledger: Ledger, writer: RunWriter, clock: Clock
    ) -> None:
        self._policy = policy
        self._gateway = gateway
        self._ledger = ledger
        self._writer = writer
        self._clock = clock

    def play(
        self, requests: Sequence[ToolRequest], step: int
    ) -> Generator[Ask | AskAll, Any, tuple[list[Message], Stop | None]]:
        """Gives the tool messages for the model, in call order, and the stop, if any."""
        admissions: list[Admission] = []
        for call_ix, request in enumerate(requests):
            admissions.append((yield from self._admit(request, step, call_ix)))
        endings = [_Ending() for _ in admissions]
        for admission, ending in zip(admissions, endings, strict=True):
            if admission.refusal:
                self._end_refused(admission.call, admission.refusal, ending)
        yield from self._run_live(admissions, endings)
        self._end_served(admissions, endings)
        messages = [
            Message("tool", ending.observation, tool_call_id=request.id, name=request.name)
            for request, ending in zip(requests, endings, strict=True)
        ]
        return messages, next((ending.stop for ending in endings if ending.stop), None)

    def _admit(
        self, request: ToolRequest, step: int, call_ix: int
    ) -> Generator[Ask, Asked, Admission]:
        call = self._gateway.pending(request, step=step, call_ix=call_ix)
        if not self._gateway.may_block(call):
            return self._gateway.admit(call)
        asked = yield Ask(self._gateway.admit, (call,))
        if asked.error:
            raise asked.error
        admission: Admission = asked.value
        return admission

    def _run_live(
        self, admissions: Sequence[Admission], endings: Sequence[_Ending]
    ) -> Generator[AskAll, None, None]:
        live = [place for place, admission in enumerate(admissions) if admission.is_live]
        for first in range(0, len(live), MAX_PARALLEL):
            # What waits for a free place is cut by what is left of the deadline then.
            wave = live[first : first + MAX_PARALLEL]
            calls = [admissions[place].call for place in wave]
            yield self._wave(calls, [endings[place] for place in wave])

    def _wave(self, calls: Sequence[PendingCall], endings: Sequence[_Ending]) -> AskAll:
        cuts = [self._gateway.cut_of(call) for call in calls]
        started_ms = self._clock.monotonic_ms()

        def on_done(which: int, asked: Asked) -> None:
            call, cut = calls[which], cuts[which]
            if self._clock.is_virtual and not asked.is_cut:
                # A function under a virtual clock takes the time that it advances itself.
                asked = replace(asked, latency_ms=self._clock.monotonic_ms() - started_ms)
            elif asked.is_cut:
                self._clock.advance_ms(asked.latency_ms)
            served = _served_of(call, asked, cut)
            if asked.is_cut:
                settled = Settled(served, hit_deadline=cut.is_deadline)
            elif self._clock.is_virtual:
                settled = self._gateway.settle(call, served, cut)
            else:  # real time has already cut what was late
                settled = self._gateway.settle(call, served, NO_CUT)
            self._end(call, settled, endings[which])

        asks = [_ask_of(call, cut) for call, cut in zip(calls, cuts, strict=True)]
        return AskAll(tuple(asks), on_done)

    def _end_served(self, admissions: Sequence[Admission], endings: Sequence[_Ending]) -> None:
        ended: list[tuple[PendingCall, Settled, _Ending]] = []
        for admission, ending in zip(admissions, endings, strict=True):
            if admission.served:
                call = admission.call
                cut = self._gateway.cut_of(call)
                settled = self._gateway.settle(call, admission.served, cut)
                ended.append((call, settled, ending))
        if ended:
            self._clock.advance_ms(max(one.served.latency_ms or 0.0 for _, one, _ in ended))
        for call, settled, ending in ended:
            self._end(call, settled, ending)

    def _end_refused(self, call: PendingCall, refusal: Refusal, ending: _Ending) -> None:
        self._write(
            call,
            outcome=refusal.outcome,
            error=refusal.error,
            error_type=refusal.error_type,
        )
        ending.observation = error_observation(refusal.error_type, refusal.error)
        if refusal.must_stop or refusal.outcome in self._policy.stop_on:
            ending.stop = self._stop(call, refusal.outcome, refusal.error, refusal.stop_reason)

    def _end(self, call: PendingCall, settled: Settled, ending: _Ending) -> None:
        served = settled.served
        is_miss = served.outcome is Outcome.REPLAY_MISS
        self._write(
            call,
            result=served.result,
            outcome=served.outcome,
            error=served.error,
            error_type=served.error_type,
            cost_usd=None if is_miss or call.tool is None else call.tool.cost_usd,
            latency_ms=None if served.latency_ms is None else round(served.latency_ms, 3),
            served_how=served.served_how,
            served_from=served.served_from,
            state_key=served.state_key,
        )
        ending.observation = settled.observation
        if served.outcome is Outcome.OK:
            return
        self._ledger.book_failure(call.request.name)
        if settled.hit_deadline:
            detail = self._ledger.explain(StopReason.MAX_SECONDS)
            ending.stop = Stop(StopReason.MAX_SECONDS, detail=detail)
        elif served.outcome in self._policy.stop_on:
            ending.stop = self._stop(call, served.outcome, served.error or "", None)

    def _stop(
        self, call: PendingCall, outcome: Outcome, error: str, reason: StopReason | None
    ) -> Stop | None:
        if outcome is Outcome.BUDGET:
            return Stop(reason or StopReason.MAX_TOOL_CALLS, detail=error)
        reason = reason or _STOP_REASONS.get(outcome)
        if reason is None:
            return None
        name = call.request.name
        detail = error
        if outcome is not Outcome.REPLAY_MISS:  # a miss names its place itself
            detail = f"tool call {name!r} at step {call.step}: {error}."
        return Stop(reason, None if reason in _WITHOUT_TOOL else name, detail)

    def _write(self, call: PendingCall, **fields: Any) -> None:
        self._writer.tool_call(
            step=call.step,
            call_ix=call.call_ix,
            tool_name=clean_text(call.request.name),
            tool_call_id=clean_text(call.request.id),
            effect=call.effect,
            args=call.args.text,
            args_digest=call.args.digest,
            args_flag=call.args.flag,
            **fields,
        )


def _ask_of(call: PendingCall, cut: Cut) -> Ask:
    assert call.tool is not None
    assert call.tool.fn is not None
    return Ask(call.tool.fn, kwargs=call.values(), cut_ms=cut.after_ms)


def _served_of(call: PendingCall, asked: Asked, cut: Cut) -> Served:
    if asked.is_cut:
        return replace(cut.timed_out(call.request.name), served_how=ServedHow.LIVE)
    if asked.error is not None:
        return Served.of_error(asked.error, how=ServedHow.LIVE, latency_ms=asked.latency_ms)
    return Served.of_value(asked.value, how=ServedHow.LIVE, latency_ms=asked.latency_ms)
