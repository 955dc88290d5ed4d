"""Answers a candidate's tool calls from a cassette; nothing runs live that was not asked for.

No observation is served that the recorded world could not have given in the
current state. Everything else is a miss that says what is missing, and what a
miss policy gives in its place is named as such.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from threading import RLock
from typing import Final

from flightlog.replay.attempts import Attempts
from flightlog.replay.cassette import Cassette, RecordedCall
from flightlog.replay.fixture import call_now
from flightlog.replay.matchers import Match, walk_of
from flightlog.replay.matching import CallKey, ToolRule, stored_key
from flightlog.replay.misses import MissPolicies, MissPolicy
from flightlog.replay.substitutes import ERROR_TYPE_MISS, Asked, Substitutes
from flightlog.replay.wording import Nearest, describe_difference, nearest_calls, nearest_of
from flightlog.replay.write_through import WriteThrough
from flightlog.runtime.calls import PendingCall, Served
from flightlog.trace.canonical import CanonicalArgs, canonical_json
from flightlog.trace.vocab import Effect, Outcome, ServedHow

_STOP: Final = MissPolicies()


@dataclass(frozen=True, slots=True)
class Miss:
    """A call that no recording answers.

    Attributes:
        step: turn of the loop, from 1.
        tool_name: the tool.
        args: canonical arguments.
        why: the difference to the nearest recorded call, one sentence.
        key: its key, with the version of the canonical form; None where the state is unknown.
        nearest: the most similar recorded calls and how the arguments differ, nearest first.
        policy: what was done about it: `error` went on with a typed error, all else stopped.
        accept: what would accept the call; empty where nothing was given.
    """

    step: int
    tool_name: str
    args: str
    why: str
    key: str | None = None
    nearest: tuple[Nearest, ...] = ()
    policy: MissPolicy = MissPolicy.STOP
    accept: str = ""


class StateAwareExecutor:
    """Serves one candidate run; make a new one for each run.

    Args:
        cassette: the accepted recordings, indexed.
        golden: name of the golden task, for messages.
        accept_hint: command that would accept what a miss reports; {golden} is filled in.
        misses: what happens to a call that no recording answers.
        attempts: whether the tries of a recorded call are served one by one, or its final
            outcome at once.

    Attributes:
        cassette: what it answers from.
        match: how calls are found, for every report to say.
        served: calls answered, by how.
        misses: calls that nothing answered.
        tainted_from: step from which on the run went on after a typed error of a miss.
        is_replay: runs that begin inside this one are answered here too.
    """

    is_replay = True

    def __init__(
        self,
        cassette: Cassette,
        *,
        golden: str,
        accept_hint: str = "",
        misses: MissPolicies = _STOP,
        attempts: Attempts = Attempts.FAITHFUL,
    ) -> None:
        self.served: Counter[ServedHow] = Counter()
        self.misses: list[Miss] = []
        self.tainted_from: int | None = None
        self.cassette = cassette
        self.match = cassette.match
        self.attempts = Attempts(attempts)
        self._answers = cassette if attempts == Attempts.FAITHFUL else cassette.collapsed
        self._golden = golden
        self._accept_hint = accept_hint.format(golden=golden)
        self._walk = walk_of(cassette.match)
        self._times_asked: Counter[str] = Counter()
        self._derived: dict[str, Served] = {}
        self._substitutes = Substitutes(misses, redactor=cassette.rules.redactor)
        self._lock = RLock()

    @property
    def calls(self) -> int:
        """Calls that reached the executor: served ones and misses."""
        return self.served.total() + len(self.misses)

    @property
    def live_tool_calls(self) -> int:
        """Functions that were really called live; 0 unless a policy asked for it by name."""
        return self._substitutes.live_tool_calls

    def resolve(self, call: PendingCall) -> Served:
        """The answer to one call, in the order the candidate makes them; never None."""
        rule = self.cassette.rules[call.request.name]
        if rule.effect is Effect.PURE or not self._is_declared(rule.name):
            executed = self._execute(call)
            if executed is not None:
                with self._lock:
                    if self.match is not Match.STATE:  # order and count are part of their keys
                        self._walk.happened(rule, _args_of(rule, call), executed)
                    self.served[ServedHow.PURE] += 1
                return executed
        with self._lock:
            return self._resolve(call, rule)

    def _resolve(self, call: PendingCall, rule: ToolRule) -> Served:
        args = _args_of(rule, call)
        is_retry = call.attempt > 1
        found = self._walk.key_of(rule, args, is_retry=is_retry)
        recorded = self._find(rule, found)
        if recorded is None:
            derived = self._derived.get(found.key or "")
            if derived is None or rule.changes_state:
                return self._missed(call, rule, args, found)
            self.served[ServedHow.DERIVED] += 1
            return derived
        latency_ms = self._latency_ms(recorded)
        served = Served(
            outcome=recorded.outcome,
            result=recorded.result,
            error=recorded.error,
            error_type=recorded.call.error_type,
            latency_ms=latency_ms,
            served_how=ServedHow.RECORDED,
            served_from=recorded.run_id,
            state_key=stored_key(found.key),
            result_flag=recorded.call.result_flag,
        )
        if _is_cut(call, latency_ms):
            # The gateway will cut this call, so nobody knows whether the write happened.
            self._walk.happened(rule, args, Served(Outcome.TIMED_OUT), is_retry=is_retry)
        else:
            self._happened(rule, args, served, call)
        self.served[ServedHow.RECORDED] += 1
        is_failure = recorded.outcome in (Outcome.FAILED, Outcome.TIMED_OUT)
        if is_failure and not self._may_go_on(rule, args, found):
            return replace(served, is_final=True)
        return served

    def _happened(
        self, rule: ToolRule, args: CanonicalArgs, answer: Served, call: PendingCall
    ) -> None:
        """Moves the state on; a write that worked leaves answers for the reads that it names."""
        is_retry = call.attempt > 1
        is_ok = answer.outcome is Outcome.OK
        if is_ok and rule.changes_state:
            self._substitutes.happened(call, answer)
        if not is_ok or not rule.write_through or self.match is not Match.STATE:
            self._walk.happened(rule, args, answer, is_retry=is_retry)
            return
        reads = [self._read_after(one, args, answer.result) for one in rule.write_through]
        before = [self._walk.key_of(*read).key if read else None for read in reads]
        self._walk.happened(rule, args, answer, is_retry=is_retry)
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
                served_from=answer.served_from,
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

        It would fail again, or be a miss, only because the recorded run did not try again.
        """
        if self.attempts is Attempts.COLLAPSED:
            return False
        if self.match is Match.STATE and not rule.changes_state:
            key = found.key or ""
            return len(self._answers.find(key)) > self._times_asked[key]
        following = self._walk.key_of(rule, args, is_retry=True).key
        return following is None or bool(self._answers.find(following))

    def _is_declared(self, name: str) -> bool:
        return name in self.cassette.rules.declared

    def _find(self, rule: ToolRule, found: CallKey) -> RecordedCall | None:
        if found.key is None:
            return None
        answers = self._answers.find(found.key)
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
        if tool is None or tool.fn is None or tool.effect is not Effect.PURE:
            return None
        values, latency_ms = call.values_for(tool.fn), self.cassette.median_latency_ms(tool.name)
        return call_now(tool.fn, values, how=ServedHow.PURE, latency_ms=latency_ms)

    def _missed(
        self, call: PendingCall, rule: ToolRule, args: CanonicalArgs, found: CallKey
    ) -> Served:
        """What the miss policy gives in the place of a recorded answer."""
        recorded = self._answers.calls_of(rule.name)
        asked = Asked(
            rule,
            found,
            call,
            self._walk.is_initial(rule, args),
            self.cassette.median_latency_ms(rule.name),
            nearest_calls(args, recorded),
        )
        answer = self._substitutes.answer(asked)
        if not isinstance(answer, Served):
            return self._miss(call, args, asked, recorded, answer or "")
        how = answer.served_how
        if how is ServedHow.ERROR:
            self._miss(call, args, asked, recorded, "", policy=MissPolicy.ERROR)
            self.tainted_from = call.step if self.tainted_from is None else self.tainted_from
            return answer
        if how is not None:
            self.served[how] += 1
        if _is_cut(call, answer.latency_ms or 0.0):
            self._walk.happened(rule, args, Served(Outcome.TIMED_OUT))
        else:
            self._happened(rule, args, answer, call)
        return answer

    def _miss(
        self,
        call: PendingCall,
        args: CanonicalArgs,
        asked: Asked,
        recorded: list[RecordedCall],
        refused: str,
        *,
        policy: MissPolicy = MissPolicy.STOP,
    ) -> Served:
        rule, found = asked.rule, asked.found
        why = describe_difference(rule, args, found, recorded, match=self.match)
        why = f"{why}; {refused}" if refused else why
        key = stored_key(found.key)
        nearest = tuple(nearest_of(one, args) for one in asked.neighbours)
        self.misses.append(
            Miss(call.step, rule.name, args.text, why, key, nearest, policy, self._accept_hint)
        )
        # A run may be told to go on after a miss: what a missed write did is unknown.
        self._walk.happened(rule, args, Served(Outcome.TIMED_OUT))
        hint = f" {self._accept_hint}" if self._accept_hint else ""
        named = f" (key {key})" if key else ""
        return Served(
            outcome=Outcome.REPLAY_MISS,
            error=(
                f"tool call {rule.name!r} has no match at step {call.step} of golden task "
                f"{self._golden!r}: {why}{named}.{hint}"
            ),
            error_type=ERROR_TYPE_MISS,
            state_key=key,
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
