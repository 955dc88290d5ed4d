"""An agent in JavaScript reaches flightlog through OTLP."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flightlog.analysis.db import Traces
from tests.unit.integrations.otlp.serving import collecting, eventually


def test_a_vercel_agent_is_recorded(node: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with collecting(store, "--grace", "0.2", "--idle", "5") as collector:
        done = subprocess.run(
            ["node", "vercel_agent.mjs", collector.url],
            cwd=node, check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.stdout.strip() == "R1 is on its way.", done.stderr
        query = "SELECT * FROM runs WHERE status <> 'running'"
        with Traces(eventually(lambda: store if _rows(store, query) else None)) as traces:
            [run] = traces.rows(query)
            calls = traces.rows("SELECT * FROM tool_calls ORDER BY seq")
            models = traces.rows("SELECT * FROM model_calls ORDER BY seq")
            prompt = traces.prompt(run["run_id"], models[-1]["seq"])
    assert (run["agent"], run["stop_reason"], run["answer"]) == ("desk", "ok", "R1 is on its way.")
    assert (run["steps"], run["input_tokens"], run["output_tokens"]) == (3, 300, 27)
    assert [(c["tool_name"], c["args"], c["outcome"]) for c in calls] == [
        ("get_order", '{"id":"R1"}', "ok"), ("get_order", '{"id":"R9"}', "failed"),
    ]  # fmt: skip
    assert calls[0]["result"] == '{"state":"shipped"}'
    assert calls[1]["error"] == "no such order"
    assert [model["finish_reason"] for model in models] == ["tool_call", "tool_call", "stop"]
    assert {model["cache_read_tokens"] for model in models} == {40}
    assert [message.role for message in prompt] == [
        "system", "user", "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip


def _rows(store: Path, query: str) -> list[dict[str, object]]:
    with Traces(store) as traces:
        return traces.rows(query)
