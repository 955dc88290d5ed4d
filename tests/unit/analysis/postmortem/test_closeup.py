"""One run on its own: what went wrong in it, and in which order."""

from __future__ import annotations

import pytest

from flightlog.analysis.postmortem import Postmortem, Scope, postmortem
from flightlog.errors import UnknownNameError
from tests.unit.analysis.made_events import Run, traces_of_runs


def of_run(run: Run, *others: Run) -> Postmortem:
    with traces_of_runs(run, *others) as traces:
        return postmortem(traces, Scope(run_ids=[run.run_id]))


def kinds(found: Postmortem) -> dict[str, str | None]:
    """Kind -> kind that explains it."""
    by_number = {one.number: one.kind for one in found.findings}
    return {
        one.kind: None if one.caused_by is None else by_number[one.caused_by]
        for one in found.findings
    }


def usual(number: int) -> Run:
    run = Run(f"usual-{number}", s=1_000.0 * number)
    return run.model(usd=0.01, input_tokens=100).tool("search").stop()


def test_a_run_as_usual_has_no_findings() -> None:
    found = of_run(usual(1), usual(2), usual(3))
    assert found.findings == ()
    assert found.runs == 1


def test_a_tool_that_fails_again_and_again_explains_the_calls_and_the_cost() -> None:
    run = Run("bad")
    for step in range(1, 81):
        run.model(step=step, usd=0.02).tool("browse", "failed", step=step, args="page")
    found = of_run(run.stop("max_usd"), *(usual(number) for number in range(1, 6)))
    assert kinds(found) == {
        "tool_failing": None,
        "runaway": "tool_failing",
        "loops": "tool_failing",
        "cost": "tool_failing",
        "stops": "tool_failing",
    }
    assert found.findings[0].title == "browse failed in 80 of 80 calls"
    assert found.load is not None
    assert [(one.of, one.name) for one in found.load.generators][:2] == [
        ("agent", "a"),
        ("run", "bad"),
    ]
    best = found.findings[0].remedies[0]
    assert best.setting == "guard no_progress: stop after 5 steps without anything new"
    # The first call tells that it fails; five more steps tell nothing new, and the sixth ends it.
    assert (best.first_call, best.tool_calls) == (6, 75)
    assert best.usd == pytest.approx(75 * 0.02)


def test_the_lost_policy_stands_between_the_cut_prompt_and_the_bad_write() -> None:
    run = Run("bad").model(step=1, input_tokens=1_000, has_policy=True, is_truncated=False)
    run.tool("search", step=1).model(
        step=2, input_tokens=9_000, has_policy=False, is_truncated=True
    )
    run.tool("refund", "ok", step=2, effect="write").stop()
    found = of_run(run)
    assert kinds(found) == {
        "prompt_growth": None,
        "truncated": "prompt_growth",
        "policy_lost": "truncated",
        "write_without_policy": "policy_lost",
    }
    [write] = [one for one in found.findings if one.kind == "write_without_policy"]
    assert write.title == "refund was called without the policy in step 2; it went through"
    assert write.evidence[0].seq == 4


def test_a_prompt_that_never_had_a_policy_has_lost_none() -> None:
    run = Run("plain")
    for step in range(1, 4):
        run.model(step=step, has_policy=False).tool("refund", step=step, effect="write")
    assert of_run(run.stop()).findings == ()


def test_writes_in_doubt_and_made_twice_are_told_apart() -> None:
    run = Run("bad").tool("pay", "timed_out", effect="write", args=1)
    run.tool("mail", effect="write", args=2).tool("mail", effect="write", args=2).stop()
    found = of_run(run)
    assert kinds(found) == {"in_doubt": None, "duplicate_writes": None}


def test_a_run_without_an_end_is_told() -> None:
    found = of_run(Run("open").model())
    assert [one.title for one in found.findings] == [
        "the run has no end: it still goes on, or its process died without a word"
    ]


def test_refusals_are_told_with_their_reason() -> None:
    run = Run("bad")
    for _ in range(3):
        run.tool("delete", "denied", error_type="tool_not_allowed")
    [finding] = of_run(run.stop()).findings
    assert finding.title == "delete was refused 3 times (tool_not_allowed)"


def test_a_run_that_is_not_there_is_an_error() -> None:
    with traces_of_runs(usual(1)) as traces, pytest.raises(UnknownNameError, match="unknown run"):
        postmortem(traces, Scope(run_ids=["usual-2"]))


def test_a_few_runs_are_looked_at_one_by_one_and_that_is_said() -> None:
    bad = Run("bad", s=5_000.0)
    for _ in range(6):
        bad.tool("search", "failed")
    with traces_of_runs(usual(1), usual(2), bad.stop()) as traces:
        found = postmortem(traces)
    assert [(one.subject, one.kind) for one in found.findings] == [("bad", "tool_failing")]
    assert "fewer than 20 runs" in found.notes[0]


def test_a_store_without_runs_has_no_findings() -> None:
    with traces_of_runs() as traces:
        found = postmortem(traces)
    assert (found.runs, found.findings, found.since) == (0, (), None)


def test_runs_that_do_not_say_when_are_left_out_and_counted() -> None:
    run = Run("timeless").tool("search").stop()
    for event in run.events:
        event.pop("s")
    with traces_of_runs(usual(1), run) as traces:
        found = postmortem(traces)
    assert found.runs == 1
    assert "1 runs do not say when they began, and were left out" in found.notes
