"""Says whether a replayed run is as good as the golden ones, and what differed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from flightlog.golden.task import WRITES_ACCEPTED, GoldenTask
from flightlog.replay.cassette import Cassette, RecordedCall, writes_of
from flightlog.replay.matching import Rules
from flightlog.runtime.result import RunResult
from flightlog.trace.canonical import CanonicalArgs
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Actor, Outcome, stop_text

_MAX_ARGS_CHARS = 120
_MAX_NAMED = 3


class Level(StrEnum):
    """How much a run is like its nearest recording, from most to least."""

    EXACT = "exact"
    SAME_WRITES = "same_writes"
    SAME_OUTCOME = "same_outcome"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge says of one run.

    Attributes:
        passed: None when the replay missed a call, so that nobody can say.
        level: reported beside the verdict, so that a pass never hides a change.
        detail: what differed, or why it passed; one sentence.
    """

    passed: bool | None
    level: Level
    detail: str


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """One tool call of the candidate under the golden's declarations."""

    call: ToolCall
    args: CanonicalArgs
    is_write: bool

    @property
    def identity(self) -> tuple[str, str]:
        """Tool and digest of the canonical arguments."""
        return (self.call.tool_name, self.args.digest)


def judged_calls(calls: Iterable[ToolCall], rules: Rules) -> list[JudgedCall]:
    """The agent's calls, refused ones too, keyed as the recordings are."""
    return [
        JudgedCall(
            call,
            rules[call.tool_name].args_of(call.args or ""),
            rules[call.tool_name].effect.is_write,
        )
        for call in calls
        if call.actor is Actor.AGENT
    ]


def judge(
    golden: GoldenTask, cassette: Cassette, result: RunResult, calls: Sequence[ToolCall]
) -> Judgement:
    """Judges one replayed run by the rules of its golden task.

    Args:
        golden: the contract.
        cassette: the accepted recordings.
        result: how the run ended.
        calls: its tool calls, as recorded.
    """
    made = judged_calls(calls, cassette.rules)
    level = _level(made, cassette, result, golden)
    forbidden = _forbidden(golden, made)
    missed = next((call for call in calls if call.outcome is Outcome.REPLAY_MISS), None)
    if missed is not None and forbidden is None:
        return Judgement(None, level, missed.error or f"no recording answers {missed.tool_name}")
    checks = (
        forbidden,
        _wrong_stop(golden, result),
        _wrong_writes(golden, cassette, made),
        _wrong_answer(golden, result),
        _over_budget(golden, result),
    )
    problem = next((text for text in checks if text), None)
    if problem:
        return Judgement(passed=False, level=level, detail=problem)
    return Judgement(passed=True, level=level, detail=_why_passed(level))


def _level(
    made: Sequence[JudgedCall], cassette: Cassette, result: RunResult, golden: GoldenTask
) -> Level:
    done = [
        call.identity
        for call in made
        if not call.call.outcome.is_refusal and call.call.attempt == 1
    ]
    for calls in cassette.calls:
        if done == [_identity(call) for call in calls if call.call.attempt == 1]:
            return Level.EXACT
    if successful_writes(made) in accepted_writes(cassette):
        return Level.SAME_WRITES
    if _wrong_stop(golden, result) is None and _wrong_answer(golden, result) is None:
        return Level.SAME_OUTCOME
    return Level.DIFFERENT


def _why_passed(level: Level) -> str:
    return {
        Level.EXACT: "the same calls as a recording",
        Level.SAME_WRITES: "other calls than any recording, but the same successful writes",
        Level.SAME_OUTCOME: "other writes than any recording, which this golden task ignores",
        Level.DIFFERENT: "nothing that this golden task looks at differs",
    }[level]


def _forbidden(golden: GoldenTask, made: Sequence[JudgedCall]) -> str | None:
    for call in made:
        if call.call.tool_name in golden.judge.forbidden_tools:
            return f"forbidden tool {call.call.tool_name!r} was asked for at step {call.call.step}"
    return None


def _wrong_stop(golden: GoldenTask, result: RunResult) -> str | None:
    if result.stop_reason in golden.judge.stop_reasons:
        return None
    accepted = ", ".join(golden.judge.stop_reasons)
    detail = f" ({result.stop_detail})" if result.stop_detail else ""
    stop = stop_text(result.stop_reason, result.stop_tool)
    return f"stopped with {stop}{detail}; accepted: {accepted}"


def _wrong_writes(golden: GoldenTask, cassette: Cassette, made: Sequence[JudgedCall]) -> str | None:
    if golden.judge.writes != WRITES_ACCEPTED:
        return None
    mine, accepted = successful_writes(made), accepted_writes(cassette)
    if mine in accepted or not accepted:
        return None
    nearest = min(accepted, key=lambda other: ((mine - other) + (other - mine)).total())
    texts = _texts(made, cassette)
    parts = []
    if missing := nearest - mine:
        parts.append(f"missing {_named(missing, texts)}")
    if extra := mine - nearest:
        parts.append(f"not accepted {_named(extra, texts)}")
    return f"its successful writes differ from every recording: {'; '.join(parts)}"


def _wrong_answer(golden: GoldenTask, result: RunResult) -> str | None:
    answer = result.answer or ""
    for text in golden.judge.answer_contains:
        if text not in answer:
            return f"the answer does not contain {text!r}"
    for pattern in golden.judge.answer_matches:
        if not re.search(pattern, answer):
            return f"the answer does not match {pattern!r}"
    return None


def _over_budget(golden: GoldenTask, result: RunResult) -> str | None:
    used = result.usage.spent()
    for name, limit in golden.budgets.items():
        spent = used.get(name.replace("max_", "used_"))
        if spent is not None and spent > limit:
            return f"used {spent:g} of {name}={limit:g}"
    return None


Writes: TypeAlias = Counter[tuple[str, str]]
"""How often each write (tool, digest of its canonical arguments) was done."""


def successful_writes(made: Iterable[JudgedCall]) -> Writes:
    """The writes of a candidate that succeeded."""
    return Counter(c.identity for c in made if c.is_write and c.call.outcome is Outcome.OK)


def accepted_writes(cassette: Cassette) -> list[Writes]:
    """The successful writes of each recording."""
    return [Counter(map(_identity, writes_of(calls))) for calls in cassette.calls]


def _identity(call: RecordedCall) -> tuple[str, str]:
    return (call.tool_name, call.args.digest)


def _texts(made: Iterable[JudgedCall], cassette: Cassette) -> dict[tuple[str, str], str]:
    found = {_identity(call): call.args.text for calls in cassette.calls for call in calls}
    return {**found, **{call.identity: call.args.text for call in made}}


def _named(writes: Writes, texts: dict[tuple[str, str], str]) -> str:
    named = [
        f"{identity[0]} {_short(texts[identity])}" + (f" x{count}" if count > 1 else "")
        for identity, count in sorted(writes.items())
    ]
    more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return ", ".join(named[:_MAX_NAMED]) + more


def _short(text: str) -> str:
    return text if len(text) <= _MAX_ARGS_CHARS else f"{text[: _MAX_ARGS_CHARS - 1]}…"
