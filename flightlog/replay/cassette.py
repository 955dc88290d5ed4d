"""The recorded calls that a replay answers from: one or several recordings, one index.

Refused calls are no observations and are left out: the candidate's own gateway
decides what to refuse. All else is found by its key (`flightlog.replay.matching`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from flightlog.errors import NewerFormatError
from flightlog.replay.attempts import Attempts, last_attempts
from flightlog.replay.matchers import Match, walk_of
from flightlog.replay.matching import KeyWalk, Rules, ToolRule
from flightlog.trace.canonical import CanonicalArgs, digest_of
from flightlog.trace.events import Event, RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.versions import CANON_VERSION
from flightlog.trace.vocab import Actor, Outcome


@dataclass(frozen=True)
class Recording:
    """One recorded run: its events in order, and the messages they name.

    Attributes:
        events: sorted by `seq`.
        messages: by digest; bodies of tool messages may be absent.
        blob: gives the text of a blob by its digest.
    """

    events: tuple[Event, ...]
    messages: Mapping[str, Message] = field(default_factory=dict)
    blob: Callable[[str], str] | None = None

    @property
    def run_id(self) -> str:
        """Id of the recorded run; empty for an empty recording."""
        return self.events[0].run_id if self.events else ""

    @property
    def started(self) -> RunStarted | None:
        """Its `run_started`, or None for a recording that lost it."""
        return next((e for e in self.events if isinstance(e, RunStarted)), None)

    @property
    def stopped(self) -> RunStopped | None:
        """Its `run_stopped`, or None for a run that was cut."""
        return next((e for e in self.events if isinstance(e, RunStopped)), None)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """All tool calls and refusals, of the agent and of the simulated user, in order."""
        return tuple(event for event in self.events if isinstance(event, ToolCall))

    def result_of(self, call: ToolCall) -> str | None:
        """The observation of a call, from its blob where it is large; None where unknown."""
        if call.result is None and call.result_blob and self.blob:
            return self.blob(call.result_blob)
        return call.result


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One recorded call with its key.

    Attributes:
        run_id: the recording's run.
        call: the event.
        args: canonical arguments under the golden's declarations.
        result: the observation; None where there was none or it is unknown.
        key: None when the state could not be known; such a call is never served.
        signature: the scopes it read with their versions, one per line; None as for key.
        is_write: True for a tool that is, or may be, a write.
    """

    run_id: str
    call: ToolCall
    args: CanonicalArgs
    result: str | None
    key: str | None
    signature: str | None
    is_write: bool

    @property
    def tool_name(self) -> str:
        """Name of the tool."""
        return self.call.tool_name

    @property
    def outcome(self) -> Outcome:
        """How the call ended."""
        return self.call.outcome

    @property
    def error(self) -> str | None:
        """What went wrong."""
        return self.call.error

    @property
    def answer_digest(self) -> str:
        """Equal for calls that were answered alike."""
        return digest_of(str(self.outcome), self.result or "", self.error or "")


@dataclass(frozen=True, slots=True)
class Conflict:
    """The same call in the same state was answered differently by two recordings.

    Attributes:
        tool_name: the tool.
        args: canonical arguments.
        answers: for each recording that has the key, its run and its first good answer.
    """

    tool_name: str
    args: str
    answers: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        runs = ", ".join(run_id for run_id, _ in self.answers)
        return (
            f"{self.tool_name} {self.args} was answered differently in the same state ({runs}): "
            "a scope is missing, or the tool is not deterministic; the newest answer is served"
        )


class Cassette:
    """An index over the calls of all recordings of a golden.

    Args:
        recordings: accepted recordings, oldest first.
        rules: the declarations; the same ones must serve the candidate.
        match: how a call finds its recorded one; the weaker ones only where asked for by name.
        attempts: whether all tries of a call are there, or the last one for all.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        rules: Rules,
        match: Match = Match.STATE,
        *,
        attempts: Attempts = Attempts.FAITHFUL,
    ) -> None:
        self.recordings = tuple(recordings)
        self.rules = rules
        self.match = Match(match)
        self.attempts = Attempts(attempts)
        self._others: dict[Match, Cassette] = {}
        self.racy_calls: list[RecordedCall] = []
        self.calls: tuple[tuple[RecordedCall, ...], ...] = tuple(
            tuple(self._walk(recording)) for recording in self.recordings
        )
        self._index: dict[str, list[list[RecordedCall]]] = {}
        for calls in self.calls:
            for key, same in _by_key(calls).items():
                self._index.setdefault(key, []).append(same)
        self._latencies = self._median_latencies()

    @cached_property
    def collapsed(self) -> Cassette:
        """The same recordings, the last try of a call in the place of all its tries."""
        if self.attempts is Attempts.COLLAPSED:
            return self
        return Cassette(self.recordings, self.rules, self.match, attempts=Attempts.COLLAPSED)

    def with_match(self, match: Match) -> Cassette:
        """The same recordings under another matcher."""
        if match is self.match:
            return self
        if match not in self._others:
            self._others[match] = Cassette(
                self.recordings, self.rules, match, attempts=self.attempts
            )
        return self._others[match]

    def __len__(self) -> int:
        return sum(len(calls) for calls in self.calls)

    @cached_property
    def first_tries(self) -> tuple[tuple[tuple[RecordedCall, ...], list[tuple[str, str]]], ...]:
        """Of each recording the first try of each call, and their tools and arguments."""
        found = []
        for calls in self.calls:
            first = tuple(call for call in calls if call.call.attempt == 1)
            found.append((first, [(call.tool_name, call.args.digest) for call in first]))
        return tuple(found)

    def find(self, key: str) -> Sequence[RecordedCall]:
        """What the newest recording with this key answered, call after call; empty for none."""
        found = self._index.get(key)
        return found[-1] if found else ()

    def calls_of(self, tool_name: str) -> list[RecordedCall]:
        """The recorded calls of one tool, newest recording first, in order within it."""
        return [c for calls in reversed(self.calls) for c in calls if c.tool_name == tool_name]

    def median_latency_ms(self, tool_name: str) -> float:
        """Median recorded duration of a tool in ms; 0 where none was recorded."""
        return self._latencies.get(tool_name, 0.0)

    def conflicts(self) -> list[Conflict]:
        """The keys whose good answers differ between or within recordings."""
        found: list[Conflict] = []
        for by_recording in self._index.values():
            good = [c for same in by_recording for c in same if c.outcome is Outcome.OK]
            by_answer = {call.answer_digest: call for call in good}
            if len(by_answer) > 1:
                answers = tuple((call.run_id, call.result or "") for call in by_answer.values())
                found.append(Conflict(good[0].tool_name, good[0].args.text, answers))
        return found

    def _walk(self, recording: Recording) -> Iterable[RecordedCall]:
        walk = walk_of(self.match)
        executed = [call for call in recording.tool_calls if not call.outcome.is_refusal]
        if self.attempts is Attempts.COLLAPSED:
            executed = last_attempts(executed)
        for _, batch in groupby(executed, key=_batch_of):
            # Tries of one step go in rounds; a replay asks for them in the same order.
            calls = sorted(batch, key=lambda call: (call.attempt, call.call_ix or 0))
            may_race = self.match is Match.STATE and _is_parallel(calls)
            racing = self._racing(recording, calls) if may_race else {}
            for position, call in enumerate(calls):
                recorded = self._recorded(recording, walk, call, is_racy=position in racing)
                if call.actor is Actor.AGENT:
                    yield recorded
            for scopes in racing.values():
                walk.taint(scopes)

    def _recorded(
        self, recording: Recording, walk: KeyWalk, call: ToolCall, *, is_racy: bool
    ) -> RecordedCall:
        _check_canon(recording, call)
        rule = self.rules[call.tool_name]
        args, result = rule.args_of(call.args or ""), recording.result_of(call)
        is_retry = call.attempt > 1
        found = walk.key_of(rule, args, is_retry=is_retry)
        is_servable = not is_racy and (result is not None or call.outcome is not Outcome.OK)
        recorded = RecordedCall(
            run_id=recording.run_id,
            call=call,
            args=args,
            result=result,
            key=found.key if is_servable else None,
            signature=found.signature,
            is_write=rule.effect.is_write,
        )
        if is_racy:
            self.racy_calls.append(recorded)
        walk.happened(rule, args, recorded, is_retry=is_retry)
        return recorded

    def _racing(self, recording: Recording, calls: Sequence[ToolCall]) -> dict[int, list[str]]:
        """Positions in one batch whose answer depends on who came first.

        Returns:
            Position -> the scopes whose state is unknown afterwards: those of a racing
            write; none for a racing read.
        """
        touched: list[tuple[ToolRule, list[str]]] = []
        for call in calls:
            rule = self.rules[call.tool_name]
            args = rule.args_of(call.args or "")
            touched.append((rule, KeyWalk.touched(rule, args, recording.result_of(call))))
        racing: dict[int, list[str]] = {}
        for one, (rule, scopes) in enumerate(touched):
            for other, (other_rule, other_scopes) in enumerate(touched):
                if _is_same_call(calls[one], calls[other]):
                    continue
                if other_rule.changes_state and _overlap(scopes, other_scopes):
                    racing[one] = scopes if rule.changes_state else []
        return racing

    def _median_latencies(self) -> dict[str, float]:
        known: defaultdict[str, list[float]] = defaultdict(list)
        for calls in self.calls:
            for recorded in calls:
                if recorded.call.latency_ms is not None:
                    known[recorded.tool_name].append(recorded.call.latency_ms)
        return {name: statistics.median(values) for name, values in known.items()}


def writes_of(calls: Iterable[RecordedCall]) -> list[RecordedCall]:
    """The successful writes among recorded calls."""
    return [call for call in calls if call.is_write and call.outcome is Outcome.OK]


def _check_canon(recording: Recording, call: ToolCall) -> None:
    """Refuses keys of a canonical form that this flightlog does not write."""
    version, _, _ = (call.state_key or "").rpartition(":")
    if version and version != CANON_VERSION:
        raise NewerFormatError(
            f"a key of canonical form {version!r}, where this flightlog knows {CANON_VERSION!r}",
            where=f"run {recording.run_id}, step {call.step}, {call.tool_name}",
            hint="Upgrade: pip install --upgrade flightlog",
        )


def _by_key(calls: Iterable[RecordedCall]) -> dict[str, list[RecordedCall]]:
    found: dict[str, list[RecordedCall]] = {}
    for call in calls:
        if call.key is not None:
            found.setdefault(call.key, []).append(call)
    return found


def _batch_of(call: ToolCall) -> tuple[object, ...]:
    # A call without a step stands alone: its neighbours cannot be known to be of one batch.
    return (call.actor, call.step) if call.step is not None else (call.actor, None, call.seq)


def _is_same_call(one: ToolCall, other: ToolCall) -> bool:
    """True for a call and its further tries, which wait for each other."""
    return one is other or (one.call_ix is not None and one.call_ix == other.call_ix)


def _is_parallel(calls: Sequence[ToolCall]) -> bool:
    return len({call.call_ix for call in calls}) > 1


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(_touches(a, b) for a in one for b in other)


def _touches(one: str, other: str) -> bool:
    if one == other or "*" in (one, other):
        return True
    (prefix, _, name), (other_prefix, _, other_name) = one.partition(":"), other.partition(":")
    return prefix == other_prefix and "*" in (name, other_name)
