"""What an answer must be: by schema, number, pattern, own check; hostile answers end quickly."""

from __future__ import annotations

from typing import Any

import pytest

from flightlog.errors import GoldenError
from flightlog.golden.judging.answers import JudgedRun, check_functions, problems_of_answer
from flightlog.golden.judging.rules import JudgeRules, NumberRule
from flightlog.runtime.task import Task
from flightlog.trace.vocab import StopReason

HERE = "tests.unit.golden.judging.test_answers"
TOTAL = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}


def problems(answer: str, **rules: Any) -> list[str]:
    run = JudgedRun(Task("t", "Do it."), answer, StopReason.OK, ())
    return list(problems_of_answer(JudgeRules(**rules), run))


def says_yes(run: JudgedRun) -> bool:
    return run.answer == "yes"


def says_why(run: JudgedRun) -> str:
    return f"{run.answer} is rude"


def asserts(run: JudgedRun) -> bool:
    assert run.answer == "yes", "must be yes"
    return True


def breaks(run: JudgedRun) -> bool:
    raise KeyError(run.answer)


def forgets(run: JudgedRun) -> None:
    return None


def test_texts_and_patterns_must_be_in_the_answer() -> None:
    assert problems("5 USD", answer_contains=("USD",), answer_matches=(r"^\d+ ",)) == []
    assert problems("5 EUR", answer_contains=("USD",)) == ["the answer does not contain 'USD'"]
    assert problems("x", answer_matches=("y+",)) == ["the answer does not match 'y+'"]


def test_a_catastrophic_pattern_takes_linear_time_on_a_huge_answer() -> None:
    assert problems("a" * 2_000_000 + "!", answer_matches=("^(a+)+$",))


def test_a_lone_surrogate_in_the_answer_is_no_error() -> None:
    assert problems("\ud800 5", answer_matches=("5",)) == []


def test_the_schema_is_checked_on_the_json_of_the_answer() -> None:
    assert problems('{"total": 5}', answer_schema=TOTAL) == []
    assert "is not of type" in problems('{"total": "5"}', answer_schema=TOTAL)[0]


@pytest.mark.parametrize(
    "answer", ["", "Done.", '{"total": NaN}', '{"total": Infinity}', "[" * 100_000, "1" * 5000]
)
def test_an_answer_that_is_not_json_does_not_fit_a_schema(answer: str) -> None:
    (problem,) = problems(answer, answer_schema=TOTAL)
    assert "it is not JSON" in problem
    assert len(problem) < 300


def test_a_schema_whose_check_would_take_for_ever_ends_as_a_problem() -> None:
    schema = {"type": "array", "uniqueItems": True}
    answer = "[" + ",".join(f'{{"a": [{n}]}}' for n in range(50_000)) + ", 1, 1]"
    assert problems(answer, answer_schema=schema)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("total 39.00", ""),
        ("total 38.5", ""),
        ("total 3900.00", "'3900.00', not within 38.5 and 39.5"),
        ("total 1e999", "no number"),
        ("total nan", "no number"),
        ("total ٣٩", "no number"),
        ("nothing", "has no number"),
    ],
)
def test_a_number_found_by_a_pattern_must_be_within(answer: str, problem: str) -> None:
    found = problems(answer, answer_numbers=(NumberRule(38.5, 39.5, regex=r"total (\S+)"),))
    assert problem in "".join(found)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"a/b": [1, 39]}', ""),
        ('{"a/b": [1, 3900]}', "3900, not within"),
        ('{"a/b": [1, true]}', "true, which is no number"),
        ('{"a/b": [1, "39"]}', "no number"),
        ('{"a/b": [1, 1e999]}', "no number"),
        ('{"a/b": [1]}', "has no '/a~1b/1'"),
        ("39", "has no '/a~1b/1'"),
        ("NaN", "is not JSON"),
        ('{"a/b": [1, ' + "9" * 4000 + "]}", "not within"),
    ],
)
def test_a_number_found_by_a_json_pointer_must_be_within(answer: str, problem: str) -> None:
    found = problems(answer, answer_numbers=(NumberRule(38, 40, path="/a~1b/1"),))
    assert problem in "".join(found)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("says_yes", "it does not hold"),
        ("says_why", "no is rude"),
        ("asserts", "must be yes"),
        ("breaks", "it raised KeyError: 'no'"),
        ("forgets", "give True, False, or a text"),
    ],
)
def test_an_own_check_passes_only_by_saying_true(name: str, problem: str) -> None:
    (found,) = problems("no", answer_functions=(f"{HERE}:{name}",))
    assert found.startswith(f"check {HERE}:{name}: ")
    assert problem in found


def test_an_own_check_that_says_true_passes() -> None:
    assert problems("yes", answer_functions=(f"{HERE}:says_yes", f"{HERE}:asserts")) == []


def test_an_own_check_that_is_not_there_is_an_error_before_the_replay() -> None:
    rules = JudgeRules(answer_functions=(f"{HERE}:says_yess",))
    with pytest.raises(GoldenError, match="has no 'says_yess'") as caught:
        check_functions(rules, where="goldens/t")
    assert "says_yes" in caught.value.hint
