"""The same runs through two importers are the same rows."""

from __future__ import annotations

from typing import Any

import pytest

from flightlog.analysis.db import Traces

NATIVE = (
    "tau-bench/gpt-4o-airline",
    "tau2/pr_azure-gpt-4o-2024-11-20_airline",
    "tau2/sierra_ft-gpt-4.1_airline",
    "tau2/sierra_ft-gpt-4.1_retail",
    "tau2/sierra_gpt-4.1_airline",
    "tau2/sierra_gpt-4.1_retail",
    "tau2/sub_claude-sonnet-4-5_airline",
)
# Left out: ids, the digest of the task and of the system prompt (only native files hold
# both), agent and variant of tau-bench (only the normalised file names them), labels.
RUNS = """
    SELECT source_run_id, model, suite, task_id, trial, started_at, ended_at,
        duration_ms, status, stop_reason, source_stop_reason, answer, steps, model_calls,
        tool_calls, tool_failures, input_tokens, output_tokens, cost_usd, success, score,
        user_turns, labels['user_cost_usd'] AS user_cost_usd,
        labels['source_cost_usd'] AS source_cost_usd, labels['seed'] AS seed,
        labels['greeting'] AS greeting
    FROM runs WHERE source = $source ORDER BY source_run_id
"""
# The order within a run is compared, not seq itself: both count the same events.
MODEL_CALLS = """
    SELECT runs.source_run_id, calls.seq, calls.step, calls.actor, calls.outcome,
        calls.request_model, calls.input_tokens, calls.output_tokens, calls.cost_usd,
        calls.latency_ms, calls.elapsed_ms, calls.finish_reason, calls.tool_requests,
        calls.prompt_messages - (runs.system_digest IS NOT NULL)::INTEGER AS prompt_messages
    FROM model_calls AS calls JOIN runs USING (store, run_id)
    WHERE runs.source = $source ORDER BY ALL
"""
TOOL_CALLS = """
    SELECT runs.source_run_id, calls.seq, calls.step, calls.call_ix, calls.actor,
        calls.tool_name, calls.tool_call_id, calls.args, calls.args_digest, calls.outcome,
        calls.error, calls.result, calls.result_digest, calls.latency_ms, calls.elapsed_ms
    FROM tool_calls AS calls JOIN runs USING (store, run_id)
    WHERE runs.source = $source ORDER BY ALL
"""


@pytest.mark.parametrize("source", NATIVE)
@pytest.mark.parametrize("query", [RUNS, MODEL_CALLS, TOOL_CALLS], ids=["runs", "model", "tool"])
def test_native_equals_normalised(
    native: Traces, normalised: Traces, source: str, query: str
) -> None:
    def rows(traces: Traces) -> list[dict[str, Any]]:
        return traces.rows(query, {"source": source})

    ours, theirs = rows(native), rows(normalised)
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        differences = {
            name: (mine[name], other[name]) for name in mine if not _same(mine[name], other[name])
        }
        assert differences == {}, (mine["source_run_id"], mine.get("seq"))


def _same(mine: Any, other: Any) -> bool:
    if isinstance(mine, float) and isinstance(other, float):
        # Normalised latencies are rounded to a microsecond, and sums to a rounding error.
        return abs(mine - other) <= 1e-3
    return bool(mine == other)
