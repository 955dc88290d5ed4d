"""The `judge` part of a `task.yaml`, read strictly and written back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from flightlog.errors import FlightlogError, GoldenError, nearest
from flightlog.golden.judging.patterns import LinearError, groups_of
from flightlog.golden.judging.pointers import steps_of
from flightlog.golden.judging.rules import (
    WRITES_ACCEPTED,
    WRITES_IGNORE,
    ForbiddenCall,
    GradedRule,
    JudgeRules,
    NumberRule,
    Order,
    TemporalRule,
)
from flightlog.golden.yaml_files import Fields
from flightlog.runtime.schemas import SchemaCheck
from flightlog.trace.vocab import StopReason

_TEMPORAL: Final = "never (with before), at_most (with calls), must_follow (with after), or "
_TEMPORAL_HINT: Final = f"Give one of {_TEMPORAL}no_write_after_refusal."


def judge_rules_of(fields: Fields) -> JudgeRules:
    """The rules that a contract states.

    Raises:
        GoldenError: an unknown key, or a value of the wrong form; with its file and line.
    """
    fields.allow_only(
        "writes",
        "stop_reasons",
        "forbidden_tools",
        "forbidden_calls",
        "answer",
        "answer_contains",
        "answer_matches",
        "temporal",
        "graded",
    )
    writes = fields.text("writes", default=WRITES_ACCEPTED) or WRITES_ACCEPTED
    if writes not in (WRITES_ACCEPTED, WRITES_IGNORE):
        raise fields.wrong("writes", f"{WRITES_ACCEPTED!r} or {WRITES_IGNORE!r}")
    answer = fields.fields("answer")
    answer.allow_only("contains", "matches", "schema", "number", "function")
    return JudgeRules(
        writes=writes,
        stop_reasons=_stop_reasons(fields),
        forbidden_tools=fields.texts("forbidden_tools"),
        answer_contains=(*fields.texts("answer_contains"), *_texts(answer, "contains")),
        answer_matches=(
            *_patterns(fields, "answer_matches", fields.texts("answer_matches")),
            *_patterns(answer, "matches", _texts(answer, "matches")),
        ),
        forbidden_calls=tuple(map(_forbidden_call, fields.items("forbidden_calls"))),
        answer_schema=_answer_schema(answer),
        answer_numbers=tuple(map(_number, answer.items("number"))),
        answer_functions=_functions(answer),
        temporal=tuple(map(_temporal, fields.items("temporal"))),
        graded=tuple(map(_graded, fields.items("graded"))),
    )


def _stop_reasons(fields: Fields) -> tuple[StopReason, ...]:
    reasons = fields.texts("stop_reasons")
    for reason in reasons:
        if reason not in list(StopReason):
            near = nearest(reason, list(StopReason))
            raise fields.wrong("stop_reasons", f"stop reasons; nearest: {', '.join(near) or 'ok'}")
    return tuple(StopReason(reason) for reason in reasons) or (StopReason.OK,)


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    """A list of texts, or one that stands alone."""
    value = fields.get(key)
    return (value,) if isinstance(value, str) else fields.texts(key)


def _patterns(fields: Fields, key: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        _groups(fields, key, pattern)
    return patterns


def _groups(fields: Fields, key: str, pattern: str) -> int:
    try:
        return groups_of(pattern)
    except LinearError as error:
        raise fields.wrong(
            key,
            "regular expressions of RE2, which has neither look-around nor back-references "
            f"({error})",
        ) from error


def _forbidden_call(fields: Fields) -> ForbiddenCall:
    fields.allow_only("tool", "args")
    call = ForbiddenCall(_tool(fields, "tool"), fields.mapping("args"))
    _check_schema(fields, "args", call.schema)
    return call


def _answer_schema(fields: Fields) -> dict[str, Any] | None:
    if fields.get("schema") is None:
        return None
    schema = fields.mapping("schema")
    _check_schema(fields, "schema", schema)
    return schema


def _check_schema(fields: Fields, key: str, schema: dict[str, Any]) -> None:
    try:
        SchemaCheck(schema, where=fields.where(key))
    except FlightlogError as error:
        raise GoldenError(error.what, where=fields.where(key), hint=error.hint) from error


def _number(fields: Fields) -> NumberRule:
    fields.allow_only("regex", "path", "within")
    regex, path = fields.text("regex"), fields.text("path")
    if (regex is None) == (path is None):
        raise fields.wrong("regex", "either regex or path (a JSON Pointer such as /total)")
    if regex is not None and _groups(fields, "regex", regex) > 1:
        raise fields.wrong("regex", "a regular expression with one group at most: the number")
    if path is not None and steps_of(path) is None:
        raise fields.wrong("path", "a JSON Pointer such as /order/total, or '' for the answer")
    within = fields.get("within")
    bounds = within if isinstance(within, list) else []
    if len(bounds) != 2 or not all(map(_is_bound, bounds)) or bounds[0] > bounds[1]:
        raise fields.wrong("within", "the smallest and the largest number, such as [38.5, 39.5]")
    return NumberRule(bounds[0], bounds[1], regex, path)


def _is_bound(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def _functions(fields: Fields) -> tuple[str, ...]:
    names = _texts(fields, "function")
    for name in names:
        module, _, function = name.partition(":")
        if not (module and function):
            raise fields.wrong("function", "module:function, such as my_checks:is_polite")
    return names


def _temporal(fields: Fields) -> TemporalRule:
    if fields.get("never") is not None:
        fields.allow_only("never", "before")
        return TemporalRule(Order.NEVER_BEFORE, _tool(fields, "never"), _tool(fields, "before"))
    if fields.get("at_most") is not None:
        fields.allow_only("at_most", "calls", "within_steps")
        most, tool = _count(fields, "at_most", least=0), _tool(fields, "calls")
        return TemporalRule(Order.AT_MOST, tool, calls=most, steps=_steps(fields))
    if fields.get("must_follow") is not None:
        fields.allow_only("must_follow", "after", "within_steps")
        tool, after = _tool(fields, "must_follow"), _tool(fields, "after")
        return TemporalRule(Order.MUST_FOLLOW, tool, after, steps=_steps(fields))
    if fields.get("no_write_after_refusal") is not None:
        fields.allow_only("no_write_after_refusal")
        tool = _tool(fields, "no_write_after_refusal")
        return TemporalRule(Order.NO_WRITE_AFTER_REFUSAL, tool)
    raise GoldenError("a temporal rule of no known kind", where=fields.where(), hint=_TEMPORAL_HINT)


def _graded(fields: Fields) -> GradedRule:
    fields.allow_only("rubric", "required")
    rubric, required = fields.text("rubric"), fields.get("required")
    if not rubric:
        raise fields.wrong("rubric", "what must hold of the answer, in words")
    if not isinstance(required, (bool, type(None))):
        raise fields.wrong("required", "true or false")
    return GradedRule(rubric, bool(required))


def _tool(fields: Fields, key: str) -> str:
    name = fields.text(key)
    if not name:
        raise fields.wrong(key, "the name of a tool, or a glob such as refund* in quotes")
    return name


def _steps(fields: Fields) -> int | None:
    return None if fields.get("within_steps") is None else _count(fields, "within_steps", least=1)


def _count(fields: Fields, key: str, *, least: int) -> int:
    value = fields.get(key)
    if type(value) is not int or value < least:
        raise fields.wrong(key, f"a whole number from {least} up")
    return value


def plain_rules(rules: JudgeRules) -> dict[str, Any]:
    """The rules as `task.yaml` holds them; what is not asked for is left out."""
    plain: dict[str, Any] = {
        "writes": rules.writes,
        "stop_reasons": [reason.value for reason in rules.stop_reasons],
        "forbidden_tools": list(rules.forbidden_tools),
        "forbidden_calls": [
            {"tool": call.tool, **({"args": dict(call.args)} if call.args else {})}
            for call in rules.forbidden_calls
        ],
        "answer_contains": list(rules.answer_contains),
        "answer_matches": list(rules.answer_matches),
        "answer": _plain_answer(rules),
        "temporal": list(map(_plain_temporal, rules.temporal)),
        "graded": [{"rubric": one.rubric, "required": one.is_required} for one in rules.graded],
    }
    always = ("writes", "stop_reasons", "forbidden_tools", "answer_contains", "answer_matches")
    return {name: value for name, value in plain.items() if value or name in always}


def _plain_answer(rules: JudgeRules) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if rules.answer_schema is not None:
        plain["schema"] = dict(rules.answer_schema)
    if rules.answer_numbers:
        plain["number"] = list(map(_plain_number, rules.answer_numbers))
    if rules.answer_functions:
        plain["function"] = list(rules.answer_functions)
    return plain


def _plain_number(rule: NumberRule) -> dict[str, Any]:
    where = {"regex": rule.regex} if rule.regex is not None else {"path": rule.path}
    return {**where, "within": [rule.low, rule.high]}


def _plain_temporal(rule: TemporalRule) -> dict[str, Any]:
    return dict(_temporal_items(rule))


def _temporal_items(rule: TemporalRule) -> Iterator[tuple[str, Any]]:
    match rule.order:
        case Order.NEVER_BEFORE:
            yield from (("never", rule.tool), ("before", rule.other))
        case Order.AT_MOST:
            yield from (("at_most", rule.calls), ("calls", rule.tool))
        case Order.MUST_FOLLOW:
            yield from (("must_follow", rule.tool), ("after", rule.other))
        case Order.NO_WRITE_AFTER_REFUSAL:
            yield ("no_write_after_refusal", rule.tool)
    if rule.steps is not None:
        yield ("within_steps", rule.steps)
