"""Answers in the place of recordings, by miss policy: fixture, stub, typed error, live read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from flightlog.errors import NetworkRefusedError
from flightlog.replay.cassette import RecordedCall
from flightlog.replay.fixture import Fixture, call_now
from flightlog.replay.matching import CallKey, ToolRule, stored_key
from flightlog.replay.misses import MissPolicies, MissPolicy, StubCall
from flightlog.runtime.calls import PendingCall, Served
from flightlog.runtime.policy import chosen
from flightlog.trace.vocab import Effect, Outcome, ServedHow

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

ERROR_TYPE_MISS: Final = "ReplayMiss"
_REFUSED: Final = NetworkRefusedError.__name__


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that no recording answers.

    Attributes:
        rule: how its tool is keyed.
        found: its key.
        call: the call itself.
        is_initial: nothing that it reads was changed in this run.
        latency_ms: what its tool usually takes.
        neighbours: the nearest recorded calls.
    """

    rule: ToolRule
    found: CallKey
    call: PendingCall
    is_initial: bool
    latency_ms: float
    neighbours: tuple[RecordedCall, ...]


class Substitutes:
    """What may answer one run where its recordings do not.

    Attributes:
        policies: which of them answers what.
        live_tool_calls: functions that were really called live.
    """

    def __init__(self, policies: MissPolicies, *, redactor: Redactor | None = None) -> None:
        self.policies = policies
        self.live_tool_calls = 0
        self._live_answers: dict[str, Served] = {}
        self._fixture = (
            Fixture(policies.fixture, redactor=redactor) if policies.fixture is not None else None
        )

    def happened(self, call: PendingCall, answer: Served) -> None:
        """The run changed the world by a successful call; the fixture has to follow."""
        if self._fixture is not None and answer.served_how is not ServedHow.FIXTURE:
            self._fixture.happened(call, answer.result)

    def answer(self, asked: Asked) -> Served | str | None:
        """The answer to a missed call; else why its policy does not give one, or None for stop."""
        policy = self.policies.of(asked.rule)
        if policy is MissPolicy.STOP:
            return None
        ask = {
            MissPolicy.FIXTURE: self._of_fixture,
            MissPolicy.STUB: self._of_stub,
            MissPolicy.ERROR: self._error,
            MissPolicy.LIVE_READ: self._live,
        }[policy]
        answer = ask(asked)
        if isinstance(answer, Served):
            return replace(answer, state_key=stored_key(asked.found.key))
        return f"{policy} cannot answer it: {answer}"

    def _of_fixture(self, asked: Asked) -> Served | str:
        if self._fixture is None:
            return "no fixture is given"
        if asked.rule.effect is not Effect.READ and not self.policies.simulates_writes:
            return "it may be a write, and the fixture is not declared a full simulator"
        if asked.found.key is None:
            return "a write of unknown outcome touched what it reads"
        return self._fixture.answer(asked.call, asked.latency_ms)

    def _of_stub(self, asked: Asked) -> Served | str:
        stub = chosen(self.policies.stubs, asked.rule.name)
        if stub is None:
            return "no stub is given for it"
        call = StubCall(
            asked.rule.name, asked.call.values(), stored_key(asked.found.key), asked.neighbours
        )
        return call_now(partial(stub, call), {}, how=ServedHow.STUB, latency_ms=asked.latency_ms)

    def _error(self, asked: Asked) -> Served | str:
        return Served(
            Outcome.FAILED,
            error=f"no recording answers {asked.rule.name} with these arguments in this state",
            error_type=ERROR_TYPE_MISS,
            latency_ms=asked.latency_ms,
            served_how=ServedHow.ERROR,
            is_final=True,
        )

    def _live(self, asked: Asked) -> Served | str:
        rule = asked.rule
        function = chosen(self.policies.live, rule.name) or _own_function(asked.call)
        if rule.effect is not Effect.READ or rule.changes_state:
            return "only a read that changes nothing may be made live"
        if not self.policies.allow_live:
            return "live calls are not allowed (allow_live)"
        if function is None:
            return "no live function is given for it"
        if not asked.is_initial:
            return "this run has changed what it reads, so the real world is in another state"
        key = asked.found.key or ""
        if key not in self._live_answers:
            self.live_tool_calls += 1
            values = asked.call.values_for(function)
            made = call_now(function, values, how=ServedHow.LIVE_READ, latency_ms=asked.latency_ms)
            if made.error_type == _REFUSED:
                return f"the network refused it ({made.error})"
            self._live_answers[key] = made
        return self._live_answers[key]


def _own_function(call: PendingCall) -> Callable[..., Any] | None:
    return call.tool.fn if call.tool is not None else None
