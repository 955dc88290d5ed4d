"""The pages of a run, of two runs and of a store: what they show, and how large they get."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.reports.pages import diff_page, overview_page, run_page
from flightlog.analysis.reports.pages.diff import aligned
from flightlog.cli import run as command
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.record import record
from flightlog.trace.messages import Message


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a refusal and a lost policy, and one that goes another way at its second call."""
    path = tmp_path_factory.mktemp("pages") / "store"
    for name in ("left", "right"):
        with record(path, run_id=name, agent="desk", task_id="t", max_tool_calls=4) as one:
            one.model_call(
                step=1, request_model="m", outcome="ok", input_tokens=100, output_tokens=10,
                cache_read_tokens=80, cost_usd=0.01, latency_ms=100.0, has_policy=True,
                prompt=[Message("user", "Where is it?")], output=Message("assistant", "I look."),
            )  # fmt: skip
            one.tool_call(
                step=1, tool_name="find", args={"id": 1}, result="shipped", outcome="ok",
                effect="read", latency_ms=50.0,
            )  # fmt: skip
            one.model_call(
                step=2, request_model="m", outcome="ok", input_tokens=300, output_tokens=20,
                cost_usd=0.02, latency_ms=200.0, has_policy=False, is_truncated=True,
            )  # fmt: skip
            if name == "left":
                one.tool_call(
                    step=2, tool_name="refund", outcome="denied", error_type="not_allowed"
                )
            else:
                one.tool_call(step=2, tool_name="find", args={"id": 2}, outcome="ok")
                one.tool_call(step=2, tool_name="mail", args={"to": "x"}, outcome="failed")
            one.state_changed(subject="breaker", state_from="closed", state_to="open", detail="why")
            one.stopped(
                status="completed", stop_reason="ok", used_tool_calls=2, answer="It is shipped."
            )
    return path


@pytest.fixture(scope="module")
def traces(store: Path) -> Iterator[Traces]:
    with Traces(store) as opened:
        yield opened


def told(page: str) -> str:
    """The text of a page."""
    body = page[page.index("<body>") :]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def test_a_run_shows_its_calls_with_figures_and_what_was_refused(traces: Traces) -> None:
    page = told(run_page(traces, "left"))
    for text in (
        "It is shipped.", "100 in", "(80 cached)", "10 out", "$0.01", "50 ms", '{"id":1}',
        "shipped", "I look.", "denied: not_allowed", "truncated", "without policy", "closed",
        "max_tool_calls: used of 4 attempts", "Prompt size (tokens)",
    ):  # fmt: skip
        assert text in page, text


def test_two_runs_are_set_side_by_side_with_their_first_divergence(traces: Traces) -> None:
    page = diff_page(traces, "left", "right")
    assert "The runs part at step 2, with refund" in told(page)
    assert page.count('class="pair changed first"') == 1
    assert "1 of 3 the same" in told(page)


def test_equal_runs_do_not_part(traces: Traces) -> None:
    page = told(diff_page(traces, "left", "left"))
    assert "The tool calls of both runs are the same" in page


def test_alignment_puts_equal_calls_on_one_line() -> None:
    def calls(names: str, outcome: str = "ok") -> list[dict[str, object]]:
        return [{"name": name, "args_digest": name, "outcome": outcome} for name in names]

    assert [pair.how for pair in aligned(calls("abc"), calls("axc"))] == ["same", "changed", "same"]
    assert [pair.how for pair in aligned(calls("abc"), calls("ac"))] == ["same", "left", "same"]
    pairs = aligned(calls("ac"), calls("abbc"))
    assert [pair.how for pair in pairs] == ["same", "right", "right", "same"]
    assert [pair.is_first for pair in pairs] == [False, True, False, False]
    assert [pair.how for pair in aligned(calls("a"), calls("a", "failed"))] == ["changed"]
    assert aligned([], []) == []


def test_an_overview_has_figures_tables_and_plots(traces: Traces) -> None:
    page = overview_page(traces)
    text = told(page)
    assert "runs 2" in text
    assert "$0.06" in text
    for title in ("Agents", "How runs end", "Tools", "Dearest runs"):
        assert title in text
    assert "data:image/png;base64," in page


def test_a_run_of_ten_thousand_calls_and_long_texts_is_a_page_that_opens(tmp_path: Path) -> None:
    with record(tmp_path / "store", run_id="huge", agent="desk") as one:
        for step in range(5_000):
            text = f"{step}" + "x" * 9_000
            one.model_call(step=step, request_model="m", outcome="ok", input_tokens=step)
            one.tool_call(step=step, tool_name="find", args={"q": text}, result=text, outcome="ok")
    with Traces(tmp_path / "store") as traces:
        page = run_page(traces, "huge")
    assert len(page) < 3_000_000
    text = told(page)
    assert "9,600 calls and changes are left out here" in text
    assert "cut after 2,000 of 9,001" in text
    assert "flightlog show huge --full" in text


def test_a_run_without_an_end_or_a_call_has_a_page(tmp_path: Path) -> None:
    with record(tmp_path / "store", run_id="bare"):
        pass
    with Traces(tmp_path / "store") as traces:
        assert "No calls were recorded." in told(run_page(traces, "bare"))
        assert "Neither run called a tool." in told(diff_page(traces, "bare", "bare"))


def test_a_run_that_is_not_there_or_in_two_stores_is_an_error(
    traces: Traces, store: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="unknown run"):
        run_page(traces, "nope")
    with record(tmp_path / "other", run_id="left"):
        pass
    with (
        Traces(store, tmp_path / "other") as both,
        pytest.raises(UsageError, match="in several stores"),
    ):
        run_page(both, "left")


def test_the_commands_write_pages_and_open_them(
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    base = ["--store", str(store)]
    out = tmp_path / "deep" / "run.html"
    assert command(["report", "run", "left", "-o", str(out), "--open", *base]) == 0
    assert opened == [out.as_uri()]
    for rest in (["diff", "left", "right"], ["overview", "--by", "model"]):
        assert command(["report", *rest, "-o", str(tmp_path / "x.html"), *base]) == 0
    assert command(["report", "run", "nope", *base]) == 64
    assert command(["report", "overview", "--until", "2020-01-01", *base]) == 64
    assert "no run to plot" in capsys.readouterr().err
