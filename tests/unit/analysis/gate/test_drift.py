from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.verdict import TASK_LIMIT, Decision
from flightlog.analysis.reports.render import FORMS, render
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Problem
from flightlog.runtime.loop import RunContext
from flightlog.runtime.task import Task
from flightlog.testing import make_run


def by_name(verdict):
    return {m.name: m for m in verdict.metrics}


def test_unchanged_runs_are_ok(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(30, 2)))
    assert verdict.decision is Decision.OK
    assert verdict.headline == "OK: all 7 gated metrics lie within tolerance over 30 tasks."
    assert verdict.exit_code(strict=True) == 0
    assert (verdict.baseline_runs, verdict.candidate_runs, verdict.task_count) == (60, 60, 30)
    assert verdict.method.strata == "task and session"


def test_more_calls_are_a_drift_that_exits_1(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(10, 2, calls=5)))
    assert verdict.decision is Decision.DRIFT
    assert verdict.exit_code() == 1
    assert verdict.worst_metric == "tool_calls_per_run"
    assert verdict.headline == (
        "DRIFT: tool_calls_per_run rose 25.0 % (at least +25.0 %, tolerance 10 %), over 10 tasks."
    )


def test_tasks_that_did_not_move_are_not_listed_as_moved(traces_of, pairs_of_runs):
    assert compare(traces_of(pairs_of_runs(3, 2))).tasks == ()


def test_the_tasks_that_moved_most_come_first(traces_of, pairs_of_runs):
    runs = pairs_of_runs(10, 2, calls=5)
    for run in runs:
        if run["task_id"] == "task-07" and run["variant"] == "candidate":
            run["calls"] = 9
    tasks = compare(traces_of(runs)).tasks
    assert (tasks[0].task_id, tasks[0].baseline, tasks[0].candidate) == ("task-07", 4.0, 9.0)
    assert tasks[0].share == pytest.approx(5 / 14)
    assert sum(task.share for task in tasks) == pytest.approx(1.0)


def test_an_undecided_check_fails_only_when_strict(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(8, 1)))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert verdict.exit_code() == 0
    assert verdict.exit_code(strict=True) == 2
    assert "not settled" in verdict.headline


def test_a_likely_drift_can_be_let_through(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2)
    for number, run in enumerate(run for run in runs if run["variant"] == "candidate"):
        run["calls"] = 7 if number % 10 < 2 else 4
    verdict = compare(traces_of(runs))
    assert by_name(verdict)["tool_calls_per_run"].strength == "likely"
    assert verdict.exit_code() == 1
    assert verdict.exit_code(confirmed_only=True) == 0
    assert verdict.exit_code(confirmed_only=True, strict=True) == 2


def test_a_lost_task_forbids_ok(traces_of, pairs_of_runs):
    runs = pairs_of_runs(31, 2)[:-2]
    runs = [run for run in runs if (run["task_id"], run["variant"]) != ("task-30", "candidate")]
    verdict = compare(traces_of(runs))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert {m.decision for m in verdict.metrics if m.is_gated} == {Decision.OK}
    assert [(t.task_id, t.why) for t in verdict.lost_tasks] == [("task-30", "only in the baseline")]
    assert "1 task without runs on both sides" in verdict.headline


def test_a_void_replay_is_listed_and_forbids_ok(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 3)
    runs[1].update(stop_reason="replay_miss", calls=500)
    verdict = compare(traces_of(runs))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert [(run.run_id, run.why) for run in verdict.skipped_runs] == [("run-0001", "void replay")]
    assert by_name(verdict)["tool_calls_per_run"].decision is Decision.OK
    assert "1 run void or unfinished" in verdict.headline
    assert verdict.exit_code() == 2  # nobody has judged that change


def test_a_degraded_replay_counts_and_is_named(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 3)
    runs[1].update(origin="replay", validity="degraded: 2 calls by a weaker matcher")
    verdict = compare(traces_of(runs))
    assert verdict.decision is Decision.OK
    assert verdict.candidate_runs == 90
    [note] = verdict.notes
    assert note.startswith("1 compared replay is degraded: run-0001 (candidate): degraded: 2 calls")


def test_an_unrecorded_metric_forbids_ok(traces_of, pairs_of_runs):
    runs = [{**run, "cost_usd": None} for run in pairs_of_runs(30, 2)]
    verdict = compare(traces_of(runs))
    assert by_name(verdict)["cost_usd"].decision is Decision.UNAVAILABLE
    assert verdict.decision is Decision.INCONCLUSIVE
    chosen = compare(traces_of(runs), metrics=["tool_calls_per_run", "stop_reason"])
    assert chosen.decision is Decision.OK


def test_a_crash_is_a_bad_stop_and_not_a_missing_run(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2, stop_reason="crashed", passed=None)
    found = by_name(compare(traces_of(runs)))
    assert found["stop_reason"].decision is Decision.DRIFT
    assert (found["stop_reason"].baseline, found["stop_reason"].candidate) == (0.0, 1.0)
    assert found["success"].decision is Decision.UNAVAILABLE
    assert "evaluation(" in found["success"].advice


def test_sides_without_a_shared_session_are_confounded(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2, session_id="another", cost_usd=0.05, latency_ms=[900.0])
    verdict = compare(traces_of(runs))
    assert verdict.is_confounded
    assert verdict.notes[0].startswith("CONFOUNDED")
    assert by_name(verdict)["cost_usd"].decision is Decision.DRIFT
    assert verdict.decision is Decision.OK
    assert compare(traces_of(runs), interleaved=True).decision is Decision.DRIFT


def test_problems_of_the_store_are_notes(traces_of, pairs_of_runs):
    problem = Problem(Path("journal/a"), "torn tail")
    verdict = compare(traces_of(pairs_of_runs(6, 1), [problem]))
    assert "Store store: journal/a: torn tail" in verdict.notes


def test_another_mix_of_stop_reasons_is_an_advisory_drift(traces_of, pairs_of_runs):
    runs = pairs_of_runs(12, 2, stop_reason="kill_switch")
    for run in runs:
        run.setdefault("stop_reason", "max_steps")
    found = by_name(compare(traces_of(runs)))["stop_mix"]
    assert found.decision is Decision.DRIFT
    assert not found.is_gated
    assert found.moved == "kill_switch 0.0 % -> 100.0 %, max_steps 100.0 % -> 0.0 %"


def test_storms_are_listed(traces_of, pairs_of_runs):
    runs = pairs_of_runs(10, 2)
    for number in (1, 5, 9):
        runs[number]["calls"] = 100
    verdict = compare(traces_of(runs))
    assert [spike.run_id for spike in verdict.spikes] == ["run-0001", "run-0005", "run-0009"]
    assert {spike.threshold for spike in verdict.spikes} == {20.0}
    assert "storm" in verdict.headline


def test_only_the_metrics_asked_for_are_compared(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(30, 2, calls=9))
    assert [m.name for m in compare(traces, metrics=["success"]).metrics] == ["success"]
    with pytest.raises(UnknownNameError, match="nearest: success"):
        compare(traces, metrics=["sucess"])


def test_an_advisory_metric_alone_cannot_give_ok(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(30, 2)), metrics=["tokens_per_request"])
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "no metric asked for can fail a check here" in verdict.headline


def test_the_same_runs_in_another_order_give_the_same_bytes(traces_of, pairs_of_runs):
    runs = [
        {**run, "calls": 3 + number % 4, "run_id": f"run-{number}"}
        for number, run in enumerate(pairs_of_runs(10, 2))
    ]
    one, other = compare(traces_of(runs)), compare(traces_of(runs[::-1]))
    for form in FORMS:
        assert render(one, form) == render(other, form)


def test_long_task_lists_are_cut(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(TASK_LIMIT + 5, 1, calls=5)))
    assert len(verdict.tasks) == TASK_LIMIT
    assert verdict.task_count == TASK_LIMIT + 5


def record_suite(path, calls):
    context = RunContext(session_id="s")
    with Recorder(path) as recorder:
        for number in range(6):
            task = Task(f"task-{number}", "Find it.")
            searches = [("search", {"query": str(n)}, "found") for n in range(calls)]
            make_run(recorder, task=task, calls=searches, context=context)


def test_two_recorded_stores_are_compared(tmp_path):
    record_suite(tmp_path / "one", 2)
    record_suite(tmp_path / "two", 3)
    sides = [f"store={tmp_path / name}" for name in ("one", "two")]
    with Traces(tmp_path / "one", tmp_path / "two") as traces:
        verdict = compare(traces, *sides)
    assert verdict.decision is Decision.DRIFT
    assert by_name(verdict)["tool_calls_per_run"].change == pytest.approx(1.5)
    assert by_name(verdict)["latency_p95"].change == pytest.approx(1.0)
    assert (verdict.baseline, verdict.candidate) == tuple(sides)


def test_a_copied_store_is_not_compared_with_itself(tmp_path):
    record_suite(tmp_path / "one", 2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with (
        Traces(tmp_path / "one", tmp_path / "two") as traces,
        pytest.raises(UsageError, match="more than one of the stores"),
    ):
        compare(traces, f"store={tmp_path / 'one'}", f"store={tmp_path / 'two'}")


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0}, {"alpha": 0.9}, {"alpha": float("nan")}, {"shuffles": 998}]
)
def test_settings_out_of_range_are_refused(traces_of, pairs_of_runs, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        compare(traces_of(pairs_of_runs(6, 1)), **wrong)
