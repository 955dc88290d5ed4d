"""Advice: limits that lose no more successes than wanted, and the curve of one limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.analysis.plots.curve import plot_curve
from flightlog.analysis.whatif import History, Limits, advise, curve_of, history_of
from flightlog.analysis.whatif.advice import needs_of, snippet
from flightlog.analysis.whatif.tables import advice_table, curve_table
from flightlog.analysis.window import Scope, open_window
from flightlog.config import load_config
from flightlog.errors import UsageError
from flightlog.runtime.from_config import policy_from
from tests.unit.analysis.made_events import Run, traces_of_runs


def run_of(number: int, steps: int, *, passed: bool = True) -> Run:
    run = Run(f"r{number:03d}", s=1_000.0 * number)
    for step in range(1, steps + 1):
        run.model(step=step, usd=0.01, input_tokens=90, output_tokens=10).tool("t", step=step)
    return run.stop().judged(passed=passed)


def history(*runs: Run) -> History:
    return history_of(open_window(traces_of_runs(*runs), Scope()))


@pytest.fixture(scope="module")
def hundred() -> History:
    """Runs with 1 to 100 steps that succeed, and ten of 200 steps that do not."""
    runs = [run_of(number, number) for number in range(1, 101)]
    return history(*runs, *(run_of(number, 200, passed=False) for number in range(101, 111)))


def test_what_a_run_needs_is_the_least_limit_that_does_not_end_it() -> None:
    made = history(run_of(1, 3), run_of(2, 5))
    needs = {name: need.tolist() for name, need in needs_of(made).items()}
    assert needs["max_steps"] == [3, 5]
    assert needs["max_tool_calls"] == [3, 5]
    assert needs["max_usd"] == pytest.approx([0.03, 0.05])
    assert needs["max_tokens"] == [300, 500]
    assert needs["max_seconds"] == [6, 10]


@pytest.mark.parametrize("wanted", [0.0, 0.01, 0.05, 0.2])
def test_all_limits_together_lose_no_more_than_wanted(hundred: History, wanted: float) -> None:
    advice = advise(hundred, wanted)
    assert advice.saved.lost_share <= wanted
    assert [one.name for one in advice.proposals] == [
        "max_steps", "max_seconds", "max_tool_calls", "max_usd", "max_tokens",
    ]  # fmt: skip
    # The runs without a success are what is saved: they go on to 200 steps.
    assert advice.saved.runs_cut >= 10
    assert advice.saved.usd >= 10 * 0.9


def test_a_larger_loss_gives_tighter_limits(hundred: History) -> None:
    tight, loose = advise(hundred, 0.3), advise(hundred, 0.02)
    for one, other in zip(tight.proposals, loose.proposals, strict=True):
        assert one.value < other.value


def test_too_few_successes_are_no_ground_for_limits() -> None:
    with pytest.raises(UsageError, match="19 runs with a success are too few"):
        advise(history(*(run_of(number, 3) for number in range(19))), 0.01)


def test_the_snippet_is_a_valid_part_of_the_settings(hundred: History, tmp_path: Path) -> None:
    advice = advise(hundred, 0.05)
    file = tmp_path / "flightlog.yaml"
    prices = "prices:\n  m: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}\n"
    file.write_text(f"tools: {{allow: [t]}}\n{snippet(advice)}\n{prices}", encoding="utf-8")
    budget = policy_from(load_config(file)).budget
    assert budget.max_tool_calls == int(advice.proposals[2].value)
    assert budget.max_usd == advice.proposals[3].value
    assert advice_table(advice).num_rows == 5


def test_a_curve_falls_as_the_limit_rises(hundred: History) -> None:
    points = curve_of(hundred, "max_steps", [10, 50, 90, 200], Limits())
    saved = [point.saved.usd for point in points]
    assert saved == sorted(saved, reverse=True)
    assert [point.saved.successes_lost for point in points] == [90, 50, 10, 0]
    table = curve_table("max_steps", points)
    assert table.column("max_steps").to_pylist() == [10, 50, 90, 200]
    assert table.column("lost_share_low").to_pylist()[0] < 0.9


def test_a_curve_is_drawn_and_one_point_is_none(hundred: History, tmp_path: Path) -> None:
    points = curve_of(hundred, "max_steps", [10, 50, 200], Limits())
    first = plot_curve(points, "max_steps", tmp_path / "a.svg").read_bytes()
    assert first == plot_curve(points, "max_steps", tmp_path / "b.svg").read_bytes()
    assert plot_curve(points, "max_steps", tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(UsageError, match="no curve"):
        plot_curve(points[:1], "max_steps", tmp_path / "c.png")
