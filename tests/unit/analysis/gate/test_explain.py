"""A verdict read back from its JSON, and said in plain sentences."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.reports.plain import explain
from flightlog.analysis.reports.reading import read_verdict
from flightlog.analysis.reports.render import render, write_report
from flightlog.cli import run
from flightlog.errors import TraceFormatError, UnknownNameError


def test_a_verdict_reads_back_as_it_was_written(drifted, tmp_path):
    path = write_report(drifted, tmp_path / "v.json", form="json")
    again = read_verdict(path)
    assert again == drifted
    assert render(again, "json") == path.read_text(encoding="utf-8")


def test_a_rise_from_zero_stays_infinite(traces_of, pairs_of_runs, tmp_path):
    runs = [{**run, "calls": int(run["variant"] == "candidate")} for run in pairs_of_runs(10, 2)]
    verdict = compare(traces_of(runs), metrics=["tool_calls_per_run"])
    again = read_verdict(write_report(verdict, tmp_path / "v.json", form="json"))
    assert again.metrics[0].change == float("inf")
    assert "from 0" in " ".join(explain(again, "tool_calls_per_run"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "", "cannot be read"),
        (lambda _: "[]", "no verdict of version"),
        (lambda text: text.replace('"schema_version": 3', '"schema_version": 2'), "but 2"),
        (lambda text: text.replace('"DRIFT"', '"MAYBE"'), "MAYBE"),
        (lambda text: text.replace('"metrics":', '"metrix":'), "'metrics' is a required property"),
        (lambda _: "[" * 100_000, "cannot be read"),
    ],
)
def test_a_file_that_is_no_verdict_is_named(drifted, tmp_path, change, message):
    path = tmp_path / "v.json"
    path.write_text(change(render(drifted, "json")))
    with pytest.raises(TraceFormatError, match=message) as caught:
        read_verdict(path)
    assert str(path) in str(caught.value)
    with pytest.raises(TraceFormatError):
        read_verdict(tmp_path / "none.json")


def text_of(verdict, metric):
    return " ".join(explain(verdict, metric))


def test_a_drift_says_what_was_tested_on_what_and_what_would_change_it(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(12, 2, calls=5)))
    text = text_of(verdict, "tool_calls_per_run")
    assert "12 tasks, 24 baseline runs, 24 candidate runs" in text
    assert f"seed {verdict.method.seed}" in text
    assert "4.00 -> 5.00" in text
    assert "at least +25.0 % and at most +25.0 %, each with 95 % confidence" in text
    assert "in less than 0.1 % of such comparisons, corrected for the 7 gated metrics" in text
    assert "DRIFT, confirmed" in text
    assert "100 % of the added tool calls come from 'search' called again" in text
    assert "above 25.0 % it would be OK; above 25.0 % it would no longer be confirmed" in text


def test_an_open_metric_says_how_many_trials_would_settle_it(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(8, 1)))
    text = text_of(verdict, "success")
    assert "INCONCLUSIVE" in text
    assert "trials per task on both sides would settle it" in text
    assert "with a tolerance above 31.2 pts it would be OK" in text


def test_an_unrecorded_metric_says_how_to_have_it(traces_of, pairs_of_runs):
    runs = [{**run, "cost_usd": None} for run in pairs_of_runs(8, 2)]
    text = text_of(compare(traces_of(runs)), "cost_usd")
    assert "It was not compared: unknown or 0 in 100% of the runs of the baseline" in text
    assert "To have it: give the model a price" in text


def test_ok_says_from_which_tolerance_on_it_would_not_be(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(30, 2)))
    assert "with a tolerance below" in text_of(verdict, "success")


def test_every_metric_of_every_verdict_can_be_explained(drifted, traces_of, pairs_of_runs):
    unchanged = compare(traces_of(pairs_of_runs(30, 2)))
    apart = compare(traces_of(pairs_of_runs(6, 2, session_id="other")))
    for verdict in (drifted, unchanged, apart, replace(unchanged, loosened=("all of it",))):
        for metric in verdict.metrics:
            assert explain(verdict, metric.name)
        assert explain(verdict)[0] == verdict.headline
    assert any("may be the day" in text for text in explain(apart))


def test_an_improvement_is_said_as_one(traces_of, pairs_of_runs):
    runs = [
        {**run, "calls": 8 if run["variant"] == "baseline" else 4} for run in pairs_of_runs(30, 2)
    ]
    verdict = compare(traces_of(runs))
    assert verdict.metrics[1].decision is Decision.IMPROVED
    assert "IMPROVED: fell 50.0 %" in text_of(verdict, "tool_calls_per_run")


def test_an_unknown_metric_names_the_nearest(drifted):
    with pytest.raises(UnknownNameError, match="nearest: cost_usd"):
        explain(drifted, "cost_us")


def test_the_command_prints_harmless_lines_of_80_columns(drifted, tmp_path, capsys):
    path = write_report(drifted, tmp_path / "v.json", form="json")
    assert run(["explain", str(path)]) == 0
    assert run(["explain", str(path), "--metric", "tool_calls_per_run"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert run(["explain", str(path), "--metric", "none"]) == 64
    assert json.loads(path.read_text(encoding="utf-8"))["decision"] == "DRIFT"
