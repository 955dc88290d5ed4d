"""Every report of a comparison whose names attack it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.metrics import METRIC_NAMES
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.reports.html_page import interval
from flightlog.analysis.reports.json_ import SCHEMA_VERSION
from flightlog.analysis.reports.markdown import escape_markdown
from flightlog.analysis.reports.render import FORMS, print_verdict, render, write_report
from flightlog.analysis.reports.schema import verdict_schema
from flightlog.errors import StoreError, UnknownNameError, UsageError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data


def test_the_comparison_is_hostile_everywhere(drifted, hostile):
    assert drifted.candidate == hostile
    assert drifted.lost_tasks[0].task_id == hostile
    assert any(run.run_id == hostile for run in drifted.skipped_runs)
    assert any(hostile in spike.run_id for spike in drifted.spikes)
    assert any(hostile in note for note in drifted.notes)
    assert {task.suite for task in drifted.tasks} == {hostile}


@pytest.mark.parametrize("form", FORMS)
def test_no_report_holds_a_control_character(drifted, form):
    assert not CONTROLS.search(render(drifted, form))


@pytest.mark.parametrize("form", FORMS)
def test_the_same_verdict_gives_the_same_bytes(drifted, form):
    assert render(drifted, form) == render(drifted, form)


def test_text_says_the_decision_and_why_in_its_first_line(drifted):
    first = render(drifted, "text").splitlines()[0]
    assert first == drifted.headline
    assert first.startswith("DRIFT: tool_calls_per_run rose")


def test_text_shows_hostile_text_as_text(drifted):
    text = render(drifted, "text")
    assert text.count("[a](http://evil)") + text.count("[a]\n") >= 10
    assert "\\x1b[31mred\\u202e\\n#" in text


def test_text_fits_80_columns_after_its_first_line(drifted):
    assert max(len(line) for line in render(drifted, "text").splitlines()[1:]) <= 80


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colour_and_no_other_control(drifted, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    print_verdict(drifted, file=out)
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert text != out.getvalue()
    assert not CONTROLS.search(text)
    assert "DRIFT" in text


def test_a_pipe_gets_plain_text(drifted):
    out = io.StringIO()
    print_verdict(drifted, file=out)
    assert out.getvalue() == render(drifted, "text")


def test_brief_text_ends_with_the_metrics(drifted):
    out = io.StringIO()
    print_verdict(drifted, file=out, brief=True)
    assert render(drifted, "text").startswith(out.getvalue().rstrip())
    assert "Spikes" not in out.getvalue()


def test_json_is_whole_and_versioned(drifted, hostile):
    found = json.loads(render(drifted, "json"))
    assert found["schema_version"] == SCHEMA_VERSION
    assert found["decision"] == "DRIFT"
    assert found["exit_code"] == 1
    assert found["candidate"] == hostile
    assert [m["name"] for m in found["metrics"]] == list(METRIC_NAMES)
    assert set(found["metrics"][0]) == {
        "name", "unit", "kind", "higher_is_worse", "tolerance", "is_gated", "decision", "strength",
        "reason", "baseline", "candidate", "change", "typical_change", "lower", "upper", "p_worse",
        "p_better", "advice", "baseline_runs", "candidate_runs", "moved", "from_zero",
    }  # fmt: skip


def test_json_is_as_its_published_schema_says(drifted, traces_of, pairs_of_runs):
    published = json.loads(Path("docs/verdict.schema.json").read_text(encoding="utf-8"))
    assert published == verdict_schema()
    validator = Draft202012Validator(published)
    validator.check_schema(published)
    unchanged = compare(traces_of(pairs_of_runs(6, 2, cost_usd=None)))
    for verdict in (drifted, unchanged):
        validator.validate(json.loads(render(verdict, "json")))
    wrong = {**json.loads(render(drifted, "json")), "decision": "MAYBE"}
    assert not validator.is_valid(wrong)


def test_json_has_no_infinity(drifted):
    metric = replace(drifted.metrics[1], change=math.inf, upper=math.inf)
    found = json.loads(
        render(replace(drifted, metrics=(metric,)), "json"), parse_constant=pytest.fail
    )
    assert found["metrics"][0]["change"] is None
    assert found["metrics"][0]["from_zero"] is True


def test_html_runs_nothing_and_loads_nothing(drifted):
    page = Page(render(drifted, "html"))
    assert not {"script", "iframe", "object", "embed", "link", "a", "form"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not [value for _, name, value in page.attributes if name in ("src", "href")]
    [policy] = [
        value for _, name, value in page.attributes if name == "content" and "'none'" in value
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy


def test_html_shows_hostile_text_as_text(drifted):
    page = Page(render(drifted, "html"))
    assert "<script>alert(1)</script>|`x` ]]> \\x1b[31mred\\u202e" in page.text
    assert drifted.headline in page.text


def test_html_embeds_a_plot_and_nothing_else(drifted, tmp_path):
    plot = tmp_path / "plot.png"
    plot.write_bytes(PNG)
    page = Page(render(drifted, "html"))
    assert "img" not in page.tags
    write_report(drifted, tmp_path / "new" / "report.html", form="html", plot=plot)
    page = Page((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    [source] = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert source == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    plot.write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(UsageError, match="not a PNG"):
        render(drifted, "html", plot=plot)


def test_an_improvement_shows_no_p_value_of_getting_worse(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2)
    for run in runs:
        run["calls"] = 8 if run["variant"] == "baseline" else 4
    improved = compare(traces_of(runs))
    assert improved.metrics[1].decision is Decision.IMPROVED
    for form in ("text", "html"):
        part = render(improved, form).split("fell 50.0 %")[1][:40]
        assert "p = " not in part


def test_intervals_have_worse_to_the_right(drifted):
    success = next(m for m in drifted.metrics if m.name == "success")
    calls = next(m for m in drifted.metrics if m.name == "tool_calls_per_run")
    worse = replace(success, lower=-0.3, change=-0.1, upper=0.0)
    assert interval(worse).dot > interval(worse).zero
    assert interval(calls).dot > interval(calls).limit
    from_zero = replace(calls, lower=math.inf, change=math.inf, upper=math.inf)
    assert interval(from_zero).dot == 195.0
    assert interval(replace(calls, lower=None)) is None


def test_junit_has_a_case_per_metric_and_fails_the_drifted(drifted):
    root = ElementTree.fromstring(render(drifted, "junit"))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {m.name for m in drifted.metrics}
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert failed == {
        m.name for m in drifted.metrics if m.is_gated and m.decision is Decision.DRIFT
    }
    assert root.find("testsuite").get("failures") == str(len(failed))
    assert "\\x1b" in root.find(".//property[@name='candidate']").get("value")


def test_markdown_tables_keep_their_columns(drifted):
    lines = render(drifted, "md").splitlines()
    for block, columns in (("| metric |", 8), ("| suite |", 6)):
        start = next(n for n, line in enumerate(lines) if line.startswith(block))
        rows = [line for line in lines[start:] if line.startswith("|")]
        for line in rows[: 2 + 6]:
            assert len(re.findall(r"(?<!\\)\|", line)) == columns + 1


def test_markdown_shows_hostile_text_as_text(hostile):
    text = escape_markdown(hostile)
    assert "<" not in text
    assert "\n" not in text
    assert "http://" not in text
    assert "@" not in text
    assert not re.search(r"(?<!\\)[`|\[\]*_~]", text.replace("\\\\", ""))


@pytest.mark.parametrize("text", ["- x", "# x", "+ x", "1. x", "12) x", "=== x"])
def test_markdown_does_not_begin_a_block(text):
    assert "\\" in escape_markdown(text, starts_line=True)[: len("12\\")]


def test_an_unknown_form_names_the_known_ones(drifted):
    with pytest.raises(UnknownNameError, match="nearest: html"):
        render(drifted, "htm")


def test_a_report_that_cannot_be_written_is_an_error(drifted, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write the report"):
        write_report(drifted, tmp_path / "file" / "report.md", form="md")
