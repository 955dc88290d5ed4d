"""Calls of tools that somebody else makes: admitted by allowlist, kill switch and budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flightlog.runtime.bounds import Bounds
from flightlog.runtime.gate import kill_text
from flightlog.runtime.policy import chosen
from flightlog.runtime.tool_turn import Stop
from flightlog.trace.vocab import Outcome, ServedHow, StopReason


@dataclass(frozen=True, slots=True)
class ForeignCall:
    """A call that somebody else makes.

    Attributes:
        name: of the tool.
        ident: the provider's id of the call.
        args: as they were given.
        step: of the run.
        call_ix: place within the step, from 0.
    """

    name: str
    ident: str | None
    args: Any
    step: int
    call_ix: int


@dataclass(frozen=True, slots=True)
class ForeignEnd:
    """What came of such a call.

    Attributes:
        result: what the tool gave.
        error: what went wrong; None where it went well.
        latency_ms: None where it is not known.
    """

    result: Any = None
    error: str | None = None
    latency_ms: float | None = None


class ForeignCalls:
    """Admits and records the calls of one run; for one thread at a time."""

    def __init__(self, bounds: Bounds) -> None:
        self._gate = bounds.gate
        self._ledger = bounds.ledger

    def refuse(self, call: ForeignCall) -> tuple[str, Stop | None] | None:
        """Why a call may not be made, which is recorded, and the stop of the run, if it is one."""
        gate, step = self._gate, call.step
        if not gate.policy.allows(call.name):
            why = f"tool {call.name!r} is not allowed"
            return self._refused(call, Outcome.DENIED, why)
        if rule := gate.kill_rule(call.name, is_write=True, step=step):
            why = f"the kill switch is on: {kill_text(rule)}"
            stop = Stop(StopReason.KILL_SWITCH, detail=why) if rule.text == "stop_all" else None
            return self._refused(call, Outcome.KILL_SWITCH, why, stop)
        own = chosen(gate.policy.tool_budgets, call.name)
        shortage = self._ledger.reserve_tool_call(call.name, own=own)
        if shortage is None:
            return None
        stop = None if shortage.is_of_tool else Stop(shortage.reason, detail=shortage.text)
        return self._refused(call, Outcome.BUDGET, shortage.text, stop)

    def end(self, call: ForeignCall, end: ForeignEnd) -> None:
        """Records what came of an admitted call."""
        self._ledger.book_time(call.name, end.latency_ms)
        if end.error is not None:
            self._ledger.book_failure(call.name)
        self._write(
            call,
            result=end.result,
            outcome=Outcome.OK if end.error is None else Outcome.FAILED,
            error=end.error,
            latency_ms=end.latency_ms,
            served_how=ServedHow.LIVE,
        )

    def _refused(
        self, call: ForeignCall, outcome: Outcome, why: str, stop: Stop | None = None
    ) -> tuple[str, Stop | None]:
        self._write(call, outcome=outcome, error=why, error_type=str(outcome))
        return why, stop

    def _write(self, call: ForeignCall, **fields: Any) -> None:
        self._gate.writer.tool_call(
            step=call.step,
            call_ix=call.call_ix,
            tool_name=call.name,
            tool_call_id=call.ident,
            args=call.args,
            **fields,
        )
