"""`flightlog whatif` and `flightlog budgets advise`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.recorder.record import record


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty runs of 1 to 6 calls; each call costs 0.1 USD."""
    path = tmp_path_factory.mktemp("whatif") / "store"
    for number in range(30):
        with record(path, agent="desk", tenant="acme", task_id=str(number)) as one:
            for step in range(1, number % 6 + 2):
                one.model_call(step=step, request_model="m", outcome="ok", cost_usd=0.1)
                one.tool_call(step=step, tool_name="t", effect="read", outcome="ok", args={"n": 1})
            one.stopped(status="completed", stop_reason="ok")
    return path


def asked(store: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, float]]:
    assert run(["whatif", "--store", str(store), "--json", *options]) == 0
    found: list[dict[str, float]] = json.loads(capsys.readouterr().out)
    return found


def test_a_range_gives_a_row_per_value(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = asked(store, capsys, "--max-tool-calls", "1..6")
    assert [row["max_tool_calls"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["runs_cut"] for row in rows] == [25, 20, 15, 10, 5, 0]
    assert [row["tool_calls_saved"] for row in rows] == [75, 50, 30, 15, 5, 0]


def test_single_limits_hold_together(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = asked(store, capsys, "--max-tool-calls", "4", "--max-steps", "2")
    assert row["runs_cut"] == 20
    rows = asked(store, capsys, "--max-steps", "2,4", "--dedupe")
    assert [row["max_steps"] for row in rows] == [2, 4]
    assert rows[0]["tool_calls_saved"] > 50


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "no limit was given"),
        (["--max-steps", "1..3", "--max-usd", "0.1..1"], "both take several values"),
        (["--max-steps", "3..1"], "no number, list"),
        (["--max-steps", "a"], "no number, list"),
        (["--max-steps", "-1"], "no number|not 0 or more"),
        (["--max-usd", "nan"], "not 0 or more"),
        (["--per-tool", "x"], "is not TOOL=CALLS"),
        (["--breaker", "x=a"], "is not TOOL or"),
        (["--max-steps", "3", "-o", "c.pdf"], "no ending that names a form"),
        (["--max-steps", "3", "-o", "c.png"], "one value is no curve"),
    ],
)
def test_what_means_nothing_is_refused(
    store: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    import re

    assert run(["whatif", "--store", str(store), *options]) == 64
    assert re.search(told, capsys.readouterr().err)


def test_the_curve_is_written_as_picture_and_table(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"curve.{ending}" for ending in ("png", "svg", "csv", "json")]
    options = [part for file in files for part in ("-o", str(file))]
    assert run(["whatif", "--store", str(store), "--max-usd", "0.1..0.6", *options]) == 0
    assert "exact: the limits cut recorded runs" in capsys.readouterr().out
    assert all(file.stat().st_size for file in files)
    assert files[2].read_text(encoding="utf-8").startswith("max_usd,runs_cut,")


def test_a_bound_is_told_as_one(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["whatif", "--store", str(store), "--breaker", "t=0.5,3,60,30"]) == 0
    assert "at most: a bound" in capsys.readouterr().out


def test_advice_ends_in_lines_for_the_settings(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["budgets", "advise", "--store", str(store), "--lose", "0"]) == 0
    printed = capsys.readouterr().out
    assert "together: 0 of 30 successes lost" in printed
    assert "budgets:\n  max_steps: 6\n" in printed
    assert run(["budgets", "advise", "--store", str(store), "--until", "2020-01-01"]) == 64
    assert "too few" in capsys.readouterr().err
