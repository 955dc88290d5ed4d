"""The tool calls of one step: admitted in order, run beside each other, tried again, recorded."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flightlog.runtime.asks import MAX_PARALLEL, Ask, AskAll, Asked, Request, Wait
from flightlog.runtime.calls import (
    Admission,
    PendingCall,
    Refusal,
    Served,
    Settled,
    error_observation,
)
from flightlog.runtime.gateway import NO_CUT, CallRefusedError, Cut, Gateway
from flightlog.runtime.guards import StepCall
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.policy import Policy
from flightlog.runtime.retry import pause_s
from flightlog.trace.canonical import clean_text, digest_of
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
_TRIED_AGAIN = (Outcome.FAILED, Outcome.TIMED_OUT)
_WITHOUT_TOOL = frozenset({StopReason.KILL_SWITCH, StopReason.RECORDER_FAILED})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ends, before it is written down."""

    reason: StopReason
    tool: str | None = None
    detail: str | None = None


@dataclass(slots=True)
class _Way:
    """One call of the step on its way, over all its attempts.

    Attributes:
        call: its current attempt.
        settled: what the last attempt came to; None for a refused one.
        is_open: a further attempt follows.
        refusal: the refusal whose observation an earlier call still has to give.
        is_live: the current attempt may be called, or was, and is not written yet.
        is_called: its function was called.
    """

    call: PendingCall
    observation: str = ""
    stop: Stop | None = None
    settled: Settled | None = None
    is_open: bool = True
    refusal: Refusal | None = None
    is_live: bool = False
    is_called: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What the tool calls of one step came to.

    Attributes:
        messages: tool messages for the model, in call order.
        stop: the first stop in call order.
    """

    messages: list[Message]
    calls: list[StepCall]
    stop: Stop | None


class ToolTurn:
    """Plays the tool calls of one step; shared by all steps of a run.

    Every call runs to its end before the step ends, also when one of them stops
    the run: the calls of a step have no order for the model. The first stop in
    call order is the stop reason. Failed calls that a policy tries again go in
    rounds: all attempts of a round end before the next one starts.
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
        self, requests: Sequence[ToolRequest], step: int, *, first_ix: int = 0
    ) -> Generator[Request, Any, Step]:
        """Gives what the calls came to.

        Args:
            requests: of the model.
            step: that they are of.
            first_ix: calls of the step that were played before.
        """
        ways = [
            _Way(self._gateway.pending(request, step=step, call_ix=call_ix))
            for call_ix, request in enumerate(requests, first_ix)
        ]
        todo = ways
        while todo:
            yield from self._round(todo)
            todo = yield from self._to_try_again(ways)
        for way in ways:
            if way.refusal is not None:
                self._end_repeat(way, way.refusal)
        return Step(
            [
                Message("tool", way.observation, tool_call_id=request.id, name=request.name)
                for request, way in zip(requests, ways, strict=True)
            ],
            [_step_call(way) for way in ways],
            next((way.stop for way in ways if way.stop), None),
        )

    def _round(self, ways: Sequence[_Way]) -> Generator[Request, Any, None]:
        """One attempt of each call; also the end of a run in its midst leaves no call unwritten."""
        try:
            yield from self._attempts(ways)
        except BaseException:
            for way in ways:
                if way.is_live:
                    self._end_interrupted(way)
            raise

    def _attempts(self, ways: Sequence[_Way]) -> Generator[Request, Any, None]:
        admissions: list[Admission] = []
        for way in ways:
            admission = yield from self._admit(way.call)
            admissions.append(admission)
            way.is_live, way.is_called = admission.is_live, False
        for admission, way in zip(admissions, ways, strict=True):
            if admission.refusal:
                self._end_refused(way, admission.refusal)
        yield from self._run_live(admissions, ways)
        self._end_served(admissions, ways)

    def _admit(self, call: PendingCall) -> Generator[Ask, Asked, Admission]:
        if not self._gateway.may_block(call):
            return self._gateway.admit(call)
        asked = yield Ask(self._gateway.admit, (call,))
        if asked.error:
            raise asked.error
        admission: Admission = asked.value
        return admission

    def _to_try_again(self, ways: Sequence[_Way]) -> Generator[Request, Any, list[_Way]]:
        """Waits for the next attempts and gives the calls that get one."""
        failed = [way for way in ways if way.is_open]
        is_stopped = any(way.stop for way in ways)
        waits = {id(way): self._wait_s(way) for way in failed}
        again = [] if is_stopped else [way for way in failed if waits[id(way)] is not None]
        longest_s = max((waits[id(way)] or 0.0 for way in again), default=0.0)
        remaining_ms = self._ledger.remaining_ms()
        if remaining_ms is not None and longest_s * 1000 >= remaining_ms:
            again = [way for way in again if (waits[id(way)] or 0.0) * 1000 < remaining_ms]
            longest_s = max((waits[id(way)] or 0.0 for way in again), default=0.0)
        for way in failed:
            if way not in again:
                self._close(way)
        if again and longest_s > 0:
            if self._clock.is_virtual:
                self._clock.advance_ms(longest_s * 1000)
            else:
                yield Wait(
                    longest_s, lambda: all(self._gateway.is_killed(way.call) for way in again)
                )
        for way in again:
            way.call = replace(way.call, attempt=way.call.attempt + 1)
        return again

    def _wait_s(self, way: _Way) -> float | None:
        """Seconds before the next attempt; None where there is none."""
        policy = self._gateway.retry_of(way.call)
        if policy is None or way.settled is None:
            return None
        call = way.call
        # On a virtual clock the jitter is the same in every replay.
        run = "" if self._clock.is_virtual else self._writer.run_id
        seed = f"{run}:{call.step}:{call.call_ix}:{call.attempt}"
        asked_s = way.settled.served.retry_after_s
        return pause_s(policy, call.attempt, asked_s=asked_s, seed=seed)

    def _run_live(
        self, admissions: Sequence[Admission], ways: Sequence[_Way]
    ) -> Generator[AskAll, None, None]:
        live = [place for place, admission in enumerate(admissions) if admission.is_live]
        for first in range(0, len(live), MAX_PARALLEL):
            # What waits for a free place is cut by what is left of the deadline then.
            yield self._wave([ways[place] for place in live[first : first + MAX_PARALLEL]])

    def _wave(self, ways: Sequence[_Way]) -> AskAll:
        cuts = [self._gateway.cut_of(way.call) for way in ways]
        started_ms = self._clock.monotonic_ms()

        def on_done(which: int, asked: Asked) -> None:
            way, cut = ways[which], cuts[which]
            way.is_live = False
            if isinstance(asked.error, CallRefusedError):
                self._gateway.unmade(way.call)
                self._end_refused(way, asked.error.refusal)
                return
            if self._clock.is_virtual and not asked.is_cut:
                # A function under a virtual clock takes the time that it advances itself.
                asked = replace(asked, latency_ms=self._clock.monotonic_ms() - started_ms)
            elif asked.is_cut:
                self._clock.advance_ms(cut.after_ms or 0.0)
            served = self._gateway.scrubbed(_served_of(way.call, asked, cut))
            if asked.is_cut:
                settled = Settled(served, hit_deadline=cut.is_deadline)
            elif self._clock.is_virtual:
                settled = self._gateway.settle(way.call, served, cut)
            else:  # real time has already cut what was late
                settled = self._gateway.settle(way.call, served, NO_CUT)
            self._end(way, settled)

        for way in ways:
            way.is_called = True
        asks = [self._gateway.ask_of(way.call, cut) for way, cut in zip(ways, cuts, strict=True)]
        return AskAll(tuple(asks), on_done)

    def _end_served(self, admissions: Sequence[Admission], ways: Sequence[_Way]) -> None:
        ended: list[tuple[_Way, Settled]] = []
        for admission, way in zip(admissions, ways, strict=True):
            if admission.served:
                cut = self._gateway.cut_of(way.call)
                served = self._gateway.scrubbed(admission.served)
                ended.append((way, self._gateway.settle(way.call, served, cut)))
        if ended:
            self._clock.advance_ms(max(one.served.latency_ms or 0.0 for _, one in ended))
        for way, settled in ended:
            self._end(way, settled)

    def _end_refused(self, way: _Way, refusal: Refusal) -> None:
        way.is_open = False
        if way.settled is not None:  # an earlier attempt was made
            self._gateway.close(way.call, way.settled)
        if refusal.repeat_of is not None:
            # The call that it repeats may be one of this step, and not over yet.
            way.refusal = refusal
            return
        self._write(
            way.call, outcome=refusal.outcome, error=refusal.error, error_type=refusal.error_type
        )
        way.settled = None
        way.observation = error_observation(refusal.error_type, refusal.error)
        stops = refusal.outcome in self._policy.stop_on if refusal.stops is None else refusal.stops
        if stops:
            way.stop = self._stop(way.call, refusal.outcome, refusal.error, refusal.stop_reason)

    def _end_repeat(self, way: _Way, refusal: Refusal) -> None:
        earlier = refusal.repeat_of
        settled = earlier.settled if earlier else None
        if settled is None:
            error = "the call that this one repeats was not made"
            way.observation = error_observation(refusal.error_type, error)
        else:
            error = settled.served.error or ""
            way.observation = settled.observation
        way.settled = settled
        self._write(
            way.call,
            outcome=Outcome.DEDUPLICATED,
            result=settled.served.result if settled else None,
            error=error or refusal.error,
            error_type=refusal.error_type,
        )

    def _end_interrupted(self, way: _Way) -> None:
        """Writes a call that the end of the run has overtaken."""
        error = "the run was cancelled before the call was made"
        if way.is_called:
            error = "the run was cancelled while the call was under way"
        self._write(
            way.call,
            outcome=Outcome.TIMED_OUT if way.is_called else Outcome.FAILED,
            error=error,
            error_type="cancelled",
            served_how=ServedHow.LIVE if way.is_called else None,
        )
        way.is_live = False

    def _end(self, way: _Way, settled: Settled) -> None:
        """Books and writes one attempt."""
        call, served = way.call, settled.served
        is_miss = served.outcome is Outcome.REPLAY_MISS
        self._write(
            call,
            result=served.result,
            **({} if served.result_flag is None else {"result_flag": served.result_flag}),
            outcome=served.outcome,
            error=served.error,
            error_type=served.error_type,
            cost_usd=None if is_miss or call.tool is None else call.tool.cost_usd,
            latency_ms=None if served.latency_ms is None else round(served.latency_ms, 3),
            served_how=served.served_how,
            served_from=served.served_from,
            state_key=served.state_key,
        )
        way.settled = settled
        self._gateway.end(call, settled)
        if served.outcome is not Outcome.OK:
            self._ledger.book_failure(call.name)
        policy = self._gateway.retry_of(call)
        is_last = policy is None or call.attempt >= policy.max_attempts
        if is_last or settled.hit_deadline or served.is_final or served.outcome not in _TRIED_AGAIN:
            self._close(way)

    def _close(self, way: _Way) -> None:
        """What the last attempt of a call means for model and run."""
        settled = way.settled
        assert settled is not None
        way.is_open = False
        self._gateway.close(way.call, settled)
        way.observation = settled.observation
        outcome = settled.served.outcome
        if settled.hit_deadline:
            detail = self._ledger.explain(StopReason.MAX_SECONDS)
            way.stop = Stop(StopReason.MAX_SECONDS, detail=detail)
        elif outcome is not Outcome.OK and outcome in self._policy.stop_on:
            way.stop = self._stop(way.call, outcome, settled.served.error or "", None)

    def _stop(
        self, call: PendingCall, outcome: Outcome, error: str, reason: StopReason | None
    ) -> Stop | None:
        if outcome is Outcome.BUDGET:
            return Stop(reason or StopReason.MAX_TOOL_CALLS, detail=error)
        reason = reason or _STOP_REASONS.get(outcome)
        if reason is None:
            return None
        detail = error
        if outcome is not Outcome.REPLAY_MISS:  # a miss names its place itself
            detail = f"tool call {call.name!r} at step {call.step}: {error}"
        return Stop(reason, None if reason in _WITHOUT_TOOL else call.name, detail)

    def _write(self, call: PendingCall, **fields: Any) -> None:
        self._writer.tool_call(
            step=call.step,
            call_ix=call.call_ix,
            tool_name=clean_text(call.name),
            tool_call_id=clean_text(call.request.id),
            effect=call.effect,
            args=call.args.text,
            args_digest=call.args.digest,
            args_flag=call.args.flag,
            attempt=call.attempt,
            idempotency_key=call.key,
            **fields,
        )


def _step_call(way: _Way) -> StepCall:
    is_ok = way.settled is not None and way.settled.served.outcome is Outcome.OK
    observed = digest_of("observation", way.observation)
    is_write = way.call.effect.is_write
    return StepCall(way.call.name, way.call.args.digest, observed, is_ok, is_write)


def _served_of(call: PendingCall, asked: Asked, cut: Cut) -> Served:
    if asked.is_cut:
        return replace(cut.timed_out(call.name), served_how=ServedHow.LIVE)
    if asked.error is not None:
        return Served.of_error(asked.error, how=ServedHow.LIVE, latency_ms=asked.latency_ms)
    return Served.of_value(asked.value, how=ServedHow.LIVE, latency_ms=asked.latency_ms)
