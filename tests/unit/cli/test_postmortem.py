"""`flightlog postmortem`: what it takes, what it writes, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.recorder.record import record

Run = Callable[..., int]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of an agent; in the last, a tool fails ten times. One run of another agent."""
    path = tmp_path_factory.mktemp("postmortem") / "store"
    with record(path, agent="idle", tenant="acme", task_id="t") as one:
        one.model_call(step=1, request_model="m", outcome="ok", cost_usd=0.0)
    for number, outcome in enumerate(("ok", "ok", "failed")):
        with record(path, agent="desk", tenant="acme", task_id=f"t{number}") as one:
            for step in range(1, 11 if outcome == "failed" else 3):
                one.model_call(step=step, request_model="m", outcome="ok", cost_usd=0.5)
                one.tool_call(
                    step=step, tool_name="browse", args={"n": step}, effect="read",
                    outcome=outcome, latency_ms=5.0,
                )  # fmt: skip
    return path


def test_what_was_found_is_told_and_the_command_ends_with_0(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["postmortem", "--store", str(store)]) == 0
    printed = capsys.readouterr().out
    assert "1. tool failing: browse failed in 10 of 10 calls" in printed
    assert "would have helped: guard no_progress" in printed
    assert "fewer than 20 runs" in printed


def test_with_fail_a_finding_ends_with_1_none_with_0_and_no_runs_with_2(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["postmortem", "--store", str(store)]
    assert run([*command, "--fail"]) == 1
    assert run([*command, "--fail", "--agent", "idle"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert run([*command, "--fail", "--until", "2020-01-01"]) == 2
    assert run([*command, "--until", "2020-01-01"]) == 0
    assert "no runs to look at" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["postmortem"],
        ["ask", "cost_per_run"],
        ["plot", "cost"],
        ["plot", "budgets"],
        ["whatif", "--max-steps", "1..2"],
        ["budgets", "advise"],
        ["report", "overview"],
    ],
)
@pytest.mark.parametrize(("option", "near"), [("--agent", "desk"), ("--tenant", "acme")])
def test_a_name_that_no_run_has_is_an_error_with_the_nearest(
    store: Path, capsys: pytest.CaptureFixture[str], command: list[str], option: str, near: str
) -> None:
    assert run([*command, "--store", str(store), option, near + "k"]) == 64
    assert near in capsys.readouterr().err


def test_one_run_is_looked_at_by_its_name(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["postmortem", "last", "--store", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    assert found["runs"] == 1
    assert found["findings"][0]["kind"] == "tool_failing"
    assert found["findings"][0]["remedies"][0]["first_call"] == 6


def test_reports_are_written_by_their_ending(store: Path, tmp_path: Path) -> None:
    files = {form: tmp_path / "deep" / f"report.{form}" for form in ("html", "md", "json", "txt")}
    options = [part for path in files.values() for part in ("-o", str(path))]
    assert run(["postmortem", "--store", str(store), *options]) == 0
    texts = {form: path.read_text(encoding="utf-8") for form, path in files.items()}
    assert "browse failed in 10 of 10 calls" in texts["html"]
    assert "**browse failed in 10 of 10 calls**" in texts["md"]
    assert json.loads(texts["json"])["headline"] == "browse failed in 10 of 10 calls"
    assert texts["txt"].startswith("postmortem: browse failed")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["last", "--since", "1d"], "runs and a window were given"),
        (["-o", "report.pdf"], "no ending that names a form"),
        (["no-such-run"], "unknown run"),
        (["--since", "yesterday-ish"], "not an amount"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    store: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert run(["postmortem", "--store", str(store), *options]) == 64
    assert told in capsys.readouterr().err


def test_a_time_window_is_taken(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["postmortem", "--store", str(store), "--since", "1h"]) == 0
    assert "4 runs" in capsys.readouterr().out
    assert run(["postmortem", "--store", str(store), "--until", "2020-01-01"]) == 0
    assert "no runs to look at" in capsys.readouterr().out


def test_a_store_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["postmortem", "--store", str(tmp_path / "none")]) == 64
    assert "none" in capsys.readouterr().err
