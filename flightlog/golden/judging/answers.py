"""What the answer of a run must be. Answers are hostile: every check takes bounded time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.errors import AgentError, GoldenError
from flightlog.golden.factory import load_factory
from flightlog.golden.judging.patterns import found_in
from flightlog.golden.judging.pointers import value_at
from flightlog.golden.judging.rules import JudgeRules, NumberRule
from flightlog.runtime.schemas import SchemaCheck
from flightlog.runtime.task import Task
from flightlog.trace.canonical import canonical_json
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import StopReason

MAX_SHOWN: Final = 80
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """What a check of your own is given.

    Attributes:
        task: what the agent was run on.
        answer: its last text; empty where it gave none.
        stop_reason: why it ended.
        calls: its tool calls, refused ones too, in order.
    """

    task: Task
    answer: str
    stop_reason: StopReason
    calls: Sequence[ToolCall]


def problems_of_answer(rules: JudgeRules, run: JudgedRun) -> Iterator[str]:
    """What is wrong with an answer, one sentence each."""
    for text in rules.answer_contains:
        if text not in run.answer:
            yield f"the answer does not contain {text!r}"
    for pattern in rules.answer_matches:
        if found_in(pattern, run.answer) is None:
            yield f"the answer does not match {pattern!r}"
    if rules.answer_schema is not None and (problem := _of_schema(rules.answer_schema, run.answer)):
        yield f"the answer does not fit its schema: {problem}"
    for number in rules.answer_numbers:
        if problem := _of_number(number, run.answer):
            yield problem
    for name in rules.answer_functions:
        if problem := _of_function(name, run):
            yield f"check {name}: {problem}"


def check_functions(rules: JudgeRules, *, where: str) -> None:
    """Loads the checks of a contract, so that a missing one is found before anything is paid.

    Raises:
        GoldenError: a module or function that is not there.
    """
    for name in rules.answer_functions:
        try:
            _function(name)
        except AgentError as error:
            raise GoldenError(
                f"judge.answer.function: {error.what}",
                where=where,
                hint=error.hint or "Name a function that is called with one JudgedRun.",
            ) from error


def parsed_answer(answer: str) -> Any:
    """The JSON value of an answer.

    Raises:
        ValueError: it is not JSON; NaN and infinite numbers are none.
    """
    try:
        return json.loads(answer, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _of_schema(schema: Any, answer: str) -> str | None:
    try:
        value = parsed_answer(answer)
    except ValueError as error:
        return f"it is not JSON ({shown(str(error))})"
    return SchemaCheck(schema, where="judge.answer.schema").problem_of(value)


def _of_number(rule: NumberRule, answer: str) -> str | None:
    if rule.regex is not None:
        place = f"the number of the answer at {rule.regex!r}"
        text = found_in(rule.regex, answer)
        if text is None:
            return f"the answer has no number at {rule.regex!r}"
        number = _parsed_number(text)
        told: object = text
    else:
        pointer = rule.path or ""
        place = f"the number of the answer at {pointer!r}"
        try:
            told = value_at(parsed_answer(answer), pointer)
        except ValueError as error:
            return f"the answer is not JSON ({shown(str(error))}), so it has no {pointer!r}"
        except LookupError:
            return f"the answer has no {pointer!r}"
        is_number = isinstance(told, (int, float)) and not isinstance(told, bool)
        number = told if is_number and _is_finite(told) else None  # type: ignore[assignment]
    if number is None:
        return f"{place} is {shown(told)}, which is no number"
    if not rule.low <= number <= rule.high:
        return f"{place} is {shown(told)}, not within {rule.low:g} and {rule.high:g}"
    return None


def _parsed_number(text: str) -> float | None:
    text = text.strip()
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def _is_finite(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _of_function(name: str, run: JudgedRun) -> str | None:
    try:
        said = _function(name)(run)
    except AssertionError as error:
        return shown_text(str(error) or "its assertion does not hold")
    except Exception as error:  # foreign code: a check that breaks has not passed
        return shown_text(f"it raised {type(error).__name__}: {error}")
    if said is True:
        return None
    if said is False:
        return "it does not hold"
    if isinstance(said, str):
        return shown_text(said or "it does not hold")
    return f"it gave a {type(said).__name__}; give True, False, or a text that says what is wrong"


def _function(name: str) -> Callable[[JudgedRun], object]:
    found: Callable[[JudgedRun], object] = load_factory(name)
    return found


def shown(value: object) -> str:
    """A value of an answer, cut where it is long."""
    try:
        text = repr(value) if isinstance(value, str) else canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def shown_text(text: str) -> str:
    """A text that foreign code gave, cut where it is long."""
    return text if len(text) <= 4 * MAX_SHOWN else f"{text[: 4 * MAX_SHOWN - 1]}…"
