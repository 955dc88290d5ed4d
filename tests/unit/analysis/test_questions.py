"""Every question, its figures worked out by hand on the tiny store."""

from __future__ import annotations

from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.questions import question, question_names, questions, without_empty_groups
from flightlog.errors import UnknownNameError

GROUPS = ("source", "suite", "model", "variant")


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
    assert [entry.name for entry in asked.file.parameters] == [*GROUPS, "by"]


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
    assert len(question_names()) == 13


def test_grouping_that_was_not_asked_for_is_not_shown(tiny: Traces) -> None:
    answer = question("stop_reasons").ask(tiny, by="variant")
    assert {"source", "suite", "model", "variant"} <= set(answer.column_names)
    shown = set(without_empty_groups(answer).column_names)
    assert shown & {"source", "suite", "model", "variant"} == {"variant"}
