"""Says whether a replayed run is as good as the golden ones, and what differed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from flightlog.golden.judging.answers import JudgedRun, problems_of_answer
from flightlog.golden.judging.calls import (
    JudgedCall,
    Writes,
    accepted_writes,
    identity_of,
    judged_calls,
    short_args,
    successful_writes,
)
from flightlog.golden.judging.grading import Grade
from flightlog.golden.judging.levels import Level, levels_of
from flightlog.golden.judging.rules import WRITES_ACCEPTED, ForbiddenCall
from flightlog.golden.judging.temporal import broken_rule
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Cassette
from flightlog.runtime.policy import matches
from flightlog.runtime.result import RunResult
from flightlog.runtime.schemas import SchemaCheck
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Outcome, stop_text

__all__ = [
    "Judgement",
    "Level",
    "accepted_writes",
    "judge",
    "judged_calls",
    "successful_writes",
]

_MAX_NAMED: Final = 3
_MAX_PROBLEMS: Final = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge says of one run.

    Attributes:
        passed: None when nobody can say: the replay missed a call or is void for another
            reason, or a required question was not graded.
        level: the tightest level that holds; reported beside the verdict, so that a pass
            never hides a change.
        detail: what differed, or why it passed; one sentence for each problem.
        levels: all levels that hold, tightest first.
    """

    passed: bool | None
    level: Level
    detail: str
    levels: tuple[Level, ...] = field(default=())


def judge(
    golden: GoldenTask,
    cassette: Cassette,
    result: RunResult,
    calls: Sequence[ToolCall],
    *,
    grades: Sequence[Grade] = (),
    void_because: str = "",
) -> Judgement:
    """Judges one replayed run by the rules of its golden task.

    Args:
        golden: the contract.
        cassette: the accepted recordings.
        result: how the run ended.
        calls: its tool calls, as recorded.
        grades: what a model said of the contract's questions.
        void_because: why the replay says nothing of the candidate; empty where it does.
    """
    made = judged_calls(calls, cassette.rules)
    missed = next((call for call in calls if call.outcome is Outcome.REPLAY_MISS), None)
    if missed is not None:
        void_because = missed.error or f"no recording answers {missed.tool_name}"
    forbidden = list(_forbidden(golden, made))
    outcome = [] if void_because else list(_wrong_outcome(golden, result, calls))
    is_accepted = not void_because and not outcome
    levels = levels_of(made, cassette, is_outcome_accepted=is_accepted)
    if void_because:
        # What it asked for it asked for, whatever became of the replay.
        passed, found = (False, forbidden) if forbidden else (None, [void_because])
        return Judgement(passed, levels[0], _joined(found), levels)
    problems = [
        *forbidden,
        *outcome,
        *_wrong_writes(golden, cassette, made),
        *_broken_rules(golden, made),
        *_over_budget(golden, result),
        *_badly_graded(grades),
    ]
    if problems:
        return Judgement(passed=False, level=levels[0], detail=_joined(problems), levels=levels)
    open_question = _open_question(golden, grades)
    if open_question:
        return Judgement(None, levels[0], open_question, levels)
    return Judgement(passed=True, level=levels[0], detail=_why_passed(levels[0]), levels=levels)


def _joined(problems: Sequence[str]) -> str:
    more = len(problems) - _MAX_PROBLEMS
    shown = "; ".join(problems[:_MAX_PROBLEMS])
    return f"{shown}; and {more} more" if more > 0 else shown


def _why_passed(level: Level) -> str:
    return {
        Level.EXACT: "the same calls as a recording",
        Level.COMMUTING: "the same calls as a recording, in another order of calls that do not "
        "touch each other",
        Level.SAME_WRITES: "other calls than any recording, but the same successful writes",
        Level.SAME_OUTCOME: "other writes than any recording, which this golden task ignores",
        Level.DIFFERENT: "nothing that this golden task looks at differs",
    }[level]


def _forbidden(golden: GoldenTask, made: Sequence[JudgedCall]) -> Iterator[str]:
    for one in made:
        name, step = one.call.tool_name, one.call.step
        if any(matches(name, entry) for entry in golden.judge.forbidden_tools):
            yield f"forbidden tool {name!r} was asked for at step {step}"
        elif any(_is_forbidden(rule, one) for rule in golden.judge.forbidden_calls):
            yield f"forbidden call {one.place}"


def _is_forbidden(rule: ForbiddenCall, one: JudgedCall) -> bool:
    if not matches(one.call.tool_name, rule.tool):
        return False
    if not rule.args:
        return True
    if one.args.flag:  # nobody can read them; refused ones did no harm
        return not one.call.outcome.is_refusal
    allowed = SchemaCheck(rule.schema, where="judge.forbidden_calls")
    return allowed.problem_of(dict(one.args.value)) is not None


def _wrong_outcome(
    golden: GoldenTask, result: RunResult, calls: Sequence[ToolCall]
) -> Iterator[str]:
    if result.stop_reason not in golden.judge.stop_reasons:
        accepted = ", ".join(golden.judge.stop_reasons)
        detail = f" ({result.stop_detail})" if result.stop_detail else ""
        stop = stop_text(result.stop_reason, result.stop_tool)
        yield f"stopped with {stop}{detail}; accepted: {accepted}"
    run = JudgedRun(golden.task, result.answer or "", result.stop_reason, tuple(calls))
    yield from problems_of_answer(golden.judge, run)


def _wrong_writes(
    golden: GoldenTask, cassette: Cassette, made: Sequence[JudgedCall]
) -> Iterator[str]:
    if golden.judge.writes != WRITES_ACCEPTED:
        return
    mine, accepted = successful_writes(made), accepted_writes(cassette)
    if mine in accepted or not accepted:
        return
    nearest = min(accepted, key=lambda other: ((mine - other) + (other - mine)).total())
    texts = _texts(made, cassette)
    parts = []
    if missing := nearest - mine:
        parts.append(f"missing {_named(missing, texts)}")
    if extra := mine - nearest:
        parts.append(f"not accepted {_named(extra, texts)}")
    yield f"its successful writes differ from every recording: {'; '.join(parts)}"


def _broken_rules(golden: GoldenTask, made: Sequence[JudgedCall]) -> Iterator[str]:
    for rule in golden.judge.temporal:
        if broken := broken_rule(rule, made):
            yield broken


def _over_budget(golden: GoldenTask, result: RunResult) -> Iterator[str]:
    used = result.usage.spent()
    for name, limit in golden.budgets.items():
        spent = used.get(name.replace("max_", "used_"))
        if spent is not None and spent > limit:
            yield f"used {spent:g} of {name}={limit:g}"


def _badly_graded(grades: Sequence[Grade]) -> Iterator[str]:
    for grade in grades:
        if grade.rule.is_required and grade.passed is False:
            yield f"graded as failed: {grade.rule.rubric}: {grade.reason}"


def _open_question(golden: GoldenTask, grades: Sequence[Grade]) -> str:
    graded = {grade.rule: grade for grade in grades}
    for rule in golden.judge.graded:
        grade = graded.get(rule)
        if rule.is_required and (grade is None or grade.passed is None):
            return f"{rule.rubric}: {grade.reason if grade else 'not graded'}"
    return ""


def _texts(made: Sequence[JudgedCall], cassette: Cassette) -> dict[tuple[str, str], str]:
    found = {identity_of(call): call.args.text for calls in cassette.calls for call in calls}
    return {**found, **{call.identity: call.args.text for call in made}}


def _named(writes: Writes, texts: dict[tuple[str, str], str]) -> str:
    named = [
        f"{identity[0]} {short_args(texts[identity])}" + (f" x{count}" if count > 1 else "")
        for identity, count in sorted(writes.items())
    ]
    more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
    return ", ".join(named[:_MAX_NAMED]) + more
