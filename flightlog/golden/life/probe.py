"""Asks a fixture whether the declared scopes are sound.

After each write of a recording every read of the golden is asked again. Where the answer
changed and the key did not, a stale answer would be served: the write or the read lacks a scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.golden.life.doubts import Doubt, DoubtKind
from flightlog.replay.cassette import Cassette, RecordedCall, Recording
from flightlog.replay.fixture import call_now
from flightlog.replay.matching import KeyWalk, Rules, ToolRule
from flightlog.replay.misses import FixtureFactory
from flightlog.replay.state import parse_result
from flightlog.runtime.calls import Served
from flightlog.runtime.injected import KEY_PARAMETER, injected_by
from flightlog.runtime.tool_context import ToolContext
from flightlog.trace.canonical import CanonicalArgs, canonical_json, digest_of
from flightlog.trace.clock import VirtualClock
from flightlog.trace.vocab import Effect, Outcome, ServedHow

MAX_READS: Final = 500
"""Reads of one golden that are asked after each write; the first ones in order of recording."""
_MAX_CHARS: Final = 160


@dataclass(frozen=True, slots=True)
class _Read:
    rule: ToolRule
    args: CanonicalArgs


def probe(golden: str, cassette: Cassette, fixture: FixtureFactory) -> list[Doubt]:
    """What a fixture shows to be wrong with the scopes of one golden task.

    Args:
        golden: name of its folder.
        cassette: its recordings under its declarations.
        fixture: gives functions over a fresh initial state.

    Returns:
        Unsound scopes, each pair of tools once, and where the fixture is not the recorded world.
    """
    reads = list(_reads(cassette))[:MAX_READS]
    found: dict[tuple[str, ...], Doubt] = {}
    for recording, calls in zip(cassette.recordings, cassette.calls, strict=True):
        walk = _Probe(golden, cassette.rules, reads, fixture())
        for doubt in walk.doubts(recording, calls):
            found.setdefault((doubt.kind, doubt.tool_name, doubt.other), doubt)
    return list(found.values())


class _Probe:
    """One recording on one fresh fixture."""

    def __init__(
        self, golden: str, rules: Rules, reads: Sequence[_Read], functions: Mapping[str, Any]
    ) -> None:
        self._golden = golden
        self._rules = rules
        self._reads = [read for read in reads if read.rule.name in functions]
        self._functions = functions
        self._walk = KeyWalk()

    def doubts(self, recording: Recording, calls: Sequence[RecordedCall]) -> Iterator[Doubt]:
        before = self._asked()
        for call in calls:
            rule = self._rules[call.tool_name]
            if not rule.changes_state:
                continue
            function = self._functions.get(call.tool_name)
            if function is None:
                yield self._disagreement(call, recording, "the fixture has no function for it")
                return
            values = _values(function, call.tool_name, call.args)
            answer = call_now(function, values, how=ServedHow.FIXTURE, latency_ms=None)
            if not _agree(answer, call):
                yield self._disagreement(call, recording, "the fixture answers it otherwise")
                return
            self._walk.happened(rule, call.args, call)
            after = self._asked()
            yield from self._unsound(call, recording, before, after)
            before = after

    def _asked(self) -> list[tuple[str | None, str]]:
        """Key and answer of every read in the present state."""
        found = []
        for read in self._reads:
            function = self._functions[read.rule.name]
            values = _values(function, read.rule.name, read.args)
            answer = call_now(function, values, how=ServedHow.FIXTURE, latency_ms=None)
            told = digest_of(str(answer.outcome), answer.result or "", answer.error or "")
            found.append((self._walk.key_of(read.rule, read.args).key, told))
        return found

    def _unsound(
        self,
        write: RecordedCall,
        recording: Recording,
        before: Sequence[tuple[str | None, str]],
        after: Sequence[tuple[str | None, str]],
    ) -> Iterator[Doubt]:
        for read, (old_key, old), (key, new) in zip(self._reads, before, after, strict=True):
            if old != new and key is not None and key == old_key:
                yield Doubt(
                    DoubtKind.UNSOUND,
                    self._golden,
                    write.tool_name,
                    f"{write.tool_name} {_short(write.args.text)} (step {write.call.step} of run "
                    f"{recording.run_id}) changes what {read.rule.name} {_short(read.args.text)} "
                    "answers, and no scope that both declare says so: add one to both",
                    other=read.rule.name,
                )

    def _disagreement(self, call: RecordedCall, recording: Recording, why: str) -> Doubt:
        return Doubt(
            DoubtKind.FIXTURE,
            self._golden,
            call.tool_name,
            f"{call.tool_name} {_short(call.args.text)} (step {call.call.step} of run "
            f"{recording.run_id}) cannot be probed: {why}",
        )


def _reads(cassette: Cassette) -> Iterator[_Read]:
    told: set[tuple[str, str]] = set()
    for calls in cassette.calls:
        for call in calls:
            rule = cassette.rules[call.tool_name]
            identity = (call.tool_name, call.args.digest)
            is_read = rule.effect is Effect.READ and not rule.changes_state
            if is_read and not call.args.flag and identity not in told:
                told.add(identity)
                yield _Read(rule, call.args)


def _values(function: Callable[..., Any], tool: str, args: CanonicalArgs) -> Mapping[str, Any]:
    """The arguments, with what a gateway would add: here no run calls the function."""
    values: dict[str, Any] = {} if args.flag else dict(args.value)
    asked = injected_by(function)
    if asked.context is not None:
        values[asked.context] = ToolContext("", tool, 0, clock=VirtualClock(), seed=args.digest)
    if asked.takes_key:
        values[KEY_PARAMETER] = args.digest
    return values


def _agree(answer: Served, call: RecordedCall) -> bool:
    if (answer.outcome is Outcome.OK) != (call.outcome is Outcome.OK):
        return False
    if call.outcome is not Outcome.OK or call.result is None:
        return True
    return _plain(answer.result) == _plain(call.result)


def _plain(text: str | None) -> str | None:
    try:
        return canonical_json(parse_result(text))
    except ValueError:  # NaN, which JSON lacks
        return text


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
