"""Every figure of tau-bench's 200 gpt-4o runs, from the store by SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SOURCE = "tau-bench/gpt-4o-airline"
USER_COST = """
    WITH costs AS (
        SELECT try_cast(labels['user_cost_usd'] AS DOUBLE) AS cost
        FROM runs WHERE source = $source
    )
    SELECT count(cost) AS n, favg(cost) AS mean, quantile_cont(cost, 0.5) AS p50,
        quantile_cont(cost, 0.95) AS p95, max(cost) AS max, fsum(cost) AS sum
    FROM costs
"""


@pytest.fixture(scope="module")
def stated(truth: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = truth["tau_bench"]
    return found


@pytest.fixture(scope="module", params=["native", "normalised"])
def airline(request: pytest.FixtureRequest, figures: Callable[..., Any]) -> Any:
    return figures(request.getfixturevalue(request.param), source=SOURCE)


def test_runs_tasks_and_trials_agree(airline: Any, stated: dict[str, Any]) -> None:
    [row] = airline.rows(
        "SELECT count(*) AS runs, count(DISTINCT task_id) AS tasks,"
        " count(DISTINCT trial) AS trials, count(*) FILTER (success) AS successes"
        " FROM runs WHERE source = $source"
    )
    assert row == {name: stated[name] for name in ("runs", "tasks", "trials", "successes")}
    assert airline.one("success_rate")["unknown"] == 0


@pytest.mark.parametrize("measure", ["pass_hat_k", "pass_at_k"])
def test_repeated_success_agrees(
    airline: Any, stated: dict[str, Any], measure: str, assert_rounds_to: Callable[..., None]
) -> None:
    rows = airline.ask(measure)
    assert [str(row["k"]) for row in rows] == list(stated[measure])
    for row in rows:
        assert_rounds_to(row[measure], stated[measure][str(row["k"])], 4)


def test_repeated_success_agrees_with_the_published_table(
    airline: Any, stated: dict[str, Any], assert_rounds_to: Callable[..., None]
) -> None:
    for row in airline.ask("pass_hat_k"):
        assert_rounds_to(row["pass_hat_k"], stated["published_pass_hat_k"][str(row["k"])], 3)


def test_tasks_by_number_of_successes_agree(airline: Any, stated: dict[str, Any]) -> None:
    found = airline.mapping("tasks_by_successes", "successes", "tasks")
    assert {str(key): tasks for key, tasks in found.items()} == stated[
        "tasks_by_number_of_successes"
    ]


@pytest.mark.parametrize(
    "question", ["tool_calls_per_run", "model_calls_per_run", "user_turns_per_run"]
)
def test_counts_per_run_agree(
    airline: Any, stated: dict[str, Any], question: str, assert_summary: Callable[..., None]
) -> None:
    assert_summary(airline.one(question), stated[question], 4)


def test_tool_histogram_agrees(airline: Any, stated: dict[str, Any]) -> None:
    assert airline.mapping("tool_histogram", "tool_name", "calls") == stated["tool_histogram"]


def test_tool_errors_agree(airline: Any, stated: dict[str, Any]) -> None:
    errors = airline.mapping("tool_errors", "tool_name", "errors")
    assert errors == stated["tool_error_results"]
    assert sum(errors.values()) == stated["tool_errors_total"]


def test_stop_reasons_agree(airline: Any, stated: dict[str, Any]) -> None:
    found = airline.mapping("stop_reasons", "source_stop_reason", "runs")
    assert found == stated["stop_reasons"]


def test_stop_reasons_are_told_in_our_words_too(airline: Any) -> None:
    assert airline.mapping("stop_reasons", "stop_reason", "runs") == {"ok": 195, "max_steps": 5}


def test_cost_of_the_user_simulator_agrees(
    airline: Any, stated: dict[str, Any], assert_summary: Callable[..., None]
) -> None:
    # The source states it per run only, and not for the agent: so it is a label.
    [row] = airline.rows(USER_COST)
    assert_summary(row, stated["user_simulator_cost_usd_per_run"], 6)


def test_what_the_source_does_not_say_is_unknown(airline: Any) -> None:
    assert airline.one("cost_per_run")["n"] == 0
    assert {row["n"] for row in airline.ask("tokens_per_call")} == {0}
    assert {row["n"] for row in airline.ask("latency_quantiles")} == {0}
