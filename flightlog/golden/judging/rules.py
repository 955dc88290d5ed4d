"""What the `judge` part of a contract may ask of a run, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from flightlog.trace.vocab import StopReason

WRITES_ACCEPTED: Final = "accepted"
WRITES_IGNORE: Final = "ignore"


@dataclass(frozen=True, slots=True)
class ForbiddenCall:
    """A call that a run must not ask for.

    Attributes:
        tool: name or glob.
        args: what makes it forbidden, by argument: a value that it equals, a list of values
            of which it is one, or a JSON Schema that it fits. All must hold; none stands for
            every call of the tool.
    """

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments that are not forbidden."""
        forbidden = {
            "type": "object",
            "required": list(self.args),
            "properties": {name: _schema_of(value) for name, value in self.args.items()},
        }
        return {"not": forbidden}


def _schema_of(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    return {"enum": list(value)} if isinstance(value, (list, tuple)) else {"const": value}


@dataclass(frozen=True, slots=True)
class NumberRule:
    """A number that the answer must hold.

    Attributes:
        low: smallest that passes.
        high: largest that passes.
        regex: the first match, or its one group, is the number.
        path: JSON Pointer (RFC 6901) to it, where the answer is JSON.
    """

    low: float
    high: float
    regex: str | None = None
    path: str | None = None


class Order(StrEnum):
    """The kinds of temporal rules."""

    NEVER_BEFORE = "never_before"
    AT_MOST = "at_most"
    NO_WRITE_AFTER_REFUSAL = "no_write_after_refusal"
    MUST_FOLLOW = "must_follow"


@dataclass(frozen=True, slots=True)
class TemporalRule:
    """A rule on the order or the number of calls.

    Attributes:
        order: the kind.
        tool: name or glob of the calls that it bounds; of the refused ones for
            `no_write_after_refusal`.
        other: `never_before`: what must have succeeded first; `must_follow`: what is followed.
        calls: most calls of `at_most`.
        steps: window in steps; None is the whole run.
    """

    order: Order
    tool: str
    other: str = ""
    calls: int = 0
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class GradedRule:
    """A question that a model answers about a run.

    Attributes:
        rubric: what must hold of the answer, in words.
        is_required: a run that does not hold it fails; else it is only reported.
    """

    rubric: str
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """What a replayed run must do to pass.

    Attributes:
        writes: `accepted`: its successful writes equal those of one recording;
            `ignore`: they do not matter.
        stop_reasons: accepted ways to end.
        forbidden_tools: names and globs, never asked for, not even in vain.
        forbidden_calls: the same, of tools with some arguments.
        answer_contains: each of these is in the answer.
        answer_matches: each of these regular expressions (RE2) is found in the answer.
        answer_schema: JSON Schema of the answer, which then must be JSON; None asks nothing.
        answer_numbers: numbers that the answer must hold.
        answer_functions: `module:function` of own checks.
        temporal: rules on order and number of calls.
        graded: questions for a model.
    """

    writes: str = WRITES_ACCEPTED
    stop_reasons: tuple[StopReason, ...] = (StopReason.OK,)
    forbidden_tools: tuple[str, ...] = ()
    answer_contains: tuple[str, ...] = ()
    answer_matches: tuple[str, ...] = ()
    forbidden_calls: tuple[ForbiddenCall, ...] = ()
    answer_schema: Mapping[str, Any] | None = None
    answer_numbers: tuple[NumberRule, ...] = ()
    answer_functions: tuple[str, ...] = ()
    temporal: tuple[TemporalRule, ...] = ()
    graded: tuple[GradedRule, ...] = ()

    def named_tools(self) -> Iterator[tuple[str, str]]:
        """Every key that names tools, with each name or glob in it."""
        yield from (("forbidden_tools", name) for name in self.forbidden_tools)
        yield from (("forbidden_calls", call.tool) for call in self.forbidden_calls)
        for rule in self.temporal:
            yield from (("temporal", name) for name in (rule.tool, rule.other) if name)
