"""What the guardrails of one run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flightlog.control.breakers import Admittance
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillRule
from flightlog.control.windows import Reservation
from flightlog.runtime.agent import Agent
from flightlog.runtime.calls import PendingCall
from flightlog.runtime.cancel import CancelToken, RunCancelledError
from flightlog.runtime.credentials import Scrubber
from flightlog.runtime.degrade import RunMode
from flightlog.runtime.ledger import Ledger
from flightlog.runtime.policy import Policy
from flightlog.runtime.repeats import CallMemory
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tenant import TenantBudget
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import Clock
from flightlog.trace.run_writer import RunWriter

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor


@dataclass(frozen=True, slots=True)
class Reserved:
    """What one call reserved beside its attempt."""

    cost_usd: float | None
    of_tenant: Reservation | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What the checks of one run share.

    Attributes:
        control: what this run shares with others: kill switch, breakers, windows.
        is_replay: recordings answer in the place of the tools' functions.
        tenant_budget: None where the policy sets none for the run's tenant.
        scrubber: None where the agent holds no credentials.
        redactor: of the recorder; None where it records everything, or nothing.
        cancelled: set once the run is over or cancelled.
        reserved: what admitted calls reserved, by place.
        admitted: tool and admittance of calls that a breaker waits to hear of, by place.
        seen_rules: rules of the kill switch that the trace names already.
    """

    agent: Agent
    task: Task
    context: RunContext
    policy: Policy
    ledger: Ledger
    writer: RunWriter
    clock: Clock
    control: Control
    memory: CallMemory
    mode: RunMode
    cancelled: CancelToken
    is_replay: bool = False
    tenant_budget: TenantBudget | None = None
    scrubber: Scrubber | None = None
    redactor: Redactor | None = None
    reserved: dict[tuple[int, int], Reserved] = field(default_factory=dict)
    admitted: dict[tuple[int, int], tuple[str, Admittance]] = field(default_factory=dict)
    seen_rules: set[KillRule] = field(default_factory=set)

    def check_over(self) -> None:
        """Raises in a worker thread that goes on with a call after its run was cancelled."""
        if self.cancelled.is_cancelled:
            raise RunCancelledError

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The agent's tools by name."""
        return self.agent.tools_by_name

    def now_s(self) -> float:
        """Wall time in seconds, as the shared state counts it."""
        return self.clock.wall_us() / 1e6

    def kill_rule(self, tool: str | None, *, is_write: bool, step: int) -> KillRule | None:
        """The rule of the kill switch that forbids a call; None while there is none.

        Args:
            tool: None asks for a model call.
        """
        rule = self.control.kill_switch.rule_for(
            tenant=self.context.tenant,
            tool=tool,
            is_write=is_write,
            configured=self.policy.kill_mode,
        )
        if rule is not None and rule not in self.seen_rules:
            self.seen_rules.add(rule)
            self.writer.state_changed(
                step=step,
                subject="kill_switch",
                tool_name=tool,
                state_from="off",
                state_to=rule.text,
                detail=kill_text(rule),
            )
        return rule


def place_of(call: PendingCall) -> tuple[int, int]:
    """The place of a call within its run."""
    return (call.step, call.call_ix)


def kill_text(rule: KillRule) -> str:
    """Who switched what off, and why."""
    scope = f" for tenant {rule.tenant!r}" if rule.tenant is not None else ""
    why = f": {rule.why}" if rule.why else ""
    return f"{rule.text}{scope}, by {rule.who}{why}"
