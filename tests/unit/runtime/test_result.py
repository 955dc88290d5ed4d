"""The result of a run, and its JSON form for web pages."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import AgentError
from flightlog.runtime.budget import Budget, Used
from flightlog.runtime.result import RESULT_SCHEMA, BudgetUse, RunContext, RunResult
from flightlog.testing import saying
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import NullSink
from flightlog.trace.vocab import StopReason

VALIDATOR = jsonschema_rs.Draft202012Validator(dict(RESULT_SCHEMA))
limits = st.none() | st.integers(0, 10**12)
amounts = st.none() | st.floats(0, allow_nan=False, allow_infinity=True) | st.integers(0, 10**12)
texts = st.none() | st.text(st.characters(exclude_categories=())) | st.just("</script>\u2028&")
results = st.builds(
    RunResult,
    run_id=st.text(),
    status=st.none(),
    answer=texts,
    stop_reason=st.sampled_from(StopReason),
    stop_tool=texts,
    stop_detail=texts,
    usage=st.builds(
        Used,
        steps=st.integers(0),
        seconds=st.floats(0, 1e12),
        tool_calls=st.integers(0),
        usd=st.none() | st.floats(0, 1e12),
        tokens=st.none() | st.integers(0),
    ),
    budget=st.builds(
        Budget,
        max_steps=limits,
        max_seconds=amounts,
        max_tool_calls=limits,
        max_usd=amounts,
        max_tokens=limits,
    ),
    writer=st.just(RunWriter(NullSink(), "run")),
).map(lambda one: result_of(one))  # noqa: PLW0108 - stands further down


def result_of(one: RunResult, **changed: Any) -> RunResult:
    """The result with the status that belongs to its reason."""
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__} | changed
    return RunResult(**(fields | {"status": fields["stop_reason"].status}))


def simple(**changed: Any) -> RunResult:
    writer = RunWriter(NullSink(), "run-1")
    base = RunResult(
        run_id="run-1",
        status=StopReason.OK.status,
        answer="42",
        stop_reason=StopReason.OK,
        stop_tool=None,
        stop_detail=None,
        usage=Used(steps=2, seconds=1.5, tool_calls=1, usd=None, tokens=None),
        budget=Budget(max_usd=0.5),
        writer=writer,
    )
    return result_of(base, **changed)


def test_the_json_form_of_a_run_is_this():
    assert json.loads(simple().to_json()) == {
        "format": 1,
        "run_id": "run-1",
        "status": "completed",
        "stop_reason": "ok",
        "stop_tool": None,
        "stop_detail": None,
        "message": "The agent finished and gave its answer.",
        "answer": "42",
        "partial": False,
        "budgets": {
            "max_steps": {"allowed": 30, "used": 2},
            "max_seconds": {"allowed": 90, "used": 1.5},
            "max_tool_calls": {"allowed": 15, "used": 1},
            "max_usd": {"allowed": 0.5, "used": None},
            "max_tokens": {"allowed": None, "used": None},
        },
    }


@given(results)
def test_the_json_form_fits_its_schema_whatever_the_run_held(result):
    text = result.to_json()
    VALIDATOR.validate(json.loads(text, parse_constant=pytest.fail))
    text.encode("utf-8")
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == result.as_dict()


def test_the_schema_describes_every_key_and_no_other():
    shown = simple().as_dict()
    assert list(RESULT_SCHEMA["properties"]) == list(shown)
    assert list(RESULT_SCHEMA["properties"]["budgets"]["properties"]) == list(shown["budgets"])
    jsonschema_rs.meta.validate(dict(RESULT_SCHEMA))


@pytest.mark.parametrize("gone", list(RESULT_SCHEMA["properties"]))
def test_the_schema_refuses_a_result_without_one_of_its_keys(gone):
    shown = simple().as_dict()
    del shown[gone]
    assert not VALIDATOR.is_valid(shown)


@pytest.mark.parametrize("reason", StopReason)
def test_a_run_is_partial_unless_it_came_to_its_end(reason):
    assert simple(stop_reason=reason).partial == (reason is not StopReason.OK)


def test_budgets_tell_what_was_allowed_and_used():
    budgets = simple().budgets
    assert budgets["max_seconds"] == BudgetUse(allowed=90, used=1.5)
    assert budgets["max_usd"] == BudgetUse(allowed=0.5, used=None)
    assert list(budgets) == list(Budget().limits())


def test_an_infinite_limit_is_none_in_json():
    result = simple(budget=Budget(max_seconds=math.inf))
    assert result.as_dict()["budgets"]["max_seconds"]["allowed"] is None


@pytest.mark.parametrize(
    ("detail", "is_shared"),
    [
        ("budget max_usd=1.0 of tenant 'acme' per 3600 s used up (1.0 spent by all).", True),
        ("budget max_usd=1.0 used up at step 3 (1.0 USD).", False),
        ("failed: budget max_usd=1.0 of tenant 'x'", False),
        (None, False),
    ],
)
def test_the_message_tells_a_shared_limit_from_the_run_s_own(detail, is_shared):
    message = simple(stop_reason=StopReason.MAX_USD, stop_detail=detail).message
    assert ("shares a limit" in message) == is_shared


def test_the_message_holds_nothing_of_the_detail():
    detail = "tool call 'pay' at step 2: Error: password=hunter2"
    result = simple(stop_reason=StopReason.TOOL_FAILED, stop_tool="pay", stop_detail=detail)
    assert result.message == 'The agent stopped because the tool "pay" failed.'
    assert result.stop == "tool_failed:pay"


def test_a_result_of_a_run_has_its_json_form(play):
    result = play([saying("hello")])
    VALIDATOR.validate(json.loads(result.to_json()))
    assert result.as_dict()["answer"] == "hello"


@pytest.mark.parametrize("field", [{"tenant": 7}, {"run_id": b"r"}, {"trial": True}])
def test_a_context_of_the_wrong_type_is_refused(field):
    with pytest.raises(AgentError, match=next(iter(field))):
        RunContext(**field)
