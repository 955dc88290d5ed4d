"""The figures of 14 real comparisons, paired by task, from the store by SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flightlog.analysis.db import Traces

GPT4O = "tau2/pr_azure-gpt-4o-2024-11-20_airline"
DOJO_GPT4O = "gpt-4o-2024-05-13"
# Per comparison: baseline and candidate, each as source and agent (None: all agents).
PAIRS: dict[str, tuple[tuple[str, str | None], tuple[str, str | None]]] = {
    f"sierra gpt-4.1 -> fine-tuned gpt-4.1, {domain}": (
        (f"tau2/sierra_gpt-4.1_{domain}", None),
        (f"tau2/sierra_ft-gpt-4.1_{domain}", None),
    )
    for domain in ("airline", "retail", "telecom", "telecom_no-user")
}
PAIRS |= {
    f"gpt-4o-2024-11-20 -> {name}": ((GPT4O, None), (f"tau2/{name}", None))
    for name in (
        "sub_claude-sonnet-4-5_airline",
        "sub_gpt-5.4_airline",
        "sub_claude-opus-4-6-distyl_airline",
        "sub_gpt-oss-120b-langchain_airline",
    )
}
PAIRS |= {
    f"agentdojo {title}": (("agentdojo", baseline), ("agentdojo", candidate))
    for title, baseline, candidate in (
        ("gpt-4o: no defence -> tool_filter", DOJO_GPT4O, f"{DOJO_GPT4O}-tool_filter"),
        (
            "gpt-4o: no defence -> repeat_user_prompt",
            DOJO_GPT4O,
            f"{DOJO_GPT4O}-repeat_user_prompt",
        ),
        (
            "gpt-4o: no defence -> transformers_pi_detector",
            DOJO_GPT4O,
            f"{DOJO_GPT4O}-transformers_pi_detector",
        ),
        ("gpt-4o -> gpt-4o-mini", DOJO_GPT4O, "gpt-4o-mini-2024-07-18"),
        (
            "claude-3-5-sonnet 20240620 -> 20241022",
            "claude-3-5-sonnet-20240620",
            "claude-3-5-sonnet-20241022",
        ),
        (
            "claude-3-5-sonnet-20241022 -> claude-3-7-sonnet",
            "claude-3-5-sonnet-20241022",
            "claude-3-7-sonnet-20250219",
        ),
        ("gemini-1.5-flash 001 -> 002", "gemini-1.5-flash-001", "gemini-1.5-flash-002"),
    )
}
# AgentDojo's injection tasks were run as user tasks too; the comparison leaves them out.
CHOSEN = """
    source = $source AND ($agent IS NULL OR agent = $agent)
    AND (source <> 'agentdojo' OR task_id LIKE '%/user_task_%')
"""
SIDE = f"""
    WITH chosen AS (SELECT * FROM runs WHERE {CHOSEN}),
    calls AS (
        SELECT calls.* FROM model_calls AS calls JOIN chosen USING (store, run_id)
        WHERE calls.actor = 'agent'
    )
    SELECT
        (SELECT count(*) FROM chosen) AS runs,
        (SELECT count(*) FROM chosen WHERE success) AS success,
        (SELECT avg(tool_calls) FROM chosen) AS tool_calls_mean,
        (SELECT quantile_cont(tool_calls, 0.95) FROM chosen) AS tool_calls_p95,
        (SELECT quantile_cont(duration_ms, 0.95) / 1000 FROM chosen) AS run_duration_s_p95,
        (SELECT favg(cost_usd) FROM chosen) AS known_cost_usd_mean,
        (SELECT favg(try_cast(labels['source_cost_usd'] AS DOUBLE)) FROM chosen)
            AS source_cost_usd_mean,
        (SELECT quantile_cont(latency_ms, 0.5) FROM calls) AS agent_call_latency_ms_p50,
        (SELECT quantile_cont(latency_ms, 0.95) FROM calls) AS agent_call_latency_ms_p95,
        (SELECT avg(input_tokens) FROM calls) AS input_tokens_mean_per_call,
        (SELECT avg(output_tokens) FROM calls) AS output_tokens_mean_per_call
"""
STOPS = f"""
    SELECT source_stop_reason AS reason, count(*) AS runs FROM runs WHERE {CHOSEN} GROUP BY ALL
"""
TOOLS = f"""
    WITH chosen AS (SELECT * FROM runs WHERE {CHOSEN})
    SELECT calls.tool_name, count(*) AS calls,
        count(*) FILTER (calls.outcome = 'failed') AS errors
    FROM tool_calls AS calls JOIN chosen USING (store, run_id)
    WHERE calls.actor = 'agent' GROUP BY ALL
"""
TASKS = f"""
    WITH chosen AS (SELECT * FROM runs WHERE {CHOSEN}),
    sequences AS (
        SELECT store, run_id, list(calls.tool_name ORDER BY calls.seq) AS tools,
            list(calls.args ORDER BY calls.seq) AS args
        FROM tool_calls AS calls JOIN chosen USING (store, run_id)
        WHERE calls.actor = 'agent' GROUP BY ALL
    )
    SELECT task_id, success, tools, args FROM chosen LEFT JOIN sequences USING (store, run_id)
"""
DIGITS = {
    "tool_calls_mean": 4,
    "tool_calls_p95": 4,
    "run_duration_s_p95": 3,
    "agent_call_latency_ms_p50": 1,
    "agent_call_latency_ms_p95": 1,
    "input_tokens_mean_per_call": 1,
    "output_tokens_mean_per_call": 1,
}


def test_every_comparison_of_the_truth_is_tested(truth: dict[str, Any]) -> None:
    assert sorted(PAIRS) == sorted(pair["name"] for pair in truth["paired_drift"])


@pytest.fixture(scope="module", params=list(PAIRS))
def pair(
    request: pytest.FixtureRequest, truth: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, str | None]]]:
    stated = next(entry for entry in truth["paired_drift"] if entry["name"] == request.param)
    sides = {
        side: {"source": source, "agent": agent}
        for side, (source, agent) in zip("AB", PAIRS[request.param], strict=True)
    }
    return stated, sides


@pytest.mark.parametrize("side", ["A", "B"])
def test_each_side_agrees(
    normalised: Traces, pair: Any, side: str, assert_rounds_to: Callable[..., None]
) -> None:
    stated, chosen = pair[0][side], pair[1][side]
    [row] = normalised.rows(SIDE, chosen)
    assert (row["runs"], row["success"]) == (stated["runs"], stated["success"])
    for name, digits in DIGITS.items():
        assert_rounds_to(row[name], stated[name], digits, name)
    stops = {found["reason"]: found["runs"] for found in normalised.rows(STOPS, chosen)}
    assert stops == stated["stop_reasons"]
    tools = normalised.rows(TOOLS, chosen)
    assert {found["tool_name"]: found["calls"] for found in tools} == stated["tool_histogram"]
    assert sum(found["errors"] for found in tools) == stated["tool_errors"]


@pytest.mark.parametrize("side", ["A", "B"])
def test_cost_agrees_and_an_unpriced_side_has_none(
    normalised: Traces, pair: Any, side: str, assert_rounds_to: Callable[..., None]
) -> None:
    stated, chosen = pair[0][side], pair[1][side]
    [row] = normalised.rows(SIDE, chosen)
    assert_rounds_to(row["source_cost_usd_mean"], stated["cost_usd_mean"], 6)
    if stated["cost_all_zero"]:
        assert row["known_cost_usd_mean"] is None
    else:
        assert_rounds_to(row["known_cost_usd_mean"], stated["cost_usd_mean"], 6)


def test_flips_agree(normalised: Traces, pair: Any) -> None:
    stated, chosen = pair
    before, after = (_tasks(normalised, chosen[side]) for side in "AB")
    both = sorted(before.keys() & after.keys())
    assert len(both) == stated["tasks_paired"]
    flips = [(before[task]["success"], after[task]["success"]) for task in both]
    assert flips.count((False, True)) == stated["fail_to_pass"]
    assert flips.count((True, False)) == stated["pass_to_fail"]


def test_tool_sequences_agree(
    normalised: Traces, pair: Any, assert_rounds_to: Callable[..., None]
) -> None:
    stated, chosen = pair
    before, after = (_tasks(normalised, chosen[side]) for side in "AB")
    both = before.keys() & after.keys()
    same = [task for task in both if before[task]["tools"] == after[task]["tools"]]
    assert len(same) == stated["same_tool_sequence"]
    same_args = [task for task in same if before[task]["args"] == after[task]["args"]]
    assert len(same_args) == stated["same_tool_sequence_and_args"]
    histograms = [
        {row["tool_name"]: row["calls"] for row in normalised.rows(TOOLS, chosen[side])}
        for side in "AB"
    ]
    assert sorted(histograms[0].keys() - histograms[1]) == stated["tools_only_in_A"]
    assert sorted(histograms[1].keys() - histograms[0]) == stated["tools_only_in_B"]
    shares = [
        {tool: calls / sum(histogram.values()) for tool, calls in histogram.items()}
        for histogram in histograms
    ]
    tools = shares[0].keys() | shares[1].keys()
    distance = sum(abs(shares[0].get(t, 0) - shares[1].get(t, 0)) for t in tools) / 2
    assert_rounds_to(distance, stated["tool_mix_total_variation"], 4)


def _tasks(traces: Traces, chosen: dict[str, str | None]) -> dict[str, dict[str, Any]]:
    rows = traces.rows(TASKS, chosen)
    assert len({row["task_id"] for row in rows}) == len(rows)
    return {row["task_id"]: row for row in rows}
