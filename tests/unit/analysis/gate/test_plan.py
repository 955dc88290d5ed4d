"""What a suite can detect and prove, against what the gate then does."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.plan import detection, plan
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.gate.verdict import Decision
from flightlog.cli import run
from flightlog.errors import NothingToCompareError, UsageError
from flightlog.recorder.record import record

BASE = Side.parse("baseline")
CALLS = ("tool_calls_per_run",)


def noisy(pairs_of_runs, tasks, trials, *, factor=1.0, seed=0, **fields):
    """Runs whose numbers of tool calls vary by task and by run."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(8, 20, tasks)
    runs = []
    for run_ in pairs_of_runs(tasks, trials):
        mean = means[int(run_["task_id"][-2:])]
        mean *= factor if run_["variant"] == "candidate" else 1.0
        runs.append({**run_, "calls": int(rng.poisson(mean)), **fields})
    return runs


def planned(traces, names=CALLS, **how):
    return plan(traces, BASE, select_metrics(names), **how)


def test_more_trials_find_smaller_changes_and_prove_more(traces_of, pairs_of_runs):
    found = planned(traces_of(noisy(pairs_of_runs, 20, 4)), trials=(1, 2, 5, 20))
    reach = found.metrics[0].reach
    assert [one.trials for one in reach] == [1, 2, 5, 20]
    changes = [one.detectable for one in reach]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] > 0.10  # nothing within the tolerance is ever a drift
    chances = [one.ok_chance for one in reach]
    assert chances == sorted(chances)
    assert found.usd == pytest.approx([2 * 20 * k * 0.01 for k in (1, 2, 5, 20)])


def test_the_error_is_that_of_a_poisson_ratio(traces_of, pairs_of_runs):
    # Var(log ratio of sums) is 2 / (sum of means) at one trial per side.
    found = planned(traces_of(noisy(pairs_of_runs, 30, 40))).metrics[0]
    assert found.error == pytest.approx(math.sqrt(2 / (30 * 14)), rel=0.1)


def test_what_is_said_to_be_detectable_is_detected(traces_of, pairs_of_runs):
    found = planned(traces_of(noisy(pairs_of_runs, 20, 6)), trials=(3,))
    change = found.metrics[0].reach[0].detectable
    hits = 0
    for seed in range(30):
        runs = noisy(pairs_of_runs, 20, 3, factor=1 + change, seed=100 + seed)
        [calls] = compare(traces_of(runs), metrics=CALLS, shuffles=999).metrics
        hits += calls.decision is Decision.DRIFT
    # 80 %, less three standard errors of a share over 30.
    assert hits / 30 >= 0.80 - 3 * 0.073


def test_the_wanted_effect_gives_the_fewest_trials_that_find_it(traces_of, pairs_of_runs):
    traces = traces_of(noisy(pairs_of_runs, 10, 4))
    found = planned(traces, effects={CALLS[0]: 0.2}).metrics[0]
    [metric] = select_metrics(CALLS)
    z = 1.6448536
    effect = math.log1p(0.2)
    assert found.wanted > 1
    assert detection(metric, found.error, found.wanted, effect, z) >= 0.8
    assert detection(metric, found.error, found.wanted - 1, effect, z) < 0.8
    within = planned(traces, effects={CALLS[0]: 0.05}).metrics[0]
    assert within.wanted is None


def test_where_nothing_ever_fails_the_number_of_runs_bounds_what_may(traces_of, pairs_of_runs):
    found = planned(traces_of(pairs_of_runs(40, 2)), ["success"], trials=(1, 2))
    # 1 - 0.05 ** (1 / 40) is 7.2 points, and for 80 runs 3.7.
    assert [one.ok_chance for one in found.metrics[0].reach] == [0.0, 1.0]


def test_a_suite_too_small_for_ok_has_no_chance_of_it(traces_of, pairs_of_runs):
    found = planned(traces_of(pairs_of_runs(5, 2)), trials=(50,))
    assert found.metrics[0].reach[0].ok_chance == 0.0


def test_every_gated_metric_is_planned_or_named_as_unknown(traces_of, pairs_of_runs):
    runs = noisy(pairs_of_runs, 12, 3, cost_usd=None)
    gated = [metric for metric in METRICS if metric.gates]
    found = plan(traces_of(runs), BASE, gated)
    assert {one.metric.name for one in found.metrics} == {m.name for m in gated} - {"cost_usd"}
    assert [name for name, _ in found.unknown] == ["cost_usd"]
    assert set(found.usd) == {None}


def test_a_single_run_per_task_has_no_spread(traces_of, pairs_of_runs):
    with pytest.raises(NothingToCompareError, match="have a single run"):
        planned(traces_of(pairs_of_runs(10, 1)))


@pytest.mark.parametrize("how", [{"trials": ()}, {"trials": (0,)}, {"trials": (2000,)}])
def test_numbers_of_trials_that_mean_nothing_are_refused(traces_of, pairs_of_runs, how):
    with pytest.raises(UsageError):
        planned(traces_of(pairs_of_runs(6, 2)), **how)


@pytest.mark.parametrize("effects", [{"cost_usd": 0.2}, {CALLS[0]: 0}, {CALLS[0]: -1}])
def test_an_effect_is_a_rise_of_a_gated_metric(traces_of, pairs_of_runs, effects):
    with pytest.raises(UsageError, match="A gated metric and a share above 0"):
        planned(traces_of(pairs_of_runs(6, 2)), effects=effects)


def test_the_command_prints_both_tables_and_the_cheapest_number(tmp_path, capsys):
    for task in range(8):
        for trial in range(3):
            with record(
                tmp_path / "s", task_id=f"t{task}", variant="baseline", trial=trial
            ) as writer:
                writer.model_call(step=1, input_tokens=9, output_tokens=1, cost_usd=0.01)
                for _ in range(3 + (task * 7 + trial * 5) % 4):
                    writer.tool_call(step=1, tool_name="search")
    command = ["plan", "--store", str(tmp_path / "s"), "--effect", "tool_calls_per_run=30%"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "Smallest change for the worse" in out
    assert "Chance that OK is shown" in out
    assert "tool_calls_per_run worse by 30.0 %: found in 80 % of cases with" in out
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"][0]["name"] == "tool_calls_per_run"
    assert run([*command[:3], "--effect", "tool_calls_per_run"]) == 64
    assert run([*command[:3], "--trials", "1;2"]) == 64
