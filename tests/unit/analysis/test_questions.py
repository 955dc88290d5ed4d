"""Every question, its figures worked out by hand on the tiny store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.questions import question, question_names, questions, without_empty_groups
from flightlog.errors import UnknownNameError
from flightlog.recorder.recorder import Recorder
from flightlog.trace.clock import VIRTUAL_EPOCH_US, VirtualClock
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import Sink

GROUPS = ("source", "suite", "model", "variant", "agent", "tenant")
FURTHER = {"every", "tool", "most"}


def _ask(traces: Traces, name: str, **params: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = traces.ask(name, **params).to_pylist()
    return [{key: value for key, value in row.items() if key not in GROUPS} for row in rows]


def _approx(**values: Any) -> dict[str, Any]:
    return {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in values.items()
    }


@pytest.mark.parametrize("name", question_names())
def test_an_answer_has_the_columns_of_its_header(tiny: Traces, name: str) -> None:
    asked = question(name)
    assert tiny.ask(name).column_names == [entry.name for entry in asked.file.columns]
    assert asked.title.count("?") == 1
    assert asked.title.endswith("?")
    parameters = [entry.name for entry in asked.file.parameters]
    assert parameters[:9] == [*GROUPS, "since", "until", "by"]
    assert set(parameters[9:]) <= FURTHER


def test_tool_calls_per_run(tiny: Traces) -> None:
    # 1 3 0 1 | 1 1 1 0; sorted 0 0 1 1 1 1 1 3, p95 at rank 6.65: 1 + .65 * 2
    assert _ask(tiny, "tool_calls_per_run") == [
        _approx(n=8, unknown=0, mean=1.0, p50=1.0, p95=2.3, max=3, sum=8)
    ]
    # 0 1 1 3: p50 1, p95 at rank 2.85: 1 + .85 * 2
    assert _ask(tiny, "tool_calls_per_run", variant="baseline") == [
        _approx(n=4, unknown=0, mean=1.25, p50=1.0, p95=2.7, max=3, sum=5)
    ]


def test_grouping_fills_the_group_columns(tiny: Traces) -> None:
    rows = tiny.ask("tool_calls_per_run", by="variant, model").to_pylist()
    found = [
        (row["source"], row["suite"], row["model"], row["variant"], row["sum"]) for row in rows
    ]
    assert found == [
        (None, None, "model-a", "baseline", 5),
        (None, None, "model-b", "candidate", 3),
        (None, None, None, "candidate", 0),
    ]


@pytest.mark.parametrize(
    ("params", "runs"),
    [
        ({"source": "bench"}, 1),
        ({"suite": "demo"}, 8),
        ({"model": "model-b"}, 3),
        ({"variant": "candidate", "model": "model-a"}, None),
    ],
)
def test_filters_choose_runs(tiny: Traces, params: dict[str, str], runs: int | None) -> None:
    found = _ask(tiny, "success_rate", **params)
    assert [row["runs"] for row in found] == ([runs] if runs else [])


def test_model_calls_and_user_turns_per_run(tiny: Traces) -> None:
    [calls] = _ask(tiny, "model_calls_per_run", variant="baseline")
    assert calls == _approx(n=4, unknown=0, mean=1.5, p50=1.5, p95=2.0, max=2, sum=6)
    [turns] = _ask(tiny, "user_turns_per_run")
    assert (turns["n"], turns["sum"], turns["max"]) == (8, 1, 1)


def test_an_unknown_cost_is_not_counted_as_zero(tiny: Traces) -> None:
    # .03 .01 ? .03: sorted .01 .03 .03
    assert _ask(tiny, "cost_per_run", variant="baseline") == [
        _approx(n=3, unknown=1, mean=0.07 / 3, p50=0.03, p95=0.03, max=0.03, sum=0.07)
    ]


def test_success_rate_leaves_the_unjudged_out(tiny: Traces) -> None:
    assert _ask(tiny, "success_rate", by="variant") == [
        _approx(runs=4, successes=2, failures=1, unknown=1, rate=2 / 3),
        _approx(runs=4, successes=1, failures=1, unknown=2, rate=0.5),
    ]


def test_pass_hat_k(tiny: Traces) -> None:
    # Over both variants t1 has b1 + b2 - c1 + c2 - : c = 2 of n = 4; t2 has b4 + : 1 of 1.
    # k=1: (2/4 + 1) / 2; k=2: C(2,2)/C(4,2) = 1/6; k=3, k=4: 0.
    assert _ask(tiny, "pass_hat_k") == [
        _approx(k=1, pass_hat_k=0.75, tasks=2, short=0),
        _approx(k=2, pass_hat_k=1 / 6, tasks=1, short=1),
        _approx(k=3, pass_hat_k=0.0, tasks=1, short=1),
        _approx(k=4, pass_hat_k=0.0, tasks=1, short=1),
    ]


def test_pass_at_k(tiny: Traces) -> None:
    # k=2: 1 - C(2,2)/C(4,2) = 5/6; k=3: two failures cannot fill three draws.
    assert _ask(tiny, "pass_at_k") == [
        _approx(k=1, pass_at_k=0.75, tasks=2, short=0),
        _approx(k=2, pass_at_k=5 / 6, tasks=1, short=1),
        _approx(k=3, pass_at_k=1.0, tasks=1, short=1),
        _approx(k=4, pass_at_k=1.0, tasks=1, short=1),
    ]


def test_pass_hat_k_is_per_group(tiny: Traces) -> None:
    rows = tiny.ask("pass_hat_k", by="variant").to_pylist()
    found = [(row["variant"], row["k"], row["pass_hat_k"], row["tasks"]) for row in rows]
    # baseline: t1 1 of 2, t2 1 of 1; candidate: t1 1 of 2, no other task judged.
    assert found == [
        ("baseline", 1, 0.75, 2),
        ("baseline", 2, 0.0, 1),
        ("candidate", 1, 0.5, 1),
        ("candidate", 2, 0.0, 1),
    ]


def test_tasks_by_successes(tiny: Traces) -> None:
    assert _ask(tiny, "tasks_by_successes") == [
        {"successes": 1, "tasks": 1, "trials": 1},
        {"successes": 2, "tasks": 1, "trials": 4},
    ]


def test_tool_histogram_counts_the_agent_only(tiny: Traces) -> None:
    assert _ask(tiny, "tool_histogram") == [
        _approx(tool_name="search", calls=4, runs=2, share=0.5),
        _approx(tool_name="lookup", calls=2, runs=2, share=0.25),
        _approx(tool_name="delete", calls=1, runs=1, share=0.125),
        _approx(tool_name="save", calls=1, runs=1, share=0.125),
    ]


def test_tool_errors_keep_refusals_apart(tiny: Traces) -> None:
    rows = _ask(tiny, "tool_errors")
    names = ("tool_name", "calls", "failed", "timed_out", "invalid_output", "errors", "refused")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("search", 4, 1, 0, 0, 1, 1),
        ("lookup", 2, 0, 1, 0, 1, 0),
        ("delete", 1, 0, 0, 0, 0, 1),
    ]
    assert [row["error_share"] for row in rows] == [pytest.approx(1 / 3), 0.5, None]


def test_stop_reasons_show_ours_and_the_source_s(tiny: Traces) -> None:
    rows = _ask(tiny, "stop_reasons")
    assert rows[0] == _approx(
        status="completed", stop_reason="ok", stop_tool=None, source_stop_reason=None,
        runs=4, share=0.5,
    )  # fmt: skip
    denied = [row for row in rows if row["stop_reason"] == "tool_denied"]
    assert [(row["stop_tool"], row["source_stop_reason"], row["runs"]) for row in denied] == [
        ("delete", "user_stop", 1)
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_tokens_per_call(tiny: Traces) -> None:
    rows = {row.pop("measure"): row for row in _ask(tiny, "tokens_per_call", variant="baseline")}
    # 100 200 100 100 ? 300, sorted 100 100 100 200 300; p95 at rank 3.8
    assert rows["input_tokens"] == _approx(
        n=5, unknown=1, mean=160.0, p50=100.0, p95=280.0, max=300, sum=800
    )
    assert rows["output_tokens"]["sum"] == 100
    assert (rows["cache_read_tokens"]["n"], rows["cache_read_tokens"]["unknown"]) == (0, 6)
    assert rows["cache_read_tokens"]["sum"] is None


def test_latency_quantiles(tiny: Traces) -> None:
    rows = {row.pop("measure"): row for row in _ask(tiny, "latency_quantiles", variant="baseline")}
    # model calls: 100 200 300 400 500 and one unknown
    assert rows["model_call"] == _approx(
        n=5, unknown=1, mean=300.0, sd=158.11388300841898, p50=300.0, p95=480.0, p99=496.0,
        max=500.0, sum=1500.0,
    )  # fmt: skip
    # tool calls: 50 40 60 70, the refused one has none
    assert (rows["tool_call"]["n"], rows["tool_call"]["unknown"]) == (4, 1)
    assert rows["tool_call"]["p50"] == 55.0
    # runs: 350 400 400 570
    assert (rows["run"]["p50"], rows["run"]["max"], rows["run"]["sum"]) == (400.0, 570.0, 1720.0)


def test_a_single_value_has_no_standard_deviation(tiny: Traces) -> None:
    rows = {row["measure"]: row for row in _ask(tiny, "latency_quantiles", source="bench")}
    assert (rows["run"]["n"], rows["run"]["sd"]) == (1, None)


def test_unknown_names_are_refused_with_the_nearest(tiny: Traces) -> None:
    with pytest.raises(UnknownNameError, match="nearest: pass_hat_k"):
        question("pas_hat_k")
    with pytest.raises(UnknownNameError, match="nearest: variant"):
        tiny.ask("pass_hat_k", varient="x")
    with pytest.raises(UnknownNameError, match="unknown grouping 'task'"):
        tiny.ask("pass_hat_k", by="variant,task")


def test_questions_are_listed_by_name() -> None:
    assert [one.name for one in questions()] == list(question_names())
    assert len(question_names()) == 34


def test_grouping_that_was_not_asked_for_is_not_shown(tiny: Traces) -> None:
    answer = question("stop_reasons").ask(tiny, by="variant")
    assert {"source", "suite", "model", "variant"} <= set(answer.column_names)
    shown = set(without_empty_groups(answer).column_names)
    assert shown & {"source", "suite", "model", "variant"} == {"variant"}


def _guarded_run(sink: Sink, name: str, minute: int, *, passed: bool | None) -> RunWriter:
    """A run whose clock starts at a minute after midnight, judged and not yet stopped."""
    clock = VirtualClock(VIRTUAL_EPOCH_US + minute * 60_000_000)
    writer = RunWriter(sink, name, clock=clock)
    writer.started(agent="a", suite="s", variant="baseline" if name < "r3" else "candidate")
    if passed is not None:
        writer.evaluation(passed=passed)
    return writer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """Three runs whose guardrails acted; latencies in ms, costs in USD.

    r1 00:10  browse ok 1000 .5, failed 3000 .5, budget x2 max_tool_calls "spent"; breaker of
              browse closed -> open; guard repeated_call of browse at steps 2 and 3; failed,
              loop_detected
    r2 00:50  browse ok 2000 .25; breaker of browse closed -> open; guard repeated_call of
              browse at step 5; not judged, ok
    r3 01:05  save kill_switch; kill switch off -> disable_writes; guard truncated at step 4;
              lookup ok without a latency; succeeded, ok
    """
    path = tmp_path_factory.mktemp("guarded") / "store"
    browse = {"step": 1, "tool_name": "browse"}
    with Recorder(path) as recorder:
        one = _guarded_run(recorder, "r1", 10, passed=False)
        one.tool_call(**browse, outcome="ok", latency_ms=1000.0, cost_usd=0.5)
        one.tool_call(**browse, outcome="failed", latency_ms=3000.0, cost_usd=0.5, attempt=2)
        for _ in range(2):
            one.tool_call(**browse, outcome="budget", error_type="max_tool_calls", error="spent")
        change = {"subject": "breaker", "tool_name": "browse", "step": 1}
        one.state_changed(**change, state_from="closed", state_to="open", detail="1 of 2 failed")
        for step in (2, 3):
            found = {"subject": "guard", "state_from": "ok", "tool_name": "browse", "step": step}
            one.state_changed(**found, state_to="repeated_call", detail="the same call")
        one.stopped(status="stopped", stop_reason="loop_detected")

        two = _guarded_run(recorder, "r2", 50, passed=None)
        two.tool_call(**browse, outcome="ok", latency_ms=2000.0, cost_usd=0.25)
        two.state_changed(**change, state_from="closed", state_to="open", detail="later")
        two.state_changed(**{**found, "step": 5}, state_to="repeated_call")
        two.stopped(status="completed", stop_reason="ok")

        three = _guarded_run(recorder, "r3", 65, passed=True)
        reason = {"error_type": "kill_switch", "error": "it is on"}
        three.tool_call(step=1, tool_name="save", outcome="kill_switch", **reason)
        three.tool_call(step=2, tool_name="lookup", outcome="ok")
        three.state_changed(
            subject="kill_switch", step=1, state_from="off", state_to="disable_writes"
        )
        three.state_changed(subject="guard", step=4, state_from="ok", state_to="truncated")
        three.stopped(status="completed", stop_reason="ok")
    with Traces(path) as traces:
        yield traces


def _at(hour: int, minute: int) -> datetime:
    """As the views give it: UTC without a zone."""
    return datetime(2025, 1, 1, hour, minute)


def test_refusals_count_calls_and_runs_per_reason(guarded: Traces) -> None:
    assert _ask(guarded, "refusals") == [
        _approx(
            outcome="budget", error_type="max_tool_calls", tool_name="browse", calls=2, runs=1,
            share=1 / 3, first_at=_at(0, 10), last_at=_at(0, 10), first_error="spent",
        ),
        _approx(
            outcome="kill_switch", error_type="kill_switch", tool_name="save", calls=1, runs=1,
            share=1 / 3, first_at=_at(1, 5), last_at=_at(1, 5), first_error="it is on",
        ),
    ]  # fmt: skip
    [row] = _ask(guarded, "refusals", by="variant", variant="baseline")
    assert (row["tool_name"], row["share"]) == ("browse", 0.5)


def test_refusals_of_the_tiny_store(tiny: Traces) -> None:
    rows = _ask(tiny, "refusals")
    found = [(row["outcome"], row["tool_name"], row["calls"], row["share"]) for row in rows]
    assert found == [("budget", "search", 1, 1 / 8), ("denied", "delete", 1, 1 / 8)]


def test_state_changes_are_counted_per_hour_in_order_of_time(guarded: Traces) -> None:
    rows = _ask(guarded, "state_changes")
    names = ("hour", "subject", "state_to", "changes", "runs", "first_at", "last_at")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (_at(0, 0), "breaker", "open", 2, 2, _at(0, 10), _at(0, 50)),
        (_at(0, 0), "guard", "repeated_call", 3, 2, _at(0, 10), _at(0, 50)),
        (_at(1, 0), "guard", "truncated", 1, 1, _at(1, 5), _at(1, 5)),
        (_at(1, 0), "kill_switch", "disable_writes", 1, 1, _at(1, 5), _at(1, 5)),
    ]
    assert [row["first_detail"] for row in rows] == ["1 of 2 failed", "the same call", None, None]
    assert (rows[0]["tool_name"], rows[0]["state_from"]) == ("browse", "closed")


def test_guard_findings_say_how_the_runs_ended(guarded: Traces) -> None:
    assert _ask(guarded, "guard_findings") == [
        _approx(
            guard="repeated_call", tool_name="browse", findings=3, runs=2, share=2 / 3,
            first_step=3.5, stopped=1, failures=1, unknown=1,
        ),
        _approx(
            guard="truncated", tool_name=None, findings=1, runs=1, share=1 / 3,
            first_step=4.0, stopped=0, failures=0, unknown=0,
        ),
    ]  # fmt: skip
    assert _ask(guarded, "guard_findings", suite="other") == []


def test_tool_use_per_run_counts_as_a_budget_per_tool_does(guarded: Traces) -> None:
    rows = {row.pop("tool_name"): row for row in _ask(guarded, "tool_use_per_run")}
    # browse: attempts 4 1, seconds 4 2, USD 1.0 .25; p95 at rank 1 + .95 of two values
    assert rows["browse"] == _approx(
        runs=2, p50_calls=2.5, p95_calls=3.85, max_calls=4, p50_seconds=3.0, p95_seconds=3.9,
        max_seconds=4.0, max_usd=1.0, refused=2,
    )  # fmt: skip
    lookup, save = rows["lookup"], rows["save"]
    assert (lookup["max_calls"], lookup["max_seconds"], lookup["max_usd"]) == (1, None, None)
    assert (save["max_calls"], save["max_seconds"], save["refused"]) == (1, 0.0, 0)
