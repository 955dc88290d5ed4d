"""The gateway: every tool call passes here, and default is deny."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flightlog.runtime.asks import Ask, real_cut_ms
from flightlog.runtime.calls import (
    Admission,
    PendingCall,
    Refusal,
    Served,
    Settled,
    ToolExecutor,
)
from flightlog.runtime.checks import CHECKS, Check, check_kill_switch, degrade, record_transition
from flightlog.runtime.gate import Gate, place_of
from flightlog.runtime.injected import KEY_PARAMETER, Injected, injected_by
from flightlog.runtime.policy import approve_all, chosen
from flightlog.runtime.repeats import may_try_again
from flightlog.runtime.retry import IS_TRIED_AGAIN, RetryPolicy
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import is_async
from flightlog.trace.canonical import clean_text
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Outcome, StopReason

__all__ = [
    "Admission",
    "CallRefusedError",
    "Cut",
    "Gateway",
    "PendingCall",
    "Refusal",
    "Served",
    "Settled",
    "ToolExecutor",
]

_NO_FUNCTION = Refusal(
    Outcome.FAILED, "no_function", "the tool has no function here and no recording answered"
)
_NO_INTENT = Refusal(
    Outcome.FAILED,
    "recorder_failed",
    "the intent of this write could not be made durable, so it was not called",
    stop_reason=StopReason.RECORDER_FAILED,
    stops=True,
)
_CHECKED_OUTCOMES = (Outcome.OK, Outcome.INVALID_OUTPUT)
_BREAKER_FAILURES = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INVALID_OUTPUT)


class CallRefusedError(Exception):
    """Raised in the place of a tool's function when its call was forbidden at the last moment."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Cut:
    """When a running call is cut.

    Attributes:
        after_ms: milliseconds after its start; None is never.
        is_deadline: the run's deadline comes before the tool's own limits.
        whose: the limit that cuts.
    """

    after_ms: float | None
    is_deadline: bool
    whose: str = "timeout_s"

    def timed_out(self, tool: str) -> Served:
        """What a cut call comes to."""
        seconds = (self.after_ms or 0.0) / 1000
        return Served(
            Outcome.TIMED_OUT,
            error=f"tool {tool!r} did not answer within {seconds:.3f} s ({self.whose})",
            error_type="deadline" if self.is_deadline else "timeout",
            latency_ms=self.after_ms,
        )


NO_CUT = Cut(None, is_deadline=False)


class Gateway:
    """Admits or refuses the calls of one run, and checks what comes of them.

    Args:
        gate: policy, ledger, tools and writer of the run.
        executor: answers in the place of the tools' functions; None calls them.
        checks: the checks in their order.
    """

    def __init__(
        self, gate: Gate, *, executor: ToolExecutor | None = None, checks: Sequence[Check] = CHECKS
    ) -> None:
        self._gate = gate
        self._executor = executor
        self._checks = tuple(checks)

    def pending(self, request: ToolRequest, *, step: int, call_ix: int) -> PendingCall:
        """The call that a model asked for."""
        tool = self._gate.tools.get(request.name)
        call = PendingCall.of(request, tool, step=step, call_ix=call_ix, inject=self.injected)
        key = self._gate.memory.key_of(call)
        return call if key is None else replace(call, key=key)

    def may_block(self, call: PendingCall) -> bool:
        """True when `admit` may wait for an approver, for a disk or for other processes."""
        policy = self._gate.policy
        if policy.breakers or self._gate.tenant_budget is not None:
            return True
        is_asking = policy.require_approval and policy.approver not in (None, approve_all)
        is_live = self._executor is None or (call.tool is not None and call.tool.fn is not None)
        return call.effect.is_write and (is_asking or is_live)

    def admit(self, call: PendingCall) -> Admission:
        """Runs the checks, then has the call served; a live write leaves a durable intent."""
        refusal, served = None, None
        for check in self._checks:
            if refusal := check(call, self._gate):
                break
        else:
            served = self._executor.resolve(call) if self._executor is not None else None
            refusal = self._unserved(call) if served is None else None
        if refusal or (served and served.outcome.is_refusal):
            self.unmade(call)
        return Admission(call, refusal=refusal, served=served)

    def unmade(self, call: PendingCall) -> None:
        """Takes back what the checks did for a call that is not made; the attempt stays spent."""
        gate, place = self._gate, place_of(call)
        gate.memory.forget(call)
        reserved = gate.reserved.pop(place, None)
        if reserved is not None:
            gate.ledger.refund_cost(call.name, reserved.cost_usd)
            if reserved.of_tenant is not None and gate.tenant_budget is not None:
                gate.tenant_budget.refund_cost(reserved.of_tenant)
        self._release(place)

    def abandon(self) -> None:
        """Gives back the probes of calls that nobody waits for any more: the run is over."""
        for place in list(self._gate.admitted):
            self._release(place)

    def _release(self, place: tuple[int, int]) -> None:
        tool, got = self._gate.admitted.pop(place, ("", None))
        if got is not None:
            breakers = self._gate.control.breakers
            breakers.release(tool, is_probe=got.is_probe, probe_id=got.probe_id)

    def _unserved(self, call: PendingCall) -> Refusal | None:
        """Why a call that passed the checks can not be executed; a write leaves its intent."""
        if call.tool is None or call.tool.fn is None:
            return _NO_FUNCTION
        return _NO_INTENT if call.effect.is_write and not self._intend(call) else None

    def ask_of(self, call: PendingCall, cut: Cut) -> Ask:
        """The call of the tool's function, with what the gateway adds to the arguments."""
        tool = call.tool
        assert tool is not None
        assert tool.fn is not None
        kwargs = {**call.values(), **self.injected(call, tool.fn, cut)}
        cut_ms = real_cut_ms(self._gate.clock, cut.after_ms)
        return Ask(self._guarded(call, tool.fn), kwargs=kwargs, cut_ms=cut_ms)

    def injected(
        self, call: PendingCall, fn: Callable[..., Any], cut: Cut = NO_CUT
    ) -> dict[str, Any]:
        """What the gateway adds to the arguments: the context and the key, where `fn` asks."""
        tool = call.tool
        if tool is not None and fn is tool.fn:
            asked = Injected(tool.context_parameter, tool.takes_key)
        else:  # a fixture, a stub or a live function in its place
            asked = injected_by(fn)
        added: dict[str, Any] = {}
        if asked.context is not None:
            added[asked.context] = self._context(call, cut)
        if asked.takes_key:
            added[KEY_PARAMETER] = call.key
        return added

    def _context(self, call: PendingCall, cut: Cut) -> ToolContext:
        gate, tool = self._gate, call.tool
        held = gate.agent.credentials
        run = "" if gate.clock.is_virtual else gate.writer.run_id
        ends_ms = None if cut.after_ms is None else gate.ledger.elapsed_ms() + cut.after_ms

        def remaining_s() -> float | None:
            return None if ends_ms is None else max(0.0, ends_ms - gate.ledger.elapsed_ms()) / 1000

        return ToolContext(
            run_id=gate.writer.run_id,
            tool=call.name,
            step=call.step,
            attempt=call.attempt,
            tenant=gate.context.tenant,
            idempotency_key=call.key,
            credentials=held.for_tool(gate.context.tenant, tool.name, tool.credentials)
            if held and tool
            else {},
            remaining_s=remaining_s,
            cancelled=gate.cancelled,
            clock=gate.clock,
            seed=f"{run}:{call.step}:{call.call_ix}:{call.attempt}",
        )

    def _guarded(self, call: PendingCall, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function behind a last look at run and kill switch, just before it is called."""
        retry = self.retry_of(call)
        is_retried = retry is not None and retry.max_attempts > 1

        def look() -> None:
            self._gate.check_over()
            if refusal := check_kill_switch(call, self._gate):
                raise CallRefusedError(refusal)
            if is_retried:
                IS_TRIED_AGAIN.set(True)

        if is_async(fn):

            async def call_async(**kwargs: Any) -> Any:
                look()
                return await fn(**kwargs)

            return call_async

        def call_sync(**kwargs: Any) -> Any:
            before = IS_TRIED_AGAIN.get()
            look()
            try:
                return fn(**kwargs)
            finally:
                if is_retried:
                    IS_TRIED_AGAIN.set(before)

        return call_sync

    def retry_of(self, call: PendingCall) -> RetryPolicy | None:
        """The retry policy of a call; None where it is not tried again."""
        policy = chosen(self._gate.policy.retries, call.name)
        if policy is None or IS_TRIED_AGAIN.get() or not may_try_again(call):
            return None
        return policy

    def is_killed(self, call: PendingCall) -> bool:
        """True while the kill switch forbids the call."""
        return check_kill_switch(call, self._gate) is not None

    def end(self, call: PendingCall, settled: Settled) -> None:
        """Tells breaker and budgets how an attempt ended."""
        gate, outcome, place = self._gate, settled.served.outcome, place_of(call)
        gate.reserved.pop(place, None)
        gate.ledger.book_time(call.name, settled.served.latency_ms)
        _, got = gate.admitted.pop(place, ("", None))
        policy = chosen(gate.policy.breakers, call.name)
        if got is None or policy is None:
            return
        probe: dict[str, Any] = {"is_probe": got.is_probe, "probe_id": got.probe_id}
        if settled.hit_deadline or outcome.is_refusal:
            gate.control.breakers.release(call.name, **probe)
            return
        failed = outcome in _BREAKER_FAILURES
        change = gate.control.breakers.report(
            call.name, policy, gate.now_s(), failed=failed, **probe
        )
        if change is not None:
            record_transition(change, gate, call.step)
            if change.state_to == "open":
                degrade(call.name, gate, call.step)
            elif change.state_to == "closed":
                gate.mode.restore(call.name, step=call.step, why=change.detail)

    def close(self, call: PendingCall, settled: Settled) -> None:
        """Remembers what a call came to; no further try of it follows."""
        self._gate.memory.end(call, settled)

    def scrubbed(self, served: Served) -> Served:
        """The observation without any value of the run's credentials."""
        scrubber = self._gate.scrubber
        if scrubber is None or (served.result is None and served.error is None):
            return served
        return replace(
            served,
            result=None if served.result is None else scrubber.clean(served.result),
            error=None if served.error is None else scrubber.clean(served.error),
        )

    def cut_of(self, call: PendingCall) -> Cut:
        """When the call is cut if it starts now."""
        ledger = self._gate.ledger
        remaining = ledger.remaining_ms()
        cut = Cut(remaining, is_deadline=remaining is not None, whose="the run's deadline")
        timeout_s = call.tool.timeout_s if call.tool else None
        own = ledger.remaining_ms_of(call.name, chosen(self._gate.policy.tool_budgets, call.name))
        timeout_ms = None if timeout_s is None else timeout_s * 1000
        for limit_ms, whose in ((timeout_ms, "timeout_s"), (own, "the tool's max_seconds")):
            if limit_ms is not None and (cut.after_ms is None or limit_ms < cut.after_ms):
                cut = Cut(limit_ms, is_deadline=False, whose=whose)
        return cut

    def settle(self, call: PendingCall, served: Served, cut: Cut) -> Settled:
        """Cuts what took too long and checks size and schema of the observation."""
        late = cut.after_ms is not None and (served.latency_ms or 0.0) > cut.after_ms
        if late and (cut.is_deadline or served.outcome is not Outcome.TIMED_OUT):
            timed_out = cut.timed_out(call.request.name)
            timed_out = replace(
                timed_out,
                served_how=served.served_how,
                served_from=served.served_from,
                state_key=served.state_key,
            )
            return Settled(timed_out, hit_deadline=cut.is_deadline)
        if served.result is None or served.outcome not in _CHECKED_OUTCOMES:
            return Settled(served)
        limit = self._gate.policy.max_result_bytes
        size = len(served.result.encode("utf-8", "surrogatepass"))
        if limit is not None and size > limit:  # not kept either: nobody asked for that much
            error = f"the result has {size} bytes, above max_result_bytes={limit}"
            return Settled(replace(_invalid(served, error), result=None))
        check = call.tool.output_check if call.tool else None
        if check and (problem := check.problem_of_text(served.result)):
            return Settled(_invalid(served, problem))
        if served.outcome is Outcome.OK:
            return Settled(served)
        return Settled(replace(served, outcome=Outcome.OK, error=None, error_type=None))

    def _intend(self, call: PendingCall) -> bool:
        return self._gate.writer.tool_intent(
            step=call.step,
            call_ix=call.call_ix,
            # As in the outcome, which is found by them.
            tool_name=clean_text(call.name),
            tool_call_id=clean_text(call.request.id),
            effect=call.effect,
            args=call.args.text,
            args_digest=call.args.digest,
            attempt=call.attempt,
            idempotency_key=call.key,
        )


def _invalid(served: Served, error: str) -> Served:
    return replace(served, outcome=Outcome.INVALID_OUTPUT, error=error, error_type="invalid_output")
