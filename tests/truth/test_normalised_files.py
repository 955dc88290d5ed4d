"""The counts of each normalised file, from the store by SQL."""

from __future__ import annotations

from typing import Any

import pytest

from flightlog.analysis.db import Traces

FILES = (
    "agentdojo_benign_all_models.jsonl.gz",
    "bfcl_2024-07-06.jsonl.gz",
    "tau2_airline_models.jsonl.gz",
    "tau2_gemini_agent_variants.jsonl.gz",
    "tau2_other.jsonl.gz",
    "tau2_sierra_base_vs_finetuned.jsonl.gz",
    "taubench_gpt4o_airline.jsonl.gz",
)
RUNS = """
    SELECT count(*) AS runs, count(DISTINCT source_run_id) AS distinct_run_ids,
        count(*) FILTER (success) AS success, count(*) FILTER (success IS NULL) AS success_unknown
    FROM runs WHERE list_contains($sources::VARCHAR[], source)
"""
# A greeting that no model wrote is a message here; the file counts it as a model event.
MODEL_EVENTS = """
    SELECT
        (SELECT count(*) FROM model_calls
            WHERE actor = 'agent' AND list_contains($sources::VARCHAR[], source))
        + (SELECT count(*) FROM runs
            WHERE labels['greeting'] = 'canned' AND list_contains($sources::VARCHAR[], source))
        AS model_events
"""
# Calls that were asked for and never carried out are requests here, in files that hold no others.
TOOL_EVENTS = """
    SELECT count(*) AS tool_events, count(*) FILTER (outcome = 'failed') AS tool_errors
    FROM tool_calls WHERE list_contains($sources::VARCHAR[], source)
"""
TOOL_REQUESTS = """
    SELECT sum(tool_requests)::BIGINT AS tool_events, 0 AS tool_errors
    FROM model_calls WHERE list_contains($sources::VARCHAR[], source)
"""
SOURCES = """
    SELECT source, count(*) AS runs FROM runs
    WHERE list_contains($sources::VARCHAR[], source) GROUP BY ALL
"""
STOPS = """
    SELECT coalesce(source_stop_reason, 'None') AS reason, count(*) AS runs FROM runs
    WHERE list_contains($sources::VARCHAR[], source) GROUP BY ALL
"""


@pytest.mark.parametrize("name", FILES)
def test_counts_agree(request: pytest.FixtureRequest, truth: dict[str, Any], name: str) -> None:
    stated = truth["normalised_files"][name]
    is_unexecuted = name.startswith("bfcl")
    traces: Traces = request.getfixturevalue("bfcl" if is_unexecuted else "normalised")
    chosen = {"sources": list(stated["sources"])}
    found: dict[str, Any] = {}
    for query in (RUNS, MODEL_EVENTS, TOOL_REQUESTS if is_unexecuted else TOOL_EVENTS):
        [row] = traces.rows(query, chosen)
        found |= row
    found["sources"] = {row["source"]: row["runs"] for row in traces.rows(SOURCES, chosen)}
    found["stop_reasons"] = {row["reason"]: row["runs"] for row in traces.rows(STOPS, chosen)}
    assert found == {key: stated[key] for key in stated if key != "bytes"}


def test_every_file_is_tested(truth: dict[str, Any]) -> None:
    assert sorted(FILES) == sorted(truth["normalised_files"])
