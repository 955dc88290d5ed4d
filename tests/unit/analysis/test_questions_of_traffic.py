"""The questions about traffic over time, money, retries and repeats, worked out by hand.

Five runs from 2026-01-01T00:00 UTC; a second passes with each event:

    run  at     agent  tenant  model calls (in/out, cached, USD, ms)          tools
    r1   00:00  desk   acme    s1 100/10 50 .10 200; s2 300/30 250 .20 400    s1 find ok 10 {"a":1};
                                                                              s2 pay ok 30, .05 USD
    r2   00:10  desk   acme    s1 100/10 0 .10 300                            s1 find failed 5,
                                                                              find ok 20 (retry)
                                                                              {"a":1}
    r3   01:00  desk   beta    s1 100/10 ? .10 500                            s1 find ok 40
                                                                              {"a":1,"b":"x"}, find
                                                                              denied
    r4   01:30  other  beta    s1 failed 50; s1 (retry) 200/20 100 ? 100      -
    r5   01:50  desk   acme    -                                              find ok 10, find ok 10
                                                                              (both the same) text

Ends: r1 ok judged success, r2 tool_failed judged a failure, r3 ok, r4 ok, r5 no end.
r1, r2 and r5 are one conversation about task t1; r2 lost its policy and messages in its prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run as command
from flightlog.errors import UnknownNameError, UsageError
from tests.unit.analysis.made_events import Run, traces_of_runs

GROUPS = ("source", "suite", "model", "variant", "agent", "tenant")
FIRST, SECOND = datetime(2026, 1, 1, 0), datetime(2026, 1, 1, 1)


def five_runs() -> list[Run]:
    same = {"task_id": "t1", "conversation_id": "c1", "tenant": "acme"}
    r1 = Run("r1", s=0, agent="desk", **same)
    model(r1, 1, 100, 10, 50, 0.1, 200.0)
    r1.tool("find", step=1, args=1, latency_ms=10.0, result='{"a":1}')
    model(r1, 2, 300, 30, 250, 0.2, 400.0)
    r1.tool("pay", step=2, effect="write", latency_ms=30.0, cost_usd=0.05)
    r1.stop(used_steps=2).judged(passed=True)
    r2 = Run("r2", s=600, agent="desk", **same)
    model(r2, 1, 100, 10, 0, 0.1, 300.0, has_policy=False, is_truncated=True)
    r2.tool("find", "failed", step=1, args=2, latency_ms=5.0)
    r2.tool("find", step=1, args=2, attempt=2, latency_ms=20.0, result='{"a":2}')
    r2.stop("tool_failed").judged(passed=False)
    r2.events[-2]["status"] = "failed"
    r3 = Run("r3", s=3_600, agent="desk", tenant="beta", task_id="t2")
    model(r3, 1, 100, 10, None, 0.1, 500.0)
    r3.tool("find", step=1, args=3, latency_ms=40.0, result='{"a":1,"b":"x"}')
    r3.tool("find", "denied", step=1, args=4, error_type="tool_not_allowed").stop()
    r4 = Run("r4", s=5_400, agent="other", tenant="beta")
    r4.model(step=1, usd=None, outcome="failed", latency_ms=50.0)
    model(r4, 1, 200, 20, 100, None, 100.0)
    r4.events[-1]["attempt"] = 2
    r4.stop()
    r5 = Run("r5", s=6_600, agent="desk", **same)
    for _ in range(2):
        r5.tool("find", step=1, args=5, latency_ms=10.0, result="nothing")
    return [r1, r2, r3, r4, r5]


def model(
    run: Run, step: int, sent: int, answered: int, cached: int | None, usd: float | None,
    latency_ms: float, **more: Any,
) -> None:  # fmt: skip
    run.model(
        step=step, usd=usd, input_tokens=sent, output_tokens=answered, cache_read_tokens=cached,
        latency_ms=latency_ms, **{"has_policy": True, "is_truncated": False, **more},
    )  # fmt: skip


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    with traces_of_runs(*five_runs()) as opened:
        yield opened


def ask(traces: Traces, name: str, **params: str | datetime) -> list[dict[str, Any]]:
    rows = traces.ask(name, **params).to_pylist()
    return [{key: value for key, value in row.items() if key not in GROUPS} for row in rows]


def about(**values: Any) -> Any:
    return {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in values.items()
    }


def test_tool_over_time(traces: Traces) -> None:
    rows = ask(traces, "tool_over_time")
    assert rows == [
        about(period=FIRST, tool_name="find", calls=3, runs=2, retries=1, failed=1, invalid=0,
              refused=0, failed_share=1 / 3, p50_ms=15.0, p95_ms=19.5, p99_ms=19.9),
        about(period=FIRST, tool_name="pay", calls=1, runs=1, retries=0, failed=0, invalid=0,
              refused=0, failed_share=0.0, p50_ms=30.0, p95_ms=30.0, p99_ms=30.0),
        about(period=SECOND, tool_name="find", calls=4, runs=2, retries=0, failed=0, invalid=0,
              refused=1, failed_share=0.0, p50_ms=10.0, p95_ms=37.0, p99_ms=39.4),
    ]  # fmt: skip
    [pay] = ask(traces, "tool_over_time", tool="pay", every="day")
    assert (pay["period"], pay["calls"]) == (FIRST, 1)


def test_model_over_time(traces: Traces) -> None:
    assert ask(traces, "model_over_time") == [
        about(period=FIRST, request_model="m", calls=3, failed=0, retries=0, p50_ms=300.0,
              p95_ms=390.0, p99_ms=398.0, input_tokens=500, output_tokens=50,
              cached_share=300 / 500, cost_usd=0.4),
        about(period=SECOND, request_model="m", calls=3, failed=1, retries=1, p50_ms=300.0,
              p95_ms=480.0, p99_ms=496.0, input_tokens=300, output_tokens=30,
              cached_share=100 / 200, cost_usd=None),
    ]  # fmt: skip


def test_runs_over_time(traces: Traces) -> None:
    assert ask(traces, "runs_over_time") == [
        about(period=FIRST, runs=2, ok=1, stopped=0, failed=1, open=0, success_rate=0.5,
              with_retries_share=0.5, p50_tool_calls=2.0, p95_duration_ms=4_950.0, cost_usd=0.45,
              unpriced=0),
        about(period=SECOND, runs=3, ok=2, stopped=0, failed=0, open=1, success_rate=None,
              with_retries_share=1 / 3, p50_tool_calls=2.0, p95_duration_ms=3_950.0,
              cost_usd=0.1, unpriced=2),
    ]  # fmt: skip


def test_ends_over_time(traces: Traces) -> None:
    assert ask(traces, "ends_over_time") == [
        about(period=FIRST, stop_reason="ok", runs=1, share=0.5),
        about(period=FIRST, stop_reason="tool_failed", runs=1, share=0.5),
        about(period=SECOND, stop_reason="ok", runs=2, share=2 / 3),
        about(period=SECOND, stop_reason="none", runs=1, share=1 / 3),
    ]


def test_load_over_time(traces: Traces) -> None:
    rows = ask(traces, "load_over_time")
    names = ("period", "name", "owner", "runs", "tool_calls")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (FIRST, "desk", "acme", 2, 4),
        (SECOND, "desk", "acme", 1, 2),
        (SECOND, "desk", "beta", 1, 2),
        (SECOND, "other", "beta", 1, 0),
    ]
    assert [row["runs_share"] for row in rows] == [1.0, *[pytest.approx(1 / 3)] * 3]
    assert [row["model_calls"] for row in rows] == [3, 0, 1, 2]


def test_prompts_over_time(traces: Traces) -> None:
    first, second = ask(traces, "prompts_over_time")
    assert first == about(
        period=FIRST, calls=3, p50_tokens=100.0, p95_tokens=280.0, max_tokens=300,
        p50_output_tokens=10.0, cached_share=0.6, truncated_runs=1, policy_lost_runs=1,
    )  # fmt: skip
    assert (second["calls"], second["cached_share"], second["policy_lost_runs"]) == (2, 0.5, 0)


def test_prompt_growth(traces: Traces) -> None:
    assert ask(traces, "prompt_growth") == [
        about(step=1, runs=4, p50_tokens=100.0, p95_tokens=185.0, max_tokens=200,
              p50_growth_tokens=None, truncated_runs=1, policy_lost_runs=1),
        about(step=2, runs=1, p50_tokens=300.0, p95_tokens=300.0, max_tokens=300,
              p50_growth_tokens=200.0, truncated_runs=0, policy_lost_runs=0),
    ]  # fmt: skip


def test_cost_by_tenant_and_tool(traces: Traces) -> None:
    rows = ask(traces, "cost_by_tenant_and_tool")
    assert rows == [
        about(owner="acme", tool_name="pay", runs=1, tool_calls=1, model_usd=0.2, tool_usd=0.05,
              cost_usd=0.25, share=0.25 / 0.55, unpriced=0.0),
        about(owner="acme", tool_name="find", runs=3, tool_calls=5, model_usd=0.2, tool_usd=0.0,
              cost_usd=0.2, share=0.2 / 0.55, unpriced=0.0),
        about(owner="beta", tool_name="find", runs=1, tool_calls=1, model_usd=0.1, tool_usd=0.0,
              cost_usd=0.1, share=0.1 / 0.55, unpriced=0.0),
        about(owner="beta", tool_name=None, runs=1, tool_calls=0, model_usd=0.0, tool_usd=0.0,
              cost_usd=0.0, share=0.0, unpriced=1.0),
    ]  # fmt: skip


def test_a_step_with_several_tools_is_shared_among_their_calls() -> None:
    run = Run("r", tenant="acme").model(step=1, usd=0.9)
    run.tool("a", step=1).tool("a", step=1).tool("b", step=1).stop()
    with traces_of_runs(run) as traces:
        rows = ask(traces, "cost_by_tenant_and_tool")
    assert {row["tool_name"]: row["cost_usd"] for row in rows} == {
        "a": pytest.approx(0.6),
        "b": pytest.approx(0.3),
    }


def test_retry_amplification(traces: Traces) -> None:
    assert ask(traces, "retry_amplification") == [
        about(kind="tool_call", name="find", asked=5, attempts=6, amplification=1.2,
              max_attempts=2, retried_ok_share=1.0, runs=1),
        about(kind="model_call", name="m", asked=5, attempts=6, amplification=1.2, max_attempts=2,
              retried_ok_share=1.0, runs=1),
        about(kind="tool_call", name="pay", asked=1, attempts=1, amplification=1.0,
              max_attempts=1, retried_ok_share=None, runs=0),
    ]  # fmt: skip


def test_cache_hits(traces: Traces) -> None:
    assert ask(traces, "cache_hits") == [
        about(request_model="m", calls=4, unknown=1, input_tokens=700, cached_tokens=400,
              cached_share=4 / 7, written_tokens=None, without_hit=0)
    ]  # fmt: skip


def test_cost_per_success(traces: Traces) -> None:
    assert ask(traces, "cost_per_success") == [
        about(runs=2, successes=1, cost_usd=0.45, cost_per_success=0.45, cost_of_failures=0.1,
              failures_share=0.1 / 0.45, left_out=3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("slowest_runs", ["r1", "r2", "r3", "r4"]),
        ("dearest_runs", ["r1", "r2", "r3"]),
        ("longest_runs", ["r1", "r2", "r3", "r5", "r4"]),
    ],
)
def test_the_runs_with_the_most(traces: Traces, name: str, order: list[str]) -> None:
    assert [row["run_id"] for row in ask(traces, name)] == order
    assert [row["run_id"] for row in ask(traces, name, most="2")] == order[:2]
    assert [row["run_id"] for row in ask(traces, name, by="agent", most="1")] == order[:1] + (
        ["r4"] if "r4" in order else []
    )


def test_output_drift(traces: Traces) -> None:
    rows = ask(traces, "output_drift")
    told = [(row["shape"], row["calls"], row["is_new"], row["example"]) for row in rows]
    assert told == [
        ('{"a":"UBIGINT"}', 2, False, "r1"),
        ('{"a":"UBIGINT","b":"VARCHAR"}', 1, True, "r3"),
        ("text", 2, True, "r5"),
    ]
    assert [row["share"] for row in rows] == pytest.approx([0.4, 0.2, 0.4])
    assert ask(traces, "output_drift", tool="pay") == []


def test_repeated_calls(traces: Traces) -> None:
    [row] = ask(traces, "repeated_calls")
    assert (row["run_id"], row["tool_name"], row["times"]) == ("r5", "find", 2)


def test_reruns(traces: Traces) -> None:
    [row] = ask(traces, "reruns")
    assert (row["runs"], row["ends"]) == (3, ["ok", "tool_failed", "none"])
    assert row["cost_usd"] is None


def test_questions_are_narrowed_to_agents_tenants_and_times(traces: Traces) -> None:
    def runs(**params: str | datetime) -> list[int]:
        return [row["runs"] for row in ask(traces, "stop_reasons", **params)]

    assert sum(runs(agent="desk")) == 4
    assert sum(runs(tenant="beta")) == 2
    assert sum(runs(since="2026-01-01T01:00")) == 3
    assert sum(runs(until="2026-01-01T02:00:00+01:00")) == 2
    rows = traces.ask("stop_reasons", by="agent,tenant").to_pylist()
    assert {(row["agent"], row["tenant"]) for row in rows} == {
        ("desk", "acme"),
        ("desk", "beta"),
        ("other", "beta"),
    }


def test_a_period_or_time_that_there_is_not_is_refused(traces: Traces) -> None:
    with pytest.raises(UnknownNameError, match="unknown period 'fortnight'"):
        traces.ask("runs_over_time", every="fortnight")
    with pytest.raises(UsageError, match="which is no time"):
        traces.ask("runs_over_time", since="yesterday")


def test_the_command_narrows_and_shows_the_sql(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    from flightlog.recorder.record import record

    store = tmp_path_factory.mktemp("asked") / "store"
    for agent in ("desk", "other"):
        with record(store, agent=agent, tenant="acme") as one:
            one.tool_call(tool_name="find", outcome="ok")
    base = ["ask", "stop_reasons", "--store", str(store), "--format", "csv"]
    assert command([*base, "--agent", "desk", "--since", "1h", "--by", "agent"]) == 0
    assert ",desk," in capsys.readouterr().out
    assert command([*base, "--until", "2020-01-01"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert command([*base, "--agent", "desk", "-p", "agent=x"]) == 64
    assert "given twice" in capsys.readouterr().err
    assert command(["ask", "stop_reasons", "--sql"]) == 0
    assert capsys.readouterr().out.startswith("-- Why do runs end?")
    assert command(["ask", "LIST"]) == 0
    assert "output_drift" in capsys.readouterr().out
