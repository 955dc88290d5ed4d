"""The gateway's checks, in order; the first refusal ends the way of a call.

Each is one function of the call and the gate. The places of later guards in
the order: kill switch first; credential scope after the input schema;
idempotency and circuit breaker after approval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flightlog.errors import nearest
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.calls import PendingCall, Refusal, error_text
from flightlog.runtime.policy import ApprovalRequest, Policy, approve_all
from flightlog.runtime.tools import Tool
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Outcome, StopReason


@dataclass(frozen=True, slots=True)
class Gate:
    """What the checks of one run share."""

    policy: Policy
    ledger: Ledger
    tools: Mapping[str, Tool]
    writer: RunWriter


Check = Callable[[PendingCall, Gate], Refusal | None]


def check_allowlist(call: PendingCall, gate: Gate) -> Refusal | None:
    """Denies a tool that does not exist or that the policy does not allow."""
    name = call.request.name
    if call.tool and gate.policy.allows(name):
        return None
    usable = [known for known in gate.tools if gate.policy.allows(known)]
    near = nearest(name, usable)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    if call.tool is None:
        return Refusal(Outcome.DENIED, "unknown_tool", f"there is no tool {name!r}{hint}")
    return Refusal(Outcome.DENIED, "tool_not_allowed", f"tool {name!r} is not allowed{hint}")


def check_budget(call: PendingCall, gate: Gate) -> Refusal | None:
    """Reserves one attempt; what is reserved stays spent."""
    reason = gate.ledger.reserve_tool_call(call.tool.cost_usd if call.tool else None)
    return budget_refusal(reason, gate) if reason else None


def check_input(call: PendingCall, gate: Gate) -> Refusal | None:
    """Refuses arguments that are not clean JSON or that the input schema rejects."""
    flag = call.args.flag
    if flag is not None:
        error = f"the arguments must be one JSON object: {flag.replace('_', ' ')}"
        return Refusal(Outcome.INVALID_INPUT, flag, error)
    problem = call.tool.input_check.problem_of(call.values()) if call.tool else None
    return Refusal(Outcome.INVALID_INPUT, "invalid_arguments", problem) if problem else None


def check_approval(call: PendingCall, gate: Gate) -> Refusal | None:
    """Asks the approver before a write; anything but a plain True is a no."""
    policy = gate.policy
    if not call.effect.is_write or not policy.require_approval or policy.approver is approve_all:
        return None
    if policy.approver is None:
        error = f"writes need approval and nobody is there to approve {call.request.name!r}"
        return Refusal(Outcome.APPROVAL_DENIED, "approval_denied", error)
    request = ApprovalRequest(
        gate.writer.run_id,
        call.step,
        call.request.name,
        call.effect,
        call.values(),
        call.args.digest,
    )
    why = ""
    try:
        is_approved = policy.approver(request) is True
    except Exception as error:  # the approver is foreign code, and its failure is a no
        is_approved, why = False, f": {type(error).__name__}: {error_text(error)}"
    gate.writer.state_changed(
        step=call.step,
        subject="approval",
        tool_name=call.request.name,
        state_from="asked",
        state_to="approved" if is_approved else "denied",
        detail=f"arguments {call.args.digest}{why}",
    )
    if is_approved:
        return None
    reason = f"the write {call.request.name!r} was not approved{why}"
    return Refusal(Outcome.APPROVAL_DENIED, "approval_denied", reason)


def check_deadline(call: PendingCall, gate: Gate) -> Refusal | None:
    """Looks at the clock again, since an approval may have taken its time."""
    reason = gate.ledger.deadline()
    return budget_refusal(reason, gate) if reason else None


def budget_refusal(reason: StopReason, gate: Gate) -> Refusal:
    """The refusal of a call that the budget does not allow."""
    return Refusal(Outcome.BUDGET, reason.value, gate.ledger.explain(reason), stop_reason=reason)


CHECKS: Final[tuple[Check, ...]] = (
    check_allowlist,
    check_budget,
    check_input,
    check_approval,
    check_deadline,
)
