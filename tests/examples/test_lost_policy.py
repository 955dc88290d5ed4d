"""A flaky tool, retries, growth, truncation, a lost policy, and the write that is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flightlog
from flightlog.analysis.db import Traces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lost-policy")


@pytest.fixture(scope="module")
def printed(folder: Path, run_example: Callable[..., object]) -> str:
    return run_example("lost_policy.py", folder=folder).stdout


@pytest.fixture(scope="module")
def traces(folder: Path, printed: str) -> Iterator[Traces]:
    with flightlog.open(folder / "flightlog-incident" / "lost-policy") as opened:
        yield opened


def test_the_page_shows_what_the_example_prints(
    printed: str, check_published: Callable[[str, str, str], None]
) -> None:
    """Set FLIGHTLOG_UPDATE_README=1 to write it anew."""
    assert max(len(line) for line in printed.splitlines()) <= 100
    check_published("docs/incident.md", "lost policy", printed.partition("\nTry next:")[0])


def test_every_link_of_the_chain_comes_after_the_one_before(traces: Traces) -> None:
    links = traces.rows(
        "select runs.variant, "
        "min(step) filter (kind = 'tool_call' and outcome in ('failed', 'timed_out')) flaky, "
        "max(step) filter (kind = 'tool_call' and effect = 'read') retried, "
        "min(step) filter (kind = 'model_call' and is_truncated) truncated, "
        "min(step) filter (kind = 'model_call' and not has_policy) lost, "
        "min(step) filter (kind = 'tool_call' and effect = 'write') wrote "
        "from events join runs using (run_id) where runs.variant <> 'kept policy' "
        "group by runs.variant"
    )
    assert len(links) == 3
    for row in links:
        assert row["flaky"] < row["truncated"] <= row["lost"] < row["retried"] < row["wrote"]


def test_the_prompt_grows_with_each_retry_until_it_is_cut(traces: Traces) -> None:
    prompts = traces.rows(
        "select input_tokens, is_truncated from model_calls where variant = 'prototype' "
        "order by seq"
    )
    whole = [row["input_tokens"] for row in prompts if not row["is_truncated"]]
    assert whole == sorted(set(whole))
    assert whole[-1] > 10 * whole[0]


def test_the_prototype_makes_the_write(traces: Traces) -> None:
    (write,) = traces.rows(
        "select outcome, served_how, result from tool_calls "
        "where variant = 'prototype' and effect = 'write'"
    )
    assert write["outcome"] == "ok"
    assert write["served_how"] == "live"
    assert "480" in write["result"]


@pytest.mark.parametrize(
    ("side", "outcome", "error_type"),
    [
        ("approval", "approval_denied", "approval_denied"),
        ("guard", "denied", "read_only"),
    ],
)
def test_the_gateway_refuses_the_write(
    traces: Traces, side: str, outcome: str, error_type: str
) -> None:
    writes = traces.rows(
        "select outcome, error_type, served_how from tool_calls where effect = 'write' "
        f"and variant = '{side}'"
    )
    assert writes == [{"outcome": outcome, "error_type": error_type, "served_how": None}]
    intents = traces.rows(
        "select runs.variant from events join runs using (run_id) where kind = 'tool_intent'"
    )
    assert [row["variant"] for row in intents] == ["prototype"]


def test_who_keeps_the_policy_in_the_prompt_is_not_asked_for_the_write(traces: Traces) -> None:
    kept = "variant = 'kept policy'"
    assert traces.rows(f"select * from tool_calls where {kept} and effect = 'write'") == []
    assert traces.rows(f"select * from model_calls where {kept} and not has_policy") == []
    assert traces.rows(f"select 1 from model_calls where {kept} and is_truncated") != []


def test_a_second_run_prints_the_same(
    folder: Path, printed: str, run_example: Callable[..., object]
) -> None:
    assert run_example("lost_policy.py", folder=folder).stdout == printed
