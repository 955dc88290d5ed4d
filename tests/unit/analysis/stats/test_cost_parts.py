from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from flightlog.analysis.gate.metrics import select_metrics
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge


def with_parts(sample, *, calls=1.0, tokens=1.0, price=1.0):
    """Known calls, tokens and cost; factors act on the candidate."""
    rng = np.random.default_rng(sample.seed)
    arm = sample.is_candidate
    n = np.maximum(1, np.round(sample.values["tool_calls_per_run"] * np.where(arm, calls, 1)))
    total = n * 800 * np.exp(rng.normal(0, 0.3, arm.size)) * np.where(arm, tokens, 1)
    usd = total * 3e-6 * np.exp(rng.normal(0, 0.01, arm.size)) * np.where(arm, price, 1)
    values = {
        **sample.values, "model_calls": n, "tokens": total, "cost_usd": usd,
        "usd_per_mtok": 1e6 * usd / total,
    }  # fmt: skip
    return dataclasses.replace(sample, values=values)


def parts_of(sample):
    metrics = select_metrics(["cost_usd"])
    return {part.name: part for part in judge(sample, metrics, Settings()).cost_parts}


def test_the_parts_multiply_to_the_change_of_the_cost(suite_of):
    sample = with_parts(suite_of(1, 30, 2), calls=1.3, tokens=1.2, price=1.1)
    judgement = judge(sample, select_metrics(["cost_usd"]), Settings())
    product = math.prod(part.change for part in judgement.cost_parts)
    assert product == pytest.approx(judgement.metrics[0].change)


def test_a_price_hidden_in_the_spread_of_the_tasks_is_bounded_tightly(suite_of):
    sample = with_parts(suite_of(1, 30, 1), price=1.1)
    price = parts_of(sample)["usd_per_mtok"]
    assert (price.lower, price.upper) == pytest.approx((1.1, 1.1), abs=0.02)
    [cost, usd] = judge(sample, select_metrics(["cost_usd", "usd_per_mtok"]), Settings()).metrics
    assert cost.decision is not Decision.DRIFT
    assert (usd.decision, usd.is_gated) == (Decision.DRIFT, False)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("model_calls", {"calls": 1.5}),
        ("tokens_per_call", {"tokens": 1.5}),
        ("usd_per_mtok", {"price": 1.5}),
    ],
)
def test_the_part_that_changed_is_the_one_whose_bounds_leave_1(suite_of, name, factors):
    parts = parts_of(with_parts(suite_of(2, 40, 3), **factors))
    assert [part for part, found in parts.items() if found.lower > 1.1] == [name]


def test_bounds_of_each_part_hold_the_true_change(suite_of):
    held = []
    for seed in range(150):
        found = parts_of(with_parts(suite_of(seed, 20, 2), tokens=1.2)).values()
        bounds = [(part.lower, part.upper) for part in found]
        held.append(
            [(a <= true, true <= b) for (a, b), true in zip(bounds, (1, 1.2, 1), strict=True)]
        )
    # One-sided 95 %, less three standard errors over 150 suites.
    assert np.mean(held, axis=0).min() >= 0.95 - 0.054


def test_unknown_tokens_leave_no_parts(suite_of):
    assert parts_of(suite_of(1, 10, 2)) == {}
