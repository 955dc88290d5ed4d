"""What `flightlog check` prints where, and how it exits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.reports.markdown import MARKER, MOST_CHARS, to_markdown
from flightlog.cli import run
from flightlog.recorder.record import record


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`candidate` makes 3 tool calls instead of 1, `few` has 1 run per task, `likely` is noisy."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "store"
    sides = {"baseline": (1, 3), "candidate": (3, 3), "few": (1, 1)}
    for variant, (calls, trials) in sides.items():
        for task in range(8):
            for trial in range(trials):
                fields = {"agent": "a", "suite": "s", "session_id": "one", "trial": trial}
                with record(path, task_id=f"t{task}", variant=variant, **fields) as writer:
                    writer.model_call(
                        step=1, request_model="m", input_tokens=9, output_tokens=1,
                        latency_ms=5.0, cost_usd=0.01,
                    )  # fmt: skip
                    for _ in range(calls):
                        writer.tool_call(step=1, tool_name="search", args="{}", latency_ms=1.0)
                    writer.evaluation(name="success", passed=True)
    return path


def check(store: Path, *argv: object) -> int:
    return run(["check", "--store", str(store), *(str(part) for part in argv)])


def test_json_on_stdout_is_the_verdict_and_nothing_else(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert check(store, "--json", "--github", "-o", "v.md", "-o", "v.json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads(Path("v.json").read_text())
    assert "wrote v.md" in captured.err
    assert "::error title=" in captured.err


def test_github_gets_annotations_and_the_summary_of_the_step(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = Path("summary.md")
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert check(store, "--github") == 1
    assert summary.read_text().startswith("before\n<!-- flightlog verdict -->\n### ")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    [error] = [line for line in lines if line.startswith("::error")]
    assert error.startswith("::error title=flightlog DRIFT%3A tool_calls_per_run::rose 200.0 %25")
    assert lines[-1].startswith("::notice title=flightlog DRIFT::DRIFT: ")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/null/no")
    assert check(store, "--github") == 64


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("--candidate", "few"), 0),
        (("--candidate", "few", "--inconclusive", "fail"), 2),
        (("--candidate", "few", "--strict"), 2),
        (("--fail-on", "confirmed"), 1),
        (("--tolerance", "tool_calls_per_run=5", "--metric", "tool_calls_per_run"), 0),
        (("--tolerance", "tool_calls_per_run=300%", "--metric", "tool_calls_per_run"), 0),
        (("--metric", "success"), 0),
        (("--tolerance", "nothing=0.1"), 64),
        (("--tolerance", "cost_usd"), 64),
        (("--tolerance", "cost_usd=much"), 64),
        (("--tolerance", "cost_usd=0.1", "--tolerance", "cost_usd=0.2"), 64),
        (("--define", "mine=count(*) FROM tool_calls", "--metric", "mine"), 1),
        (("--define", "mine=count(* FROM tool_calls"), 64),
        (("--define", "mine=1; DROP TABLE runs"), 64),
        (("--baseline", "baseline,since=2999-01-01"), 2),
        (("--baseline", "baseline,until=never"), 64),
        (("--baseline", "@none"), 2),
    ],
)
def test_options_decide_how_it_exits(store: Path, argv: tuple[str, ...], code: int) -> None:
    assert check(store, *argv) == code


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "0 no drift",
        "1 drift",
        "2 cannot compare",
        "3 golden tasks",
        "64 usage",
        "70 a bug",
    ):
        assert part in text


def test_the_markdown_of_a_pull_request_is_bounded(store: Path) -> None:

    with Traces(store) as traces:
        verdict = compare(traces)
    notes = tuple("<" * 600 for _ in range(400))
    many = replace(verdict, notes=notes, loosened=notes, lost_tasks=())
    text = to_markdown(replace(many, tasks=verdict.tasks * 40))
    assert len(text) <= MOST_CHARS
    assert text.startswith(MARKER)
