"""The gateway: every tool call passes here, and default is deny."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flightlog.runtime.calls import (
    Admission,
    PendingCall,
    Refusal,
    Served,
    Settled,
    ToolExecutor,
)
from flightlog.runtime.checks import CHECKS, Check, Gate, check_budget
from flightlog.runtime.policy import approve_all
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Outcome, StopReason

__all__ = [
    "Admission",
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
    must_stop=True,
)
_CHECKED_OUTCOMES = (Outcome.OK, Outcome.INVALID_OUTPUT)


@dataclass(frozen=True, slots=True)
class Cut:
    """When a running call is cut.

    Attributes:
        after_ms: milliseconds after its start; None is never.
        is_deadline: the run's deadline comes before the tool's own timeout.
    """

    after_ms: float | None
    is_deadline: bool

    def timed_out(self, tool: str) -> Served:
        """What a cut call comes to."""
        seconds = (self.after_ms or 0.0) / 1000
        whose = "the run's deadline" if self.is_deadline else "timeout_s"
        return Served(
            Outcome.TIMED_OUT,
            error=f"tool {tool!r} did not answer within {seconds:.3f} s ({whose})",
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
        return PendingCall.of(
            request, self._gate.tools.get(request.name), step=step, call_ix=call_ix
        )

    def may_block(self, call: PendingCall) -> bool:
        """True when `admit` may wait for an approver or for a disk."""
        policy = self._gate.policy
        is_asking = policy.require_approval and policy.approver not in (None, approve_all)
        return call.effect.is_write and (is_asking or self._executor is None)

    def admit(self, call: PendingCall) -> Admission:
        """Runs the checks, then has the call served; a live write leaves a durable intent."""
        is_reserved, refusal, served = False, None, None
        for check in self._checks:
            if refusal := check(call, self._gate):
                break
            is_reserved = is_reserved or check is check_budget
        else:
            served = self._executor.resolve(call) if self._executor is not None else None
            refusal = self._unserved(call) if served is None else None
        is_unmade = refusal or (served and served.outcome.is_refusal)
        if is_unmade and is_reserved and call.tool:
            self._gate.ledger.refund_cost(call.tool.cost_usd)
        return Admission(call, refusal=refusal, served=served)

    def _unserved(self, call: PendingCall) -> Refusal | None:
        """Why a call that passed the checks can not be executed; a write leaves its intent."""
        if call.tool is None or call.tool.fn is None:
            return _NO_FUNCTION
        return _NO_INTENT if call.effect.is_write and not self._intend(call) else None

    def cut_of(self, call: PendingCall) -> Cut:
        """When the call is cut if it starts now."""
        remaining = self._gate.ledger.remaining_ms()
        timeout_s = call.tool.timeout_s if call.tool else None
        if timeout_s is not None and (remaining is None or timeout_s * 1000 < remaining):
            return Cut(timeout_s * 1000, is_deadline=False)
        return Cut(remaining, is_deadline=remaining is not None)

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
            tool_name=call.request.name,
            tool_call_id=call.request.id,
            effect=call.effect,
            args=call.args.text,
            args_digest=call.args.digest,
        )


def _invalid(served: Served, error: str) -> Served:
    return replace(served, outcome=Outcome.INVALID_OUTPUT, error=error, error_type="invalid_output")
