"""Every figure of AgentDojo's 29 pipelines without an attack, from the store by SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SOURCE = "agentdojo"
NO_ATTACK = "none"
RUNS = """
    SELECT agent, model, variant, count(*) AS runs,
        count(*) FILTER (task_id LIKE '%/user_task_%') AS scored_user_task_runs,
        count(*) FILTER (success AND task_id LIKE '%/user_task_%')
            / nullif(scored_user_task_runs, 0) AS utility_rate
    FROM runs WHERE source = 'agentdojo' GROUP BY ALL
"""
ERROR_TYPES = """
    SELECT error_type, count(*) AS errors FROM tool_calls
    WHERE source = 'agentdojo' AND outcome = 'failed'
        AND model = $model AND variant = $variant
    GROUP BY ALL
"""


def test_every_pipeline_is_found(normalised: Any, truth: dict[str, Any]) -> None:
    found = {f"{row['agent']}|{NO_ATTACK}" for row in normalised.rows(RUNS)}
    assert found == set(truth["agentdojo"]["per_pipeline_benign"])


@pytest.fixture(scope="module")
def pipelines(
    normalised: Any, truth: dict[str, Any], figures: Callable[..., Any]
) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Per pipeline: answers of the store, its row of counts, and the stated figures."""
    found = []
    for row in normalised.rows(RUNS):
        stated = truth["agentdojo"]["per_pipeline_benign"][f"{row['agent']}|{NO_ATTACK}"]
        chosen = {"source": SOURCE, "model": row["model"], "variant": row["variant"]}
        found.append((figures(normalised, **chosen), row, stated))
    return found


def test_runs_and_utility_agree(
    pipelines: list[Any], assert_rounds_to: Callable[..., None]
) -> None:
    for _, row, stated in pipelines:
        assert row["runs"] == stated["runs"], row
        assert row["scored_user_task_runs"] == stated["scored_user_task_runs"], row
        assert_rounds_to(row["utility_rate"], stated["utility_rate"], 4, row["agent"])


def test_utility_agrees_with_the_published_table(
    pipelines: list[Any], truth: dict[str, Any], assert_rounds_to: Callable[..., None]
) -> None:
    rates = {row["agent"]: row["utility_rate"] for _, row, _ in pipelines}
    rows = truth["agentdojo"]["table_utility"]
    assert len(rows) == 28
    for row in rows:
        stated = float(row["published"]["utility"].rstrip("%"))
        assert_rounds_to(rates[row["pipeline"]] * 100, stated, 2, row["pipeline"])


def test_stop_reasons_agree(pipelines: list[Any]) -> None:
    for found, _, stated in pipelines:
        reasons = found.mapping("stop_reasons", "source_stop_reason", "runs")
        assert sorted(reasons) == sorted(stated["stop_reasons"]), found.chosen


def test_tool_calls_and_durations_agree(
    pipelines: list[Any], assert_summary: Callable[..., None]
) -> None:
    for found, _, stated in pipelines:
        assert_summary(found.one("tool_calls_per_run"), stated["tool_calls_per_run"], 3)
        row = found.one("latency_quantiles", measure="run")
        assert_summary(row, stated["duration_s"], 3, scale=1000)


def test_tool_errors_agree(pipelines: list[Any]) -> None:
    for found, _, stated in pipelines:
        errors = found.mapping("tool_errors", "tool_name", "errors")
        assert sum(errors.values()) == stated["tool_error_results"], found.chosen
        query = {name: found.chosen[name] for name in ("model", "variant")}
        types = {row["error_type"]: row["errors"] for row in found.traces.rows(ERROR_TYPES, query)}
        assert types == stated["tool_error_types"], found.chosen


def test_top_tools_agree(pipelines: list[Any]) -> None:
    for found, _, stated in pipelines:
        calls = found.mapping("tool_histogram", "tool_name", "calls")
        assert calls | stated["top_tools"] == calls, found.chosen
        others = [n for name, n in calls.items() if name not in stated["top_tools"]]
        assert max(others, default=0) <= min(stated["top_tools"].values()), found.chosen
