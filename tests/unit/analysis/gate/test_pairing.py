from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from flightlog.analysis.gate.pairing import pair
from flightlog.analysis.gate.selection import Side
from flightlog.errors import NothingToCompareError, UnknownNameError, UsageError


def paired(traces, baseline="baseline", candidate="candidate"):
    return pair(traces, Side.parse(baseline), Side.parse(candidate))


def test_one_row_per_run_with_the_values_of_its_agent(traces_of, pairs_of_runs):
    runs = pairs_of_runs(2, 1, calls=6, cost_usd=0.5, passed=False, stop_reason="max_steps")
    pairs = paired(traces_of(runs))
    sample = pairs.sample
    assert pairs.tasks == (("demo", "task-00"), ("demo", "task-01"))
    assert sample.task.tolist() == [0, 0, 1, 1]
    assert sample.is_candidate.tolist() == [False, True, False, True]
    assert sample.values["tool_calls_per_run"].tolist() == [4, 6, 4, 6]
    assert sample.values["cost_usd"].tolist() == [0.01, 0.5, 0.01, 0.5]
    assert sample.values["tokens_per_request"].tolist() == [100] * 4
    assert sample.values["success"].tolist() == [1, 0, 1, 0]
    assert sample.values["stop_reason"].tolist() == [0, 1, 0, 1]
    assert sample.counts["stop_mix"].names == ("ok", "max_steps")
    assert sample.counts["tool_mix"].names == ("search",)
    assert sample.counts["tool_mix"].table.ravel().tolist() == [4, 6, 4, 6]
    assert sample.series["latency_p95"].run.tolist() == [0, 1, 2, 3]
    assert sample.series["latency_p95"].value.tolist() == [100] * 4


def test_unknown_values_stay_unknown(traces_of, pairs_of_runs):
    runs = pairs_of_runs(1, 1, tokens=None, cost_usd=None, passed=None, latency_ms=[None, 5.0])
    pairs = paired(traces_of(runs))
    for name in ("tokens_per_request", "cost_usd", "success"):
        assert np.isnan(pairs.sample.values[name][1])
    latency = pairs.sample.series["latency_p95"]
    assert latency.value.tolist() == [100.0, 5.0]
    assert latency.unknown_run.tolist() == [1]


def test_the_order_of_the_store_does_not_matter(traces_of, pairs_of_runs):
    runs = [
        {**run, "calls": number % 5, "run_id": f"run-{number}"}
        for number, run in enumerate(pairs_of_runs(4, 3))
    ]
    one, other = paired(traces_of(runs)).sample, paired(traces_of(runs[::-1])).sample
    assert one.seed == other.seed
    assert one.values["tool_calls_per_run"].tolist() == other.values["tool_calls_per_run"].tolist()


def test_equal_task_ids_of_different_suites_are_different_tasks(traces_of, pairs_of_runs):
    runs = pairs_of_runs(2, 1)
    runs[0]["suite"] = "other"
    pairs = paired(traces_of(runs))
    assert pairs.tasks == (("demo", "task-01"),)
    assert [(t.suite, t.task_id, t.why) for t in pairs.lost_tasks] == [
        ("other", "task-00", "only in the baseline"),
        ("demo", "task-00", "only in the candidate"),
    ]


def test_a_task_whose_content_changed_is_not_compared(traces_of, pairs_of_runs):
    runs = pairs_of_runs(2, 1)
    runs[1]["task_digest"] = "v2"
    pairs = paired(traces_of(runs))
    assert pairs.tasks == (("demo", "task-01"),)
    whys = {t.why for t in pairs.lost_tasks}
    assert whys == {"task content differs between the sides"}


def test_runs_without_a_digest_pair_by_suite_and_id(traces_of, pairs_of_runs):
    runs = pairs_of_runs(3, 1)
    runs[0]["task_digest"] = None
    runs[2]["task_digest"] = runs[3]["task_digest"] = None
    pairs = paired(traces_of(runs))
    assert len(pairs.tasks) == 3
    assert pairs.lost_tasks == ()


def test_a_run_without_a_digest_is_left_out_of_a_task_with_two_versions(traces_of, pairs_of_runs):
    runs = pairs_of_runs(1, 3)
    for number, digest in enumerate(["v1", "v1", "v2", "v2", None, "v1"]):
        runs[number]["task_digest"] = digest
    pairs = paired(traces_of(runs))
    assert len(pairs.sample.task) == 5
    assert [t.why for t in pairs.lost_tasks] == [
        "no task digest, while the task has several versions"
    ]


def test_void_replays_and_running_runs_are_listed_and_not_compared(traces_of, pairs_of_runs):
    runs = pairs_of_runs(3, 2)
    runs[1]["stop_reason"] = "replay_miss"
    runs[2]["stop_reason"] = None
    runs[5]["stop_reason"] = runs[7]["stop_reason"] = "replay_miss"
    pairs = paired(traces_of(runs))
    assert [(s.run_id, s.side, s.why) for s in pairs.skipped_runs] == [
        ("run-0002", "baseline", "still running"),
        ("run-0001", "candidate", "void replay"),
        ("run-0005", "candidate", "void replay"),
        ("run-0007", "candidate", "void replay"),
    ]
    assert [(t.task_id, t.why) for t in pairs.lost_tasks] == [
        ("task-01", "no finished, valid run on one side")
    ]
    assert len(pairs.sample.task) == 6


@pytest.mark.parametrize("stop_reason", ["crashed", "cancelled"])
def test_a_replay_that_was_cut_off_is_void_and_a_live_run_is_not(
    traces_of, pairs_of_runs, stop_reason
):
    runs = pairs_of_runs(1, 3)
    runs[1].update(stop_reason=stop_reason, origin="replay")
    runs[3].update(stop_reason=stop_reason, origin="live")
    pairs = paired(traces_of(runs))
    assert [(s.run_id, s.why) for s in pairs.skipped_runs] == [("run-0001", "void replay")]
    assert "run-0003" in pairs.run_ids.to_pylist()


@pytest.mark.parametrize("stop_reason", ["crashed", "cancelled", None])
def test_a_trial_that_was_replayed_again_to_its_end_stands_for_the_one_cut_off(
    traces_of, pairs_of_runs, stop_reason
):
    runs = pairs_of_runs(1, 2)
    for run in runs:
        run.update(golden="task", origin="replay", at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    cut = {**runs[1], "stop_reason": stop_reason, "run_id": "cut", "passed": None}
    pairs = paired(traces_of([*runs, {**cut, "at": datetime(2026, 1, 1, tzinfo=UTC)}]))
    assert pairs.skipped_runs == ()
    assert "cut" not in pairs.run_ids.to_pylist()


@pytest.mark.parametrize(
    "other", [{"session_id": "t"}, {"golden": "g"}, {"trial": 9}, {"trial": None}]
)
def test_another_session_golden_or_trial_does_not_stand_for_the_one_cut_off(
    traces_of, pairs_of_runs, other
):
    runs = pairs_of_runs(1, 2)
    for run in runs:
        run.update(golden="task", origin="replay", at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC))
    cut = {**runs[1], "stop_reason": "crashed", "run_id": "cut", "passed": None, **other}
    pairs = paired(traces_of([*runs, {**cut, "at": datetime(2026, 1, 1, tzinfo=UTC)}]))
    assert [(s.run_id, s.why) for s in pairs.skipped_runs] == [("cut", "void replay")]


def test_a_replay_that_was_judged_void_is_not_compared_whatever_it_stopped_with(
    traces_of, pairs_of_runs
):
    runs = pairs_of_runs(1, 2)
    runs[1].update(validity="void: the model could not be reached", stop_reason="model_error")
    runs[3].update(validity="degraded: 1 served by stub")
    pairs = paired(traces_of(runs))
    assert [(s.run_id, s.why) for s in pairs.skipped_runs] == [("run-0001", "void replay")]


def test_runs_without_a_task_are_listed(traces_of, pairs_of_runs):
    runs = pairs_of_runs(2, 1)
    runs.append({**runs[0], "task_id": None, "run_id": "stray"})
    assert [t.why for t in paired(traces_of(runs)).lost_tasks] == ["runs without a task"]


def test_nothing_paired_says_what_each_side_holds(traces_of, pairs_of_runs):
    runs = pairs_of_runs(5, 1)
    for run in runs[::2]:
        run["suite"] = "other"
    with pytest.raises(NothingToCompareError) as caught:
        paired(traces_of(runs))
    assert "baseline has 5 runs of 5 tasks (other/task-00, other/task-01, " in str(caught.value)
    assert "candidate has 5 runs of 5 tasks (demo/task-00, " in str(caught.value)
    assert caught.value.exit_code == 2


def test_side_of_void_replays_alone_says_so_and_who_tells_why(traces_of, pairs_of_runs):
    runs = pairs_of_runs(2, 1)
    for run in runs:
        if run["variant"] == "candidate":
            run["stop_reason"] = "replay_miss"
    with pytest.raises(NothingToCompareError, match="2 of them void replays") as caught:
        paired(traces_of(runs))
    assert "flightlog replay" in caught.value.hint


def test_an_unknown_side_names_the_nearest(traces_of, pairs_of_runs):
    with pytest.raises(UnknownNameError, match="nearest: candidate"):
        paired(traces_of(pairs_of_runs(1, 1)), candidate="candidat")


def test_known_values_that_no_run_has_together_are_nothing_to_compare(traces_of, pairs_of_runs):
    runs = [{**run, "model": run["variant"][0]} for run in pairs_of_runs(1, 1)]
    with pytest.raises(NothingToCompareError, match="no run is candidate,model=b"):
        paired(traces_of(runs), candidate="candidate,model=b")


def test_a_run_on_both_sides_is_an_error(traces_of, pairs_of_runs):
    with pytest.raises(UsageError, match="4 runs are on both sides, such as run-0000"):
        paired(traces_of(pairs_of_runs(2, 2)), baseline="suite=demo", candidate="baseline")


@pytest.mark.parametrize("value", [math.inf, -1.0, math.nan])
def test_values_that_cannot_be_are_unknown(traces_of, pairs_of_runs, value):
    runs = pairs_of_runs(2, 1, cost_usd=value, latency_ms=[100.0, value])
    found = paired(traces_of(runs))
    assert np.isnan(found.sample.values["cost_usd"]).tolist() == [False, True] * 2
    latency = found.sample.series["latency_p95"]
    assert latency.value.tolist() == [100.0] * 4
    assert latency.unknown_run.tolist() == [1, 3]
