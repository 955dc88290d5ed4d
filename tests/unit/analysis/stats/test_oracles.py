"""The statistics of the gate beside scipy and statsmodels, which know nothing of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from flightlog.analysis.gate.metrics import select_metrics
from flightlog.analysis.gate.reliability import reliability_of, share_interval
from flightlog.analysis.stats.bounds import wilson_upper
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.family import adjusted
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.sample import Sample
from flightlog.analysis.stats.scores import midranks, midranks_within


def test_midranks_are_those_of_scipy():
    values = np.random.default_rng(1).integers(0, 9, 200).astype(float)
    assert midranks(values) == pytest.approx(stats.rankdata(values))
    task = np.repeat(np.arange(20), 10)
    apart = np.concatenate([stats.rankdata(part) for part in np.split(values, 20)])
    assert midranks_within(values, task) == pytest.approx(apart)


def test_one_trial_per_task_is_the_exact_sign_flip_test_of_scipy(sample_of, judged):
    # With one trial a side the within-task ranks are signs, and all four scores flip with them.
    rng = np.random.default_rng(2)
    for tasks in (6, 8, 10):
        base = rng.poisson(8, tasks).astype(float)
        cand = base + rng.integers(-2, 4, tasks)
        sample = sample_of([[b] for b in base], [[max(0.0, c)] for c in cand])
        found = judge(sample, select_metrics(["success"]), Settings()).method
        assert (found.is_exact, found.labellings) == (True, 2**tasks)
    # All tasks alike: every score is the sign itself, so the largest of four is that, too.
    base = np.full(8, 4.0)
    cand = base + np.array([1, 1, 1, 1, 1, 1, -1, 1])
    verdict = judged(sample_of([[b] for b in base], [[c] for c in cand]))
    oracle = stats.permutation_test(
        (cand, base), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        alternative="greater", vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert verdict.p_worse == pytest.approx(oracle.pvalue)


def test_success_within_tasks_is_the_conditional_test_of_cochran_mantel_and_haenszel():
    rng = np.random.default_rng(3)
    tasks, trials = 40, 4
    rate = rng.beta(2, 2, tasks)
    passed = rng.random((tasks, 2 * trials)) < np.repeat(rate[:, None], 2 * trials, 1)
    passed[:, trials:] &= rng.random((tasks, trials)) < 0.75
    arm = np.tile(np.repeat([False, True], trials), tasks)
    sample = Sample(
        np.repeat(np.arange(tasks), 2 * trials), arm, {"success": passed.ravel().astype(float)},
        session=np.zeros(arm.size, np.int64),
    )  # fmt: skip
    [found] = judge(sample, select_metrics(["success"]), Settings()).metrics
    tables = [
        [
            [(~row[trials:]).sum(), row[trials:].sum()],
            [(~row[:trials]).sum(), row[:trials].sum()],
        ]
        for row in passed
    ]
    oracle = StratifiedTable([np.array(one, float) for one in tables])
    two_sided = float(oracle.test_null_odds(correction=True).pvalue)
    # The candidate is the worse one, so one side holds half of the two-sided p-value.
    assert found.p_worse == pytest.approx(two_sided / 2, abs=0.01)


def test_min_p_of_independent_metrics_is_holm_s_and_never_above_it():
    rng = np.random.default_rng(4)
    statistics = rng.normal(size=(20_000, 5))
    statistics[0] = [3.0, 2.4, 1.0, 0.2, -1.0]
    plain = [float(np.mean(column >= column[0])) for column in statistics.T]
    holm = multipletests(plain, method="holm")[1]
    sidak = multipletests(plain, method="holm-sidak")[1]
    ours = adjusted(statistics)
    assert np.all(ours <= holm + 0.005)
    assert ours == pytest.approx(sidak, abs=0.02)


@pytest.mark.parametrize(("passed", "tasks"), [(0, 10), (3, 10), (10, 10), (50, 80)])
def test_the_interval_of_a_share_is_wilson_s_where_tasks_have_one_trial(passed, tasks):
    by_task = np.array([1.0] * passed + [0.0] * (tasks - passed))
    found = share_interval(by_task)
    # Tasks with one trial are a binomial sample; its variance is taken with n - 1.
    observations = tasks if passed in (0, tasks) else tasks - 1
    count = passed / tasks * observations
    low, high = proportion_confint(count, observations, method="wilson")
    assert (found.lower, found.upper) == pytest.approx((low, high))


def test_wilson_s_upper_bound_is_that_of_statsmodels():
    for events, n in ((0, 20), (3, 40), (20, 20)):
        _, high = proportion_confint(events, n, alpha=0.10, method="wilson")
        assert wilson_upper(events, n, 0.05) == pytest.approx(high)


def test_pass_hat_k_and_pass_at_k_are_hypergeometric(sample_of):
    rng = np.random.default_rng(5)
    passed = rng.random((12, 4)) < 0.6
    sample = sample_of(
        [[1] * 4] * 12, [[1] * 4] * 12,
        values={"success": np.concatenate([np.tile(row, 2) for row in passed]).astype(float)},
    )  # fmt: skip
    base, _ = reliability_of(sample)
    successes = passed.sum(axis=1)
    for one in base.pass_rates:
        chance = stats.hypergeom(4, successes, one.k)
        assert one.all_pass.estimate == pytest.approx(np.mean(chance.pmf(one.k)))
        assert one.any_pass.estimate == pytest.approx(np.mean(1 - chance.pmf(0)))
    assert [one.k for one in base.pass_rates] == [1, 2, 3, 4]


def test_the_cost_of_a_success_covers_the_truth(suite_of):
    inside = []
    for seed in range(100):
        found = reliability_of(suite_of(seed, 40, 2))
        truth = reliability_of(suite_of(10_000 + seed, 400, 2))
        one = found[0].cost_per_success_usd
        inside.append(one.lower <= truth[0].cost_per_success_usd.estimate <= one.upper)
    # 95 %, less three standard errors over 100, and the error of the truth itself.
    assert np.mean(inside) >= 0.95 - 3 * 0.022 - 0.03


def test_without_a_success_its_cost_is_unknown(sample_of):
    runs = 6 * 4
    sample = sample_of([[1, 1]] * 6, [[1, 1]] * 6, values={"success": np.zeros(runs)})
    assert {one.cost_per_success_usd for one in reliability_of(sample)} == {None}
