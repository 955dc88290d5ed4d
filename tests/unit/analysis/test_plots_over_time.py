"""Figures over time: every one is drawn, whatever the store holds, and says the same each time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks._traffic import Traffic
from flightlog.analysis.db import Traces
from flightlog.analysis.plots import plot_budgets
from flightlog.analysis.plots.over_time import FIGURES, plot_over_time, times_of
from flightlog.analysis.window import Scope
from flightlog.cli import run as command
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.record import record
from tests.unit.analysis.made_events import Run, traces_of_runs

HOSTILE = "$\\frac{1}{0}$\x1b[31m<script>"


@pytest.fixture(scope="module")
def traffic() -> Iterator[Traces]:
    with Traffic(5, runs=400, hours=30).traces() as traces:
        yield traces


def texts(file: Path) -> str:
    """The texts of an SVG: matplotlib writes each as a comment beside its glyphs."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_the_same_each_time(
    traffic: Traces, tmp_path: Path, name: str
) -> None:
    first = plot_over_time(traffic, name, tmp_path / "a.svg").read_bytes()
    assert first == plot_over_time(traffic, name, tmp_path / "b.svg").read_bytes()
    assert plot_over_time(traffic, name, tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    assert FIGURES[name][0] in texts(tmp_path / "a.svg")


@pytest.mark.parametrize("name", FIGURES)
def test_one_run_of_hostile_names_is_drawn(tmp_path: Path, name: str) -> None:
    run = Run("r", agent=HOSTILE).model(model=HOSTILE, latency_ms=5.0, input_tokens=9)
    run.tool(HOSTILE, "failed", latency_ms=0.0).stop(HOSTILE)
    with traces_of_runs(run) as traces:
        plot_over_time(traces, name, tmp_path / "one.svg")
        drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert "\x1b" not in drawn
    assert "<script" not in drawn


@pytest.mark.parametrize(
    ("apart", "width", "pieces"),
    [(0, 1, 1), (50, 1, 51), (3_590, 60, 60), (86_400, 1_800, 49), (730 * 86_400, 28 * 86_400, 27)],
)
def test_pieces_of_time_fit_the_span(apart: float, width: float, pieces: int) -> None:
    runs = [Run("a").stop(), Run("b", s=apart).stop()]
    with traces_of_runs(*runs) as traces:
        times = times_of(traces, Scope(), "agent")
    assert times.width == width
    assert abs(len(times.begins) - pieces) <= 1
    assert times.runs == 2


def test_sums_over_the_pieces_are_those_of_the_runs(traffic: Traces) -> None:
    times = times_of(traffic, Scope(), "tenant")
    rows = times.ask("runs", by="tenant")
    [whole] = traffic.rows("SELECT count(*) AS runs, sum(cost_usd) AS usd FROM runs")
    assert sum(row["runs"] for row in rows) == whole["runs"]
    assert sum(row["usd"] or 0 for row in rows) == pytest.approx(whole["usd"])
    assert set(np.unique([row["begin"] for row in rows])) <= set(times.begins)


def test_a_figure_can_be_narrowed(traffic: Traces) -> None:
    begin = datetime(2026, 11, 2, 10, tzinfo=UTC)
    scope = Scope(since=begin, until=begin + timedelta(hours=5), agent="support")
    times = times_of(traffic, scope, "model")
    assert times.begins[0] >= begin.timestamp()
    assert 0 < times.runs < 100


def test_what_cannot_be_drawn_is_refused(traffic: Traces, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown figure"):
        plot_over_time(traffic, "nope", tmp_path / "a.png")
    with pytest.raises(UnknownNameError, match="unknown group"):
        plot_over_time(traffic, "cost", tmp_path / "a.png", by="moon")
    with pytest.raises(UsageError, match="no run to plot"):
        plot_over_time(traffic, "cost", tmp_path / "a.png", scope=Scope(agent="nobody"))
    with pytest.raises(UsageError, match=r"name a \.png or a \.svg"):
        plot_over_time(traffic, "cost", tmp_path / "a.pdf")


def test_budgets_are_told_apart_by_agent_and_narrowed(tmp_path: Path) -> None:
    for agent in ("desk", "other"):
        with record(tmp_path / "store", agent=agent, max_steps=4, tenant=f"of-{agent}") as one:
            one.model_call(step=1)
            one.stopped(status="completed", stop_reason="ok", used_steps=2)
    with Traces(tmp_path / "store") as traces:
        plot_budgets(traces, tmp_path / "by.svg", by="agent")
        drawn = texts(tmp_path / "by.svg")
        assert "desk" in drawn
        assert "other" in drawn
        plot_budgets(traces, tmp_path / "one.svg", by="tenant", scope=Scope(agent="desk"))
        drawn = texts(tmp_path / "one.svg")
        assert "of-desk" in drawn
        assert "of-other" not in drawn


@pytest.mark.parametrize("name", FIGURES)
def test_the_commands_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with record(tmp_path / "store", agent="desk") as one:
        one.model_call(step=1, latency_ms=3.0, cost_usd=0.1)
    out = tmp_path / f"{name}.svg"
    assert command(["plot", name, "--store", str(tmp_path / "store"), "--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert out.stat().st_size > 5_000
