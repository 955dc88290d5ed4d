"""The gateway's checks, in order; the first refusal ends the way of a call.

Each is one function of the call and the gate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flightlog.control.breaker_policy import Fallback
from flightlog.control.breakers import Transition
from flightlog.errors import nearest
from flightlog.runtime.calls import MAX_ERROR_CHARS, PendingCall, Refusal, named_error
from flightlog.runtime.gate import Gate, Reserved, kill_text, place_of
from flightlog.runtime.ledger import Shortage
from flightlog.runtime.policy import ApprovalRequest, Decision, approve_all, chosen
from flightlog.trace.canonical import clean_text
from flightlog.trace.vocab import Outcome, StopReason

Check = Callable[[PendingCall, Gate], Refusal | None]


def check_kill_switch(call: PendingCall, gate: Gate) -> Refusal | None:
    """Refuses what the kill switch forbids; it is read anew at each call."""
    rule = gate.kill_rule(call.name, is_write=call.effect.is_write, step=call.step)
    if rule is None:
        return None
    error = f"the kill switch is on: {kill_text(rule)}"
    stops = True if rule.text == "stop_all" else None
    return Refusal(Outcome.KILL_SWITCH, "kill_switch", error, stops=stops)


def check_allowlist(call: PendingCall, gate: Gate) -> Refusal | None:
    """Denies a tool that does not exist or that the policy does not allow."""
    name = call.name
    if call.tool and gate.policy.allows(name):
        return None
    usable = [known for known in gate.tools if gate.policy.allows(known)]
    near = nearest(name, usable)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    if call.tool is None:
        return Refusal(Outcome.DENIED, "unknown_tool", f"there is no tool {name!r}{hint}")
    return Refusal(Outcome.DENIED, "tool_not_allowed", f"tool {name!r} is not allowed{hint}")


def check_read_only(call: PendingCall, gate: Gate) -> Refusal | None:
    """Denies writes while the run is read-only; a stuck tool's breaker or a guard may ask that."""
    why = gate.mode.read_only_because
    if why is None or not call.effect.is_write:
        return None
    return Refusal(Outcome.DENIED, "read_only", f"the run is read-only: {why}", stops=False)


def check_budget(call: PendingCall, gate: Gate) -> Refusal | None:
    """Reserves one attempt of the run, the tool and the tenant; what is reserved stays spent."""
    cost_usd = call.tool.cost_usd if call.tool else None
    own = chosen(gate.policy.tool_budgets, call.name)
    if shortage := gate.ledger.reserve_tool_call(call.name, cost_usd, own):
        return _short(shortage)
    if gate.tenant_budget is None:
        gate.reserved[place_of(call)] = Reserved(cost_usd)
        return None
    got = gate.tenant_budget.reserve_tool_call(cost_usd)
    if isinstance(got, Shortage):
        gate.ledger.refund_cost(call.name, cost_usd)
        return _short(got)
    gate.reserved[place_of(call)] = Reserved(cost_usd, got)
    return None


def check_input(call: PendingCall, gate: Gate) -> Refusal | None:
    """Refuses arguments that are not clean JSON or that the input schema rejects."""
    flag = call.args.flag
    if flag is not None:
        error = f"the arguments must be one JSON object: {flag.replace('_', ' ')}"
        return Refusal(Outcome.INVALID_INPUT, flag, error)
    problem = call.tool.input_check.problem_of(call.values()) if call.tool else None
    return Refusal(Outcome.INVALID_INPUT, "invalid_arguments", problem) if problem else None


def check_credentials(call: PendingCall, gate: Gate) -> Refusal | None:
    """Denies a tool whose credentials its tenant does not have."""
    tool, tenant = call.tool, gate.context.tenant
    if tool is None or not tool.credentials:
        return None
    held = gate.agent.credentials
    if held is None and gate.is_replay:  # the tool is not called, so that it needs no secrets
        return None
    missing = held.missing(tenant, tool.name, tool.credentials) if held else tool.credentials
    if not missing:
        return None
    error = (
        f"tool {call.name!r} needs the credential {', '.join(map(repr, missing))}, which "
        f"tenant {tenant or 'without a name'!r} does not have for it"
    )
    return Refusal(Outcome.DENIED, "missing_credential", error)


def check_approval(call: PendingCall, gate: Gate) -> Refusal | None:
    """Asks the approver before a write; anything but a plain yes is a no."""
    policy = gate.policy
    if not call.effect.is_write or not policy.require_approval or policy.approver is approve_all:
        return None
    if gate.memory.is_approved(call):
        return None
    if policy.approver is None:
        error = f"writes need approval and nobody is there to approve {call.name!r}"
        return Refusal(Outcome.APPROVAL_DENIED, "approval_denied", error)
    decision, why = _ask(call, gate)
    gate.check_over()  # who answers a run that is over has answered nobody
    gate.writer.state_changed(
        step=call.step,
        subject="approval",
        tool_name=call.name,
        state_from="asked",
        state_to=decision.value,
        detail=f"arguments {_recorded_digest(call, gate)}{why}",
    )
    if decision is Decision.APPROVED:
        gate.memory.approve(call)
        return None
    if decision is Decision.PENDING:
        return Refusal(
            Outcome.APPROVAL_DENIED,
            "approval_pending",
            f"the write {call.name!r} waits for an approval that nobody has given yet{why}",
            stop_reason=StopReason.APPROVAL_PENDING,
            stops=True,
        )
    reason = f"the write {call.name!r} was not approved{why}"
    return Refusal(Outcome.APPROVAL_DENIED, "approval_denied", reason)


def _recorded_digest(call: PendingCall, gate: Gate) -> str:
    """The digest of the arguments as they are recorded: that of the raw ones gives them away."""
    if gate.redactor is None:
        return call.args.digest
    try:
        return gate.redactor.args(call.args).digest
    except Exception as error:
        return f"not recorded ({type(error).__name__})"


def _ask(call: PendingCall, gate: Gate) -> tuple[Decision, str]:
    approver = gate.policy.approver
    assert approver is not None
    told: list[str] = []
    args = call.values()
    if gate.scrubber is not None:  # a queue keeps them, and people read them
        args = gate.scrubber.clean_values(args)
    request = ApprovalRequest(
        gate.writer.run_id,
        call.step,
        call.name,
        call.effect,
        args,
        call.args.digest,
        agent=gate.agent.name,
        tenant=gate.context.tenant,
        task_id=gate.task.task_id,
        task_digest=gate.task.digest,
        idempotency_key=call.key,
        remaining_s=lambda: _seconds(gate.ledger.remaining_ms()),
        cancelled=gate.cancelled,
        explain=lambda text: told.append(clean_text(str(text))[:MAX_ERROR_CHARS]),
    )
    try:
        answer = approver(request)
    except Exception as error:  # the approver is foreign code, and its failure is a no
        return Decision.DENIED, f": {named_error(error)}"
    why = f": {'; '.join(told)}" if told else ""
    if answer is True:
        return Decision.APPROVED, why
    return (answer, why) if isinstance(answer, Decision) else (Decision.DENIED, why)


def check_repeat(call: PendingCall, gate: Gate) -> Refusal | None:
    """Answers a repeated write, or a read that may be, from the run's own earlier result."""
    refusal = gate.memory.repeated(call)
    if refusal is None:
        gate.memory.begin(call)
    return refusal


def check_breaker(call: PendingCall, gate: Gate) -> Refusal | None:
    """Refuses a tool whose circuit breaker is open, and degrades the run as declared."""
    policy = chosen(gate.policy.breakers, call.name)
    if policy is None or call.tool is None:
        return None
    got = gate.control.breakers.admit(call.name, policy, gate.now_s())
    if got.transition is not None:
        record_transition(got.transition, gate, call.step)
    if not got.is_open:
        gate.admitted[place_of(call)] = (call.name, got)
        return None
    degrade(call.name, gate, call.step)
    when = f"; it is tried again in {got.retry_in_s:.0f} s" if got.retry_in_s else ""
    return Refusal(
        Outcome.CIRCUIT_OPEN,
        "circuit_open",
        f"the circuit breaker of {call.name!r} is open after too many failures{when}",
        stops=True if policy.fallback is Fallback.STOP else None,
    )


def degrade(tool: str, gate: Gate, step: int) -> None:
    """Puts the run into the fallback that an open breaker of the tool asks for."""
    policy = chosen(gate.policy.breakers, tool)
    why = f"the circuit breaker of {tool!r} is open"
    if policy and policy.fallback is Fallback.WITHOUT_TOOL:
        gate.mode.drop_tool(tool, step=step, why=why)
    elif policy and policy.fallback is Fallback.READ_ONLY:
        gate.mode.drop_tool(tool, step=step, why=why)
        gate.mode.go_read_only(tool, step=step, why=why)


def record_transition(change: Transition, gate: Gate, step: int) -> None:
    """Writes the change of a breaker."""
    gate.writer.state_changed(
        step=step,
        subject="breaker",
        tool_name=change.tool,
        state_from=change.state_from,
        state_to=change.state_to,
        detail=change.detail,
        durable=False,
    )


def check_deadline(call: PendingCall, gate: Gate) -> Refusal | None:
    """Looks at the clock again, since an approval may have taken its time."""
    reason = gate.ledger.deadline()
    return _short(Shortage(reason, gate.ledger.explain(reason))) if reason else None


def _short(shortage: Shortage) -> Refusal:
    return Refusal(
        Outcome.BUDGET,
        shortage.reason.value,
        shortage.text,
        stop_reason=shortage.reason,
        stops=False if shortage.is_of_tool else None,
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


CHECKS: Final[tuple[Check, ...]] = (
    check_kill_switch,
    check_allowlist,
    check_read_only,
    check_budget,
    check_input,
    check_credentials,
    check_approval,
    check_repeat,
    check_breaker,
    check_deadline,
)
