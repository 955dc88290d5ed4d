"""The view `findings`: each kind, worked out by hand."""

from __future__ import annotations

from typing import Any

from tests.unit.analysis.made_events import Run, traces_of_runs


def findings(*runs: Run) -> list[tuple[Any, ...]]:
    """Finding, event, tool, times and detail of each row."""
    names = ("finding", "seq", "tool_name", "times", "detail")
    with traces_of_runs(*runs) as traces:
        return [tuple(row[name] for name in names) for row in traces.table("findings").to_pylist()]


def test_a_run_as_usual_has_none() -> None:
    run = Run("r").model(input_tokens=100, has_policy=True).tool("a").tool("b", effect="write")
    assert findings(run.stop().judged(passed=True)) == []


def test_a_tool_fails_in_half_of_five_calls() -> None:
    run = Run("r")
    for outcome in ("ok", "failed", "timed_out", "failed", "invalid_output", "failed", "ok"):
        run.tool("t", outcome)
    assert findings(run.stop()) == [("tool_failing", 2, "t", 5, None)]


def test_repeats_and_writes_made_twice() -> None:
    run = Run("r")
    for _ in range(3):
        run.tool("t", args=1, told="x")
    for told in "abc":
        run.tool("poll", args=1, told=told)
    run.tool("w", effect="write", args=1, told="x").tool("w", effect="write", args=1, told="x")
    assert findings(run.stop()) == [
        ("duplicate_write", 7, "w", 2, None),
        ("repeated_call", 1, "t", 3, None),
    ]


def test_retries_refusals_and_doubt() -> None:
    run = Run("r").tool("t", "failed", args=1)
    for attempt in range(2, 8):
        run.tool("t", "ok", args=1, attempt=attempt)
    run.tool("x", "denied", error_type="tool_not_allowed").tool("x", "denied")
    run.tool("w", "timed_out", effect="write")
    assert findings(run.stop()) == [
        ("in_doubt", 10, "w", 1, None),
        ("refused", 8, "x", 1, "tool_not_allowed"),
        ("refused", 9, "x", 1, "denied"),
        ("retried", 2, None, 6, None),
    ]


def test_the_prompt_grows_is_cut_and_loses_the_policy_and_then_comes_a_write() -> None:
    run = Run("r").model(input_tokens=2_000, has_policy=True, is_truncated=False)
    run.model(input_tokens=9_000, has_policy=False, is_truncated=True).tool("w", effect="write")
    assert findings(run.stop()) == [
        ("policy_lost", 2, None, 1, None),
        ("prompt_growth", 2, None, 4, None),
        ("truncated", 2, None, 1, None),
        ("write_without_policy", 3, "w", 1, "ok"),
    ]


def test_a_prompt_that_never_had_a_policy_has_lost_none() -> None:
    assert findings(Run("r").model(has_policy=False).tool("w", effect="write").stop()) == []


def test_ends_and_judgements() -> None:
    open_run = Run("a").model()
    failed = Run("b", s=50).tool("t").stop("max_steps").judged(passed=False)
    assert findings(open_run, failed) == [
        ("no_answer", None, None, 1, "none"),
        ("judged_failure", None, None, 1, None),
        ("no_answer", None, None, 1, "max_steps"),
    ]


def test_it_is_a_view_like_the_others() -> None:
    with traces_of_runs(Run("r", agent="desk", tenant="acme").model()) as traces:
        [row] = traces.table("findings").to_pylist()
        assert (row["agent"], row["tenant"], row["run_id"]) == ("desk", "acme", "r")
        assert traces.frame("findings").height == 1
