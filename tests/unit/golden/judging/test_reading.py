"""The judge's keys of task.yaml: strict, with file and line, and the same after a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flightlog.errors import GoldenError
from flightlog.golden.judging.rules import (
    ForbiddenCall,
    GradedRule,
    JudgeRules,
    NumberRule,
    Order,
    TemporalRule,
)
from flightlog.golden.task import GoldenTask, load_task, save_task
from flightlog.runtime.task import Task

HEAD = 'format: 1\ntask_id: "1"\njudge:\n'
FULL = JudgeRules(
    forbidden_tools=("admin_*",),
    forbidden_calls=(
        ForbiddenCall("refund", {"amount": {"minimum": 100}, "to": ["me", "you"]}),
        ForbiddenCall("drop*"),
    ),
    answer_contains=("5 USD",),
    answer_matches=(r"\d+",),
    answer_schema={"type": "object"},
    answer_numbers=(NumberRule(1, 2.5, regex=r"(\d+)"), NumberRule(0, 1, path="/a/0")),
    answer_functions=("checks:polite",),
    temporal=(
        TemporalRule(Order.NEVER_BEFORE, "ship", "pay"),
        TemporalRule(Order.AT_MOST, "look", calls=3, steps=5),
        TemporalRule(Order.NO_WRITE_AFTER_REFUSAL, "*"),
        TemporalRule(Order.MUST_FOLLOW, "look", "pay"),
    ),
    graded=(GradedRule("It is polite.", is_required=True), GradedRule("It is short.")),
)


def _read(tmp_path: Path, judge: str) -> JudgeRules:
    path = tmp_path / "task.yaml"
    path.write_text(HEAD + judge, encoding="utf-8")
    return load_task(path).judge


def test_every_rule_comes_back_as_it_was(tmp_path: Path) -> None:
    golden = GoldenTask(Task("1", ""), judge=FULL)
    save_task(golden, tmp_path / "task.yaml")
    assert load_task(tmp_path / "task.yaml") == golden


def test_the_short_and_the_old_form_of_texts_and_patterns_mean_the_same(tmp_path: Path) -> None:
    old = _read(tmp_path, "  answer_contains: [a]\n  answer_matches: [b]\n")
    new = _read(tmp_path, "  answer:\n    contains: a\n    matches: [b]\n")
    assert old == new == replace(JudgeRules(), answer_contains=("a",), answer_matches=("b",))


def test_one_rule_may_stand_without_a_list(tmp_path: Path) -> None:
    rules = _read(
        tmp_path,
        "  graded: {rubric: It is polite.}\n"
        "  answer:\n    number: {path: /n, within: [1, 1000]}\n    function: m:f\n",
    )
    assert rules.graded == (GradedRule("It is polite."),)
    assert rules.answer_numbers == (NumberRule(1, 1000, path="/n"),)
    assert rules.answer_functions == ("m:f",)


@pytest.mark.parametrize(
    ("judge", "line", "message"),
    [
        ("  answer:\n    contain: a\n", 5, "unknown key 'contain'"),
        ("  answer:\n    matches: ['(?=a)']\n", 5, "judge.answer.matches"),
        ("  answer_matches: ['(a)\\1']\n", 4, "judge.answer_matches"),
        ("  answer:\n    schema: {type: objekt}\n", 5, "objekt"),
        ("  answer:\n    number: {within: [1, 2]}\n", 5, "judge.answer.number.regex"),
        ("  answer:\n    number: {regex: a, path: /a, within: [1, 2]}\n", 5, "regex is 'a'"),
        ("  answer:\n    number: {regex: (a)(b), within: [1, 2]}\n", 5, "regex is"),
        ("  answer:\n    number: {path: a, within: [1, 2]}\n", 5, "path is 'a'"),
        ("  answer:\n    number: {path: /~2, within: [1, 2]}\n", 5, "path is '/~2'"),
        ("  answer:\n    number: {path: /a, within: [2, 1]}\n", 5, "within is"),
        ("  answer:\n    number: {path: /a, within: [.nan, 1]}\n", 5, "within is"),
        ("  answer:\n    number: {path: /a, within: [true, 1]}\n", 5, "within is"),
        ("  answer:\n    function: polite\n", 5, "judge.answer.function is 'polite'"),
        ("  forbidden_calls:\n    - args: {a: 1}\n", 5, "judge.forbidden_calls.0.tool"),
        ("  forbidden_calls:\n    - tool: a\n      arg: {}\n", 6, "unknown key 'arg'"),
        ("  forbidden_calls:\n    - tool: a\n      args: {a: {type: x}}\n", 6, "'x'"),
        ("  forbidden_calls:\n    - refund\n", 5, "must hold keys and values"),
        ("  temporal:\n    - nevr: a\n      before: b\n", 5, "no known kind"),
        ("  temporal:\n    - never: a\n      befor: b\n", 6, "unknown key 'befor'"),
        ("  temporal:\n    - never: a\n", 5, "before is None"),
        ("  temporal:\n    - at_most: -1\n      calls: a\n", 5, "at_most is -1"),
        ("  temporal:\n    - at_most: 1\n      calls: a\n      within_steps: 0\n", 7, "within_st"),
        ("  temporal:\n    - no_write_after_refusal: true\n", 5, "is True"),
        ("  graded:\n    - required: true\n", 5, "rubric is None"),
        ("  graded:\n    - rubric: a\n      required: maybe\n", 6, "required is 'maybe'"),
    ],
)
def test_a_mistake_names_file_line_and_key(
    tmp_path: Path, judge: str, line: int, message: str
) -> None:
    with pytest.raises(GoldenError) as caught:
        _read(tmp_path, judge)
    assert message in caught.value.what
    place, _, number = (caught.value.where or "").rpartition(":")
    assert place == str(tmp_path / "task.yaml")
    assert int(number) in (line, line - 1)
