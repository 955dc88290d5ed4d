"""The budget plot: its numbers, and the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.plots import plot_budgets
from flightlog.analysis.plots.budget_use import NO_VARIANT, budget_use
from flightlog.analysis.plots.budgets import _figure
from flightlog.analysis.plots.canvas import COLOURS
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Snapshot
from flightlog.trace.clock import VirtualClock
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import events_schema, messages_schema
from flightlog.trace.sink import Sink

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def _run(
    sink: Sink, number: int, *, variant: str | None, used: int | None, limit: int = 10
) -> None:
    clock = VirtualClock(1_760_000_000_000_000 + number * 60_000_000)
    writer = RunWriter(sink, f"r{number:05}", clock=clock)
    writer.started(variant=variant, max_tool_calls=limit)
    if used is not None:
        reason = "max_tool_calls" if used >= limit else "ok"
        writer.stopped(stop_reason=reason, max_tool_calls=limit, used_tool_calls=used)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_stop_by_the_tenant_s_limit_is_no_hit_of_the_run_s_own(store: Path) -> None:
    detail = "budget max_tool_calls=20 of tenant 'a' per 60 s used up (20 spent by all its runs)"
    scoped = (
        '[{"scope": "tenant:a", "budget": "max_tool_calls", "unit": "attempts",'
        ' "allowed": 20, "used": 20}]'
    )
    with Recorder(store) as recorder:
        _run(recorder, 1, variant="a", used=10)
        writer = RunWriter(recorder, "r2", clock=VirtualClock(1_760_000_000_000_000))
        writer.started(variant="a", max_tool_calls=10)
        writer.stopped(
            stop_reason="max_tool_calls",
            stop_detail=detail,
            max_tool_calls=10,
            used_tool_calls=1,
            scoped_budgets=scoped,
        )
    with Traces(store) as traces:
        use = budget_use(traces)
        hits = traces.rows("SELECT run_id, scope, is_hit FROM budgets ORDER BY ALL")
    assert use.panels[0].series[0].is_hit.tolist() == [False, True]
    assert use.tenant_stops == 1
    [subtitle] = [text.get_text() for text in _figure(use, "x").texts if "runs" in text.get_text()]
    assert subtitle == "2 runs, each as a share of its own limit; limits of tenants stopped 1"
    assert [tuple(row.values()) for row in hits] == [
        ("r00001", "run", True),
        ("r2", "run", False),
        ("r2", "tenant:a", True),
    ]


def test_seconds_on_the_axis_have_their_hour_and_minute(store: Path) -> None:
    with Recorder(store) as recorder:
        for second in (0, 20, 40):
            clock = VirtualClock(1_760_000_000_000_000 + second * 1_000_000)
            RunWriter(recorder, f"r{second}", clock=clock).started(max_tool_calls=9)
            RunWriter(recorder, f"r{second}", clock=clock).stopped(used_tool_calls=1)
    with Traces(store) as traces:
        axes = _figure(budget_use(traces), "x").axes[0]
    axes.figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "08:53:40" in labels
    assert all(len(label) == 8 for label in labels), labels
    assert axes.xaxis.get_offset_text().get_text() == "2025-Oct-09"


def test_the_numbers_are_shares_of_the_limit(tiny: Traces) -> None:
    use = budget_use(tiny)
    assert use.variants == ("baseline", "candidate")
    assert (use.runs, use.is_timed, use.variants_left_out) == (8, True, ())
    assert [panel.budget for panel in use.panels] == ["max_steps", "max_tool_calls", "max_seconds"]
    calls = use.panels[1]
    assert (calls.unit, calls.limits, calls.unknown) == ("attempts", (2.0, 2.0), 0)
    baseline, candidate = calls.series
    assert baseline.share.tolist() == [0.5, 1.0, 0.0, 0.5]
    assert baseline.is_hit.tolist() == [False, True, False, False]
    assert candidate.share.tolist() == [0.5, 0.0, 0.5, 0.0]
    # 0 .5 .5 1: p95 at rank 2.85
    spread = baseline.spread
    assert (spread.runs, spread.median, spread.largest, spread.hits) == (4, 0.5, 1.0, 1)
    assert spread.p95 == pytest.approx(0.925)
    # One minute apart, in days.
    assert np.diff(baseline.x).tolist() == pytest.approx([1 / 1440] * 3)


def test_variants_are_shown_in_the_order_asked_for(tiny: Traces) -> None:
    assert budget_use(tiny, variants=["candidate"]).runs == 4
    use = budget_use(tiny, variants=["candidate", "baseline"])
    assert use.variants == ("candidate", "baseline")
    with pytest.raises(UnknownNameError, match="nearest: candidate"):
        budget_use(tiny, variants=["candidat"])


def test_runs_of_one_moment_are_shown_by_number(store: Path) -> None:
    with Recorder(store) as recorder:
        for number in range(3):
            writer = RunWriter(recorder, f"r{number}", clock=VirtualClock())
            writer.started(max_steps=4)
            writer.stopped(used_steps=number)
    with Traces(store) as traces:
        use = budget_use(traces)
    assert not use.is_timed
    assert use.variants == (NO_VARIANT,)
    assert use.panels[0].series[0].x.tolist() == [1.0, 2.0, 3.0]
    assert use.panels[0].series[0].share.tolist() == [0.0, 0.25, 0.5]


def test_too_many_variants_show_the_largest_and_say_so(store: Path) -> None:
    with Recorder(store) as recorder:
        for number in range(15):
            _run(recorder, number, variant=f"v{number % 8}", used=1)
    with Traces(store) as traces:
        use = budget_use(traces)
        assert use.variants == ("v0", "v1", "v2", "v3", "v4", "v5")
        assert use.variants_left_out == ("v6", "v7")
        with pytest.raises(UsageError, match="at most 6 variants"):
            budget_use(traces, variants=[f"v{number}" for number in range(8)])


def test_a_store_without_limits_is_a_usage_error(store: Path, tmp_path: Path) -> None:
    with Recorder(store) as recorder:
        RunWriter(recorder, "r1").started()
    with Traces(store) as traces, pytest.raises(UsageError, match="has a budget limit"):
        plot_budgets(traces, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_runs_of_unknown_use_are_counted_and_not_drawn(store: Path) -> None:
    with Recorder(store) as recorder:
        _run(recorder, 0, variant="a", used=5)
        writer = RunWriter(recorder, "r1")
        writer.started(variant="a", max_tool_calls=10)
        writer.stopped(max_tool_calls=10)
    with Traces(store) as traces:
        (panel,) = budget_use(traces).panels
    assert panel.unknown == 1
    assert [share for one in panel.series for share in one.share.tolist()] == [0.5]


def test_limits_without_any_known_use_are_a_usage_error(store: Path, tmp_path: Path) -> None:
    with Recorder(store) as recorder:
        writer = RunWriter(recorder, "r1")
        writer.started(variant="a", max_tool_calls=10)
        writer.stopped(max_tool_calls=10)
    with Traces(store) as traces, pytest.raises(UsageError, match="known use"):
        plot_budgets(traces, tmp_path / "out.png")


@pytest.mark.parametrize("name", ["out.pdf", "out", "out.png.txt"])
def test_only_png_and_svg_are_written(tiny: Traces, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot plot to"):
        plot_budgets(tiny, tmp_path / name)
    with pytest.raises(UsageError, match="does not exist"):
        plot_budgets(tiny, tmp_path / "no" / "out.png")


@pytest.mark.parametrize("name", ["out.png", "out.SVG"])
def test_the_same_runs_give_the_same_bytes(tiny: Traces, tmp_path: Path, name: str) -> None:
    first = plot_budgets(tiny, tmp_path / name).read_bytes()
    again = plot_budgets(tiny, tmp_path / name).read_bytes()
    assert first == again
    assert first.startswith(PNG_MAGIC if name.endswith("png") else b"<?xml")
    assert b"<dc:date>" not in first


@pytest.mark.parametrize("runs", [1, 2, 30, 4000])
def test_one_run_and_many_are_drawn(tmp_path: Path, runs: int) -> None:
    rows = [
        row
        for number in range(runs)
        for row in (
            {"kind": "run_started", "run_id": f"r{number}", "seq": 0, "variant": "ab"[number % 2]},
            {
                "kind": "run_stopped", "run_id": f"r{number}", "seq": 1, "max_steps": 10,
                "used_steps": number % 30, "stop_reason": "ok" if number % 30 < 10 else "max_steps",
            },
        )
    ]  # fmt: skip
    events = pa.Table.from_pylist(rows, schema=events_schema())
    snapshot = Snapshot((), (), events, messages_schema().empty_table(), ())
    with Traces.of_snapshots({"s": snapshot}) as traces:
        assert plot_budgets(traces, tmp_path / "out.png").read_bytes().startswith(PNG_MAGIC)


def test_labels_are_content_and_not_formulas(store: Path, tmp_path: Path) -> None:
    hostile = ["$\\frac{1}{$", "_hidden", "--><script>x</script>", "\x1b[31m", "漢字", "%s {0}"]
    with Recorder(store) as recorder:
        for number, variant in enumerate(hostile):
            _run(recorder, number, variant=variant, used=20)
    with Traces(store) as traces:
        svg = plot_budgets(traces, tmp_path / "out.svg", title="$x$").read_text(encoding="utf-8")
    assert "<script>" not in svg
    assert "\x1b" not in svg
    assert "$\\frac{1}{$" in svg  # as the comment beside the drawn letters
    assert "_hidden" in svg


def test_plotting_touches_no_global_figure(tiny_store: Path, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, matplotlib\n"
        "from flightlog.analysis.db import Traces\n"
        "from flightlog.analysis.plots import plot_budgets\n"
        "names = ('svg.hashsalt', 'text.parse_math', 'font.size')\n"
        "before = [matplotlib.rcParams[name] for name in names]\n"
        "with Traces(sys.argv[1]) as traces:\n"
        "    plot_budgets(traces, pathlib.Path(sys.argv[2]))\n"
        "assert [matplotlib.rcParams[name] for name in names] == before\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(tiny_store), str(tmp_path / "out.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_colours_are_told_apart() -> None:
    assert len(set(COLOURS)) == len(COLOURS) == 6


def test_long_names_of_variants_stand_below_the_title_and_inside(store: Path) -> None:
    with Recorder(store) as recorder:
        for number in range(12):
            _run(recorder, number, variant=f"{'W' * 28}-{number % 6}", used=3)
    with Traces(store) as traces:
        figure = _figure(budget_use(traces), "Budget use per run")
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    heads = [text.get_window_extent() for text in figure.texts]
    assert not any(legend.overlaps(head) for head in heads)
    assert not legend.overlaps(figure.axes[0].get_window_extent())
    assert figure.bbox.x0 <= legend.x0
    assert legend.x1 <= figure.bbox.x1
