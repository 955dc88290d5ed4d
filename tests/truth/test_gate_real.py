"""The gate on real runs: it agrees with the published differences, and does not cry wolf."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.verdict import Decision, Verdict

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SPLITS = 60


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gate_real", BENCHMARKS / "gate_real.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def real(
    bench: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traces]:
    with Traces(bench.import_real(tmp_path_factory.mktemp("real"))) as traces:
        yield traces


@pytest.fixture(scope="module")
def verdicts(bench: ModuleType, real: Traces) -> dict[str, Verdict]:
    return {
        pair.name: compare(real, pair.baseline, pair.candidate, shuffles=999)
        for pair in bench.PAIRS
    }


def test_every_published_pair_is_compared(bench: ModuleType, truth: dict[str, Any]) -> None:
    stated = {pair["name"] for pair in truth["paired_drift"]}
    assert stated == {pair.name for pair in bench.PAIRS}


def test_tasks_and_successes_are_the_published_ones(
    verdicts: dict[str, Verdict], truth: dict[str, Any]
) -> None:
    for pair in truth["paired_drift"]:
        verdict = verdicts[pair["name"]]
        assert verdict.task_count == pair["tasks_paired"]
        [success] = [m for m in verdict.metrics if m.name == "success"]
        assert success.change is not None
        moved = (pair["fail_to_pass"] - pair["pass_to_fail"]) / pair["tasks_paired"]
        assert success.change == pytest.approx(moved)


def test_success_moves_where_it_was_published_to_and_nowhere_else(
    verdicts: dict[str, Verdict], truth: dict[str, Any]
) -> None:
    for pair in truth["paired_drift"]:
        [success] = [m for m in verdicts[pair["name"]].metrics if m.name == "success"]
        p, rose = pair["mcnemar_exact_p"], pair["B"]["success"] > pair["A"]["success"]
        if p < 0.01:
            wanted = Decision.IMPROVED if rose else Decision.DRIFT
            assert success.decision is wanted, pair["name"]
        elif p > 0.05:
            assert success.decision in (Decision.OK, Decision.INCONCLUSIVE), pair["name"]


def test_an_unknown_price_is_no_saving(verdicts: dict[str, Verdict], truth: dict[str, Any]) -> None:
    for pair in truth["paired_drift"]:
        [cost] = [m for m in verdicts[pair["name"]].metrics if m.name == "cost_usd"]
        if pair["A"]["cost_all_zero"] or pair["B"]["cost_all_zero"]:
            assert cost.decision is Decision.UNAVAILABLE, pair["name"]


def test_three_times_the_tool_calls_are_a_drift_although_more_tasks_succeed(
    verdicts: dict[str, Verdict],
) -> None:
    verdict = verdicts["sierra gpt-4.1 -> fine-tuned gpt-4.1, telecom"]
    found = {m.name: m for m in verdict.metrics}
    assert verdict.decision is Decision.DRIFT
    assert found["tool_calls_per_run"].change == pytest.approx(16.4 / 5.175)
    assert found["tool_mix"].decision is Decision.DRIFT
    assert any("get_details_by_id" in one.text for one in verdict.explanations)


def test_random_halves_of_unchanged_runs_are_no_drift(bench: ModuleType, real: Traces) -> None:
    # 5 % and two standard errors.
    assert bench.drift_share(real, SPLITS) <= 0.05 + 2 * (0.05 * 0.95 / SPLITS) ** 0.5
