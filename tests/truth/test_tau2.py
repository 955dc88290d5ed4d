"""Every figure of the 28 tau2 result files, from the store by SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

NATIVE = (
    "pr_azure-gpt-4o-2024-11-20_airline",
    "sierra_ft-gpt-4.1_airline",
    "sierra_ft-gpt-4.1_retail",
    "sierra_gpt-4.1_airline",
    "sierra_gpt-4.1_retail",
    "sub_claude-sonnet-4-5_airline",
)
OTHERS = (
    "jitrc_airline_gemini2_5_flash_10tasks_2t",
    "jitrc_airline_gemini2_5_flash_10tasks_2t_context_agent",
    "jitrc_airline_gemini2_5_flash_10tasks_2t_enhanced_agent",
    "jitrc_airline_gemini2_5_flash_10tasks_2t_retry_agent",
    "pr_gpt-4o_telecom",
    "sierra_ft-gpt-4.1_telecom",
    "sierra_ft-gpt-4.1_telecom_no-user",
    "sierra_gpt-4.1_telecom",
    "sierra_gpt-4.1_telecom_no-user",
    "sub_adaptive-opus46_airline",
    "sub_claude-opus-4-6-distyl_airline",
    "sub_claude-opus-4-6_airline_44",
    "sub_gpt-5.4_airline",
    "sub_gpt-oss-120b-langchain_airline",
    "sub_ironforge_deepseek_airline_4",
    "sub_ironforge_gpt-5.4_airline_7",
    "sub_ironforge_grok3_airline_8",
    "sub_ironforge_o3_airline_9",
    "sub_ironforge_sonnet46_airline_7",
    "sub_toolorchestra-gpt-5_airline",
    "sub_toolorchestra-gpt-5_retail",
    "sub_whissle_airline",
)
RUNS = """
    SELECT count(*) AS runs, count(DISTINCT task_id) AS tasks, count(DISTINCT trial) AS trials,
        count(*) FILTER (success) AS successes,
        count(*) FILTER (success) / count(*) AS success_rate,
        count(*) FILTER (tokens IS NULL) AS runs_without_usage,
        any_value(agent) AS agent, any_value(model) AS model, any_value(suite) AS domain
    FROM runs WHERE source = $source
"""
# The source's own totals. Its 0.0 for a model without a price is kept here, in a label; as a
# cost it is unknown, and runs.cost_usd is null.
LABELLED_COST = """
    WITH costs AS (
        SELECT try_cast(labels['{label}'] AS DOUBLE) AS cost FROM runs WHERE source = $source
    )
    SELECT count(cost) AS n, favg(cost) AS mean, quantile_cont(cost, 0.5) AS p50,
        quantile_cont(cost, 0.95) AS p95, max(cost) AS max, fsum(cost) AS sum
    FROM costs
"""
FINISH_REASONS = """
    SELECT finish_reason, count(*) AS calls FROM model_calls
    WHERE source = $source AND actor = 'agent' GROUP BY ALL
"""
USER_TOOLS = """
    SELECT tool_name, count(*) AS calls FROM tool_calls
    WHERE source = $source AND actor = 'user' GROUP BY ALL
"""
# Errors of the tools that the simulated user calls count in this truth as well.
TOOL_ERRORS = """
    SELECT tool_name, count(*) AS errors FROM tool_calls
    WHERE source = $source AND outcome = 'failed' GROUP BY ALL
"""


def _cases() -> list[Any]:
    cases = [("normalised", name) for name in sorted(NATIVE + OTHERS)]
    return cases + [("native", name) for name in NATIVE]


@pytest.fixture(scope="module", params=_cases(), ids="-".join)
def case(
    request: pytest.FixtureRequest, figures: Callable[..., Any], truth: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    store, name = request.param
    found = figures(request.getfixturevalue(store), source=f"tau2/{name}")
    return found, truth["tau2"][name]


def test_every_file_of_the_truth_is_tested(truth: dict[str, Any]) -> None:
    assert sorted(NATIVE + OTHERS) == sorted(truth["tau2"])


def test_runs_agree(case: Any, assert_rounds_to: Callable[..., None]) -> None:
    found, stated = case
    [row] = found.rows(RUNS)
    # A run that broke before its first call has no tokens at all, known or not.
    idle = found.rows(
        "SELECT count(*) AS runs FROM runs WHERE source = $source AND model_calls = 0"
    )[0]["runs"]
    without = row.pop("runs_without_usage")
    assert stated["runs_without_usage"] in (without, without - idle)
    assert_rounds_to(row.pop("success_rate"), stated["success_rate"], 4)
    # Where the source does not name the agent, the normalised rows carry the file's name.
    agent = row.pop("agent")
    assert agent == (stated["agent"] or stated["file"])
    assert row == {name: stated[name] for name in row}


def test_pass_hat_k_agrees(case: Any, assert_rounds_to: Callable[..., None]) -> None:
    found, stated = case
    rows = found.ask("pass_hat_k")
    assert [str(row["k"]) for row in rows] == list(stated["pass_hat_k"])
    for row in rows:
        assert_rounds_to(row["pass_hat_k"], stated["pass_hat_k"][str(row["k"])], 4)


def test_stop_reasons_agree(case: Any) -> None:
    found, stated = case
    assert found.mapping("stop_reasons", "source_stop_reason", "runs") == stated["stop_reasons"]


def test_tools_agree(case: Any) -> None:
    found, stated = case
    assert found.mapping("tool_histogram", "tool_name", "calls") == stated["tool_histogram"]
    errors = {row["tool_name"]: row["errors"] for row in found.rows(TOOL_ERRORS)}
    assert errors == (stated["tool_errors"] or {})
    users = {row["tool_name"]: row["calls"] for row in found.rows(USER_TOOLS)}
    assert users == (stated["user_tool_histogram"] or {})


def test_counts_per_run_agree(case: Any, assert_summary: Callable[..., None]) -> None:
    found, stated = case
    assert_summary(found.one("tool_calls_per_run"), stated["agent_tool_calls_per_run"], 4)
    assert_summary(found.one("model_calls_per_run"), stated["agent_model_calls_per_run"], 4)


def test_tokens_per_call_agree(case: Any, assert_summary: Callable[..., None]) -> None:
    found, stated = case
    for measure in ("input_tokens", "output_tokens"):
        assert_summary(
            found.one("tokens_per_call", measure=measure), stated[f"agent_{measure}_per_call"], 4
        )


def test_latency_agrees(case: Any, assert_summary: Callable[..., None]) -> None:
    found, stated = case
    row = found.one("latency_quantiles", measure="model_call")
    assert_summary(row, stated["agent_call_latency_ms"], 1)
    row = found.one("latency_quantiles", measure="run")
    assert_summary(row, stated["duration_s_per_run"], 3, scale=1000)


def test_cost_in_the_words_of_the_source_agrees(
    case: Any, assert_summary: Callable[..., None]
) -> None:
    found, stated = case
    for label, name in (("source_cost_usd", "agent"), ("user_cost_usd", "user")):
        [row] = found.rows(LABELLED_COST.format(label=label))
        assert_summary(row, stated[f"{name}_cost_usd_per_run"], 6)


def test_cost_agrees_where_the_source_priced_every_call(
    case: Any, assert_summary: Callable[..., None]
) -> None:
    found, stated = case
    row, costs = found.one("cost_per_run"), stated["agent_cost_usd_per_run"]
    if costs is None or costs["max"] == 0:
        assert row["n"] == 0
    elif row["unknown"] == 0:
        assert_summary(row, costs, 6)
    else:
        # Some runs hold calls at 0.0: these runs are left out, not counted as free ones.
        assert row["n"] + row["unknown"] == stated["runs"]
        assert row["mean"] > costs["mean"]


def test_finish_reasons_agree(case: Any) -> None:
    found, stated = case
    words = {"tool_call": "tool_calls", None: "None"}
    reasons = {
        words.get(row["finish_reason"], row["finish_reason"]): row["calls"]
        for row in found.rows(FINISH_REASONS)
    }
    assert reasons == stated["finish_reasons"]


def test_user_model_agrees(case: Any) -> None:
    found, stated = case
    rows = found.rows(
        "SELECT DISTINCT request_model FROM model_calls WHERE source = $source AND actor = 'user'"
    )
    # Without a user there is no call of its model, whatever the settings name.
    assert [row["request_model"] for row in rows] in ([stated["user_model"]], [])
