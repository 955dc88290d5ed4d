"""Answers a candidate's tool calls from a cassette; nothing runs live.

No observation is served that the recorded world could not have given in the
current state. Everything else is a miss that says what is missing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from flightlog.replay.cassette import Cassette, RecordedCall
from flightlog.replay.matching import Answer, CallKey, KeyWalk, ToolRule, stored_key
from flightlog.replay.wording import describe_difference
from flightlog.replay.write_through import WriteThrough
from flightlog.runtime.calls import PendingCall, Served
from flightlog.runtime.tools import is_async
from flightlog.trace.canonical import CanonicalArgs, canonical_json
from flightlog.trace.vocab import Effect, Outcome, ServedHow

ERROR_TYPE_MISS: Final = "ReplayMiss"


@dataclass(frozen=True, slots=True)
class Miss:
    """A call that no recording answers.

    Attributes:
        step: turn of the loop, from 1.
        tool_name: the tool.
        args: canonical arguments.
        why: the difference to the nearest recorded call, one sentence.
    """

    step: int
    tool_name: str
    args: str
    why: str


class StateAwareExecutor:
    """Serves one candidate run; make a new one for each run.

    Args:
        cassette: the accepted recordings, indexed.
        golden: name of the golden task, for messages.
        accept_hint: command that would accept what a miss reports; {golden} is filled in.

    Attributes:
        cassette: what it answers from.
        served: calls answered, by how.
        misses: calls that nothing answered.
        live_tool_calls: always 0; reported so that nobody has to take it on trust.
    """

    def __init__(self, cassette: Cassette, *, golden: str, accept_hint: str = "") -> None:
        self.served: Counter[ServedHow] = Counter()
        self.misses: list[Miss] = []
        self.live_tool_calls = 0
        self.cassette = cassette
        self._golden = golden
        self._accept_hint = accept_hint.format(golden=golden)
        self._walk = KeyWalk()
        self._times_asked: Counter[str] = Counter()
        self._derived: dict[str, Served] = {}

    @property
    def calls(self) -> int:
        """Calls that reached the executor: served ones and misses."""
        return self.served.total() + len(self.misses)

    def resolve(self, call: PendingCall) -> Served:
        """The answer to one call, in the order the candidate makes them; never None."""
        rule = self.cassette.rules[call.request.name]
        if rule.effect is Effect.PURE or not self._is_declared(rule.name):
            executed = self._execute(call)
            if executed is not None:
                self.served[ServedHow.PURE] += 1
                return executed
        args = _args_of(rule, call)
        found = self._walk.key_of(rule, args)
        recorded = self._find(rule, found)
        if recorded is None:
            derived = self._derived.get(found.key or "")
            if derived is not None and not rule.changes_state:
                self.served[ServedHow.DERIVED] += 1
                return derived
            return self._miss(call, rule, args, found)
        latency_ms = self._latency_ms(recorded)
        if _is_cut(call, latency_ms):
            # The gateway will cut this call, so nobody knows whether the write happened.
            self._walk.happened(rule, args, Served(Outcome.TIMED_OUT))
        else:
            self._happened(rule, args, recorded, recorded.run_id)
        self.served[ServedHow.RECORDED] += 1
        is_failure = recorded.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
        return Served(
            outcome=recorded.outcome,
            result=recorded.result,
            error=recorded.error,
            error_type=recorded.call.error_type,
            latency_ms=latency_ms,
            served_how=ServedHow.RECORDED,
            served_from=recorded.run_id,
            state_key=stored_key(found.key),
            is_final=is_failure and not self._may_go_on(rule, args, found),
        )

    def _happened(
        self, rule: ToolRule, args: CanonicalArgs, answer: Answer, source: str | None
    ) -> None:
        """Moves the state on; a write that worked leaves answers for the reads that it names."""
        if not rule.write_through or answer.outcome is not Outcome.OK:
            self._walk.happened(rule, args, answer)
            return
        reads = [self._read_after(one, args, answer.result) for one in rule.write_through]
        before = [read and self._walk.key_of(*read).key for read in reads]
        self._walk.happened(rule, args, answer)
        for one, read, old in zip(rule.write_through, reads, before, strict=True):
            text = one.answer_after(answer.result)
            key = self._walk.key_of(*read).key if read else None
            # A write that does not touch what the read reads says nothing about it.
            if key is None or key == old or text is None:
                continue
            self._derived[key] = Served(
                Outcome.OK,
                text,
                latency_ms=self.cassette.median_latency_ms(one.tool_name),
                served_how=ServedHow.DERIVED,
                served_from=source,
                state_key=stored_key(key),
            )

    def _read_after(
        self, one: WriteThrough, args: CanonicalArgs, result: str | None
    ) -> tuple[ToolRule, CanonicalArgs] | None:
        read = self.cassette.rules[one.tool_name]
        values = one.args_after(args, result)
        if values is None or read.effect is not Effect.READ or read.changes_state:
            return None
        return read, read.args_of(canonical_json(values))

    def _may_go_on(self, rule: ToolRule, args: CanonicalArgs, found: CallKey) -> bool:
        """False where another try of a failed call would find no answer that is recorded for it.

        It would fail again, or be a miss, only because the recorded run did not try again. A
        write of unknown outcome is left to become a miss: its state is not known any more.
        """
        if not rule.changes_state:
            key = found.key or ""
            return len(self.cassette.find(key)) > self._times_asked[key]
        following = self._walk.key_of(rule, args).key
        return following is None or bool(self.cassette.find(following))

    def _is_declared(self, name: str) -> bool:
        return name in self.cassette.rules.declared

    def _find(self, rule: ToolRule, found: CallKey) -> RecordedCall | None:
        if found.key is None:
            return None
        answers = self.cassette.find(found.key)
        if not answers:
            return None
        # A read that failed and then worked in one state does so again, in that order.
        turn = 0 if rule.changes_state else self._times_asked[found.key]
        self._times_asked[found.key] += 1
        return answers[min(turn, len(answers) - 1)]

    def _latency_ms(self, recorded: RecordedCall) -> float:
        known = recorded.call.latency_ms
        return self.cassette.median_latency_ms(recorded.tool_name) if known is None else known

    def _execute(self, call: PendingCall) -> Served | None:
        """Runs a pure tool's function; None when it is not pure or cannot be run here."""
        tool = call.tool
        if tool is None or tool.fn is None or tool.effect is not Effect.PURE or is_async(tool.fn):
            return None
        latency_ms = self.cassette.median_latency_ms(tool.name)
        try:
            value = tool.fn(**call.values())
        except (Exception, SystemExit) as error:  # as live, where a worker catches the exit
            return Served.of_error(error, how=ServedHow.PURE, latency_ms=latency_ms)
        return Served.of_value(value, how=ServedHow.PURE, latency_ms=latency_ms)

    def _miss(
        self, call: PendingCall, rule: ToolRule, args: CanonicalArgs, found: CallKey
    ) -> Served:
        why = describe_difference(rule, args, found, self.cassette.calls_of(rule.name))
        self.misses.append(Miss(call.step, rule.name, args.text, why))
        # A run may be told to go on after a miss: what a missed write did is unknown.
        self._walk.happened(rule, args, Served(Outcome.TIMED_OUT))
        hint = f" {self._accept_hint}" if self._accept_hint else ""
        return Served(
            outcome=Outcome.REPLAY_MISS,
            error=(
                f"tool call {rule.name!r} has no match at step {call.step} of golden task "
                f"{self._golden!r}: {why}.{hint}"
            ),
            error_type=ERROR_TYPE_MISS,
            state_key=stored_key(found.key),
        )


def _args_of(rule: ToolRule, call: PendingCall) -> CanonicalArgs:
    """The arguments under the golden's declaration; mostly the candidate's is the same one."""
    tool = call.tool
    if tool and tool.volatile == rule.volatile and tool.input_schema == rule.schema:
        return rule.recorded(call.args)
    return rule.args_of(call.request.arguments)


def _is_cut(call: PendingCall, latency_ms: float) -> bool:
    timeout_s = call.tool.timeout_s if call.tool else None
    return timeout_s is not None and latency_ms > timeout_s * 1000
