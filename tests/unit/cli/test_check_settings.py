"""`flightlog check` and the settings file that says what gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.recorder.record import record

TABLE = "the built-in table says what gates"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The candidate makes 3 tool calls instead of 1; nothing else changed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "store"
    for variant, calls in (("baseline", 1), ("candidate", 3)):
        for task in range(8):
            fields = {"agent": "a", "model": "m", "suite": "s", "session_id": "one"}
            with record(path, task_id=f"t{task}", variant=variant, trial=0, **fields) as writer:
                writer.model_call(
                    step=1, request_model="m", input_tokens=9, output_tokens=1, latency_ms=5.0
                )
                for _ in range(calls):
                    writer.tool_call(step=1, tool_name="search", args="{}", result="x")
    return path


def settings(folder: Path, text: str, name: str = "flightlog.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def check(store: Path, *argv: object) -> int:
    return run(["check", "--store", str(store), *(str(part) for part in argv)])


def squeezed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_without_a_settings_file_the_table_gates_and_nothing_is_said(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(store) == 1
    assert "monitoring.track" not in capsys.readouterr().out


def test_the_file_of_the_folder_gates_and_is_named(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(store.parent, "monitoring:\n  track: [stop_reason]\n")
    assert check(store) == 0
    out = squeezed(capsys)
    assert "Gated by monitoring.track of flightlog.yaml:2: stop_reason" in out
    assert "Success would gate too, but no run records it." in out
    assert "drift" in out  # tool_calls_per_run, advisory


def test_a_named_file_wins_over_that_of_the_folder(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(store.parent, "monitoring: {track: [stop_reason]}\n")
    settings(store.parent, '{"monitoring": {"track": ["tool_calls_per_run"]}}', "ci.json")
    # By its short name: a long path would be folded at the width of the terminal.
    assert check(store, "--config", "ci.json") == 1
    assert "ci.json:1: tool_calls_per_run" in squeezed(capsys)


def test_a_file_without_the_key_leaves_it_to_the_table_and_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(store.parent, "budgets: {max_steps: 3}\n")
    assert check(store) == 1
    assert f"flightlog.yaml sets no monitoring.track: {TABLE}" in squeezed(capsys)


def test_a_metric_of_the_command_line_wins_over_the_file(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(store.parent, "monitoring: {track: [stop_reason]}\n")
    assert check(store, "--metric", "tool_calls_per_run") == 1
    assert "monitoring.track" not in capsys.readouterr().out


def test_a_metric_of_the_command_line_gates_also_where_the_table_only_advises(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(store, "--metric", "tokens_per_request", "--strict") in (0, 2)
    assert "no metric asked for can fail" not in squeezed(capsys)


def test_a_broken_settings_file_stops_the_check(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings(store.parent, "monitoring: {track: [latency_p59]}\n")
    assert check(store) == 64
    assert "flightlog.yaml:1: monitoring.track[0]" in capsys.readouterr().err
    assert check(store, "--config", store.parent / "none.yaml") == 64


def test_reports_name_the_file_too(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(store.parent, "monitoring: {track: [stop_reason]}\n")
    out = store.parent / "verdict.json"
    assert check(store, "-o", out) == 0
    verdict = json.loads(out.read_text(encoding="utf-8"))
    assert verdict["notes"][0].startswith("Gated by monitoring.track of flightlog.yaml:1")
    assert verdict["chosen_gates"] == ["stop_reason"]
