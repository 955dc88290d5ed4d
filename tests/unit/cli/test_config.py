"""`flightlog config check` and `config show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.config.page import PRODUCTION
from flightlog.config.settings import SETTINGS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACME_CRM_TOKEN", "sk-live-123")
    return tmp_path


def write(text: str, name: str = "flightlog.yaml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def output(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(["config", *argv]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_check_says_ok_and_the_policy_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write(PRODUCTION)
    assert output(capsys, "check") == (
        "ok: flightlog.yaml: 4 allowed names; per run 30 steps, 90 s, 15 tool calls, 0.5 USD; "
        "writes need approval by queue; 1 tool budget; 2 tenant budgets; retries of 1 tool; "
        "1 breaker\n"
    )


def test_check_warns_of_contradictions_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    write("budgets:\n  max_tool_calls: 3\n  per_tool:\n    kb.read: {max_calls: 5}\n")
    lines = output(capsys, "check").splitlines()
    assert lines[0].endswith("1 tool budget; 1 warning")
    [warning] = lines[1:]
    assert warning == (
        'warning: flightlog.yaml:4: budgets.per_tool."kb.read".max_calls is 5, above '
        "budgets.max_tool_calls=3, which ends the run first"
    )


@pytest.mark.parametrize("text", ["", "# budgets: {max_steps: 3}\n", "{}"])
def test_check_of_a_file_that_sets_nothing_warns(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(text)
    said, warning = output(capsys, "check").splitlines()
    assert said.endswith("writes need approval; 1 warning")
    assert warning == "warning: flightlog.yaml sets nothing: the defaults hold"


def test_check_of_a_wrong_file_exits_64_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    write("budgets:\n  max_stepz: 3\n", "other.yaml")
    text = output(capsys, "check", "other.yaml", code=64)
    assert text.startswith("error: other.yaml:2: unknown key 'budgets.max_stepz'")
    assert "nearest: max_steps" in text


def test_check_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "flightlog.yaml: cannot read it" in output(capsys, "check", code=64)


def test_show_without_a_file_shows_the_defaults_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = output(capsys, "show").splitlines()
    assert lines[0] == "# no flightlog.yaml here: the defaults"
    assert "budgets.max_steps: 30  # default: Steps per run." in lines
    assert not any("max_usd" in line for line in lines)


def test_show_takes_the_file_of_the_folder_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    write('budgets:\n  max_usd: 2\nretries:\n  "http.*": {max_attempts: 4}\n')
    lines = output(capsys, "show").splitlines()
    assert lines[0] == "# flightlog.yaml over the defaults"
    assert any(line.startswith("budgets.max_usd: 2  # flightlog.yaml:2: ") for line in lines)
    start = 'retries."http.*".max_attempts: 4  # flightlog.yaml:4: '
    assert any(line.startswith(start) for line in lines)
    assert any(line.startswith('retries."http.*".jitter: 0.5  # default: ') for line in lines)


def test_show_all_lists_every_key_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "show", "--all").splitlines()[1:]
    assert [line.split(": ", 1)[0] for line in lines] == [setting.path for setting in SETTINGS]
    prices = [line for line in lines if line.startswith("prices.<model>.input")]
    assert prices[0].startswith("prices.<model>.input_usd_per_mtok: none  # required per entry: ")


def test_show_json_gives_value_and_source_of_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    write("tools.allow: [a]\nbreakers:\n  a: {fallback: stop}\n")
    shown = json.loads(output(capsys, "show", "--json"))
    assert shown["file"] == "flightlog.yaml"
    found = {tuple(row["keys"]): (row["value"], row["source"]) for row in shown["settings"]}
    assert found["tools", "allow"] == (["a"], "flightlog.yaml:1")
    assert found["breakers", "a", "fallback"] == ("stop", "flightlog.yaml:3")
    assert found["breakers", "a", "min_calls"] == (5, "default")
    assert ("budgets", "max_usd") not in found
    everything = json.loads(output(capsys, "show", "--json", "--all"))
    assert any(row["keys"] == ["budgets", "max_usd"] for row in everything["settings"])


def test_no_credential_is_shown_or_checked_into_the_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(PRODUCTION)
    for argv in (["check"], ["show"], ["show", "--json", "--all"]):
        assert "sk-live" not in output(capsys, *argv)


@pytest.mark.parametrize("argv", [["check"], ["show"], ["show", "--all"], ["show", "--json"]])
def test_names_of_a_hostile_file_are_escaped(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    write('retries:\n  "\\e]0;owned\\a\\u202e\\n": {max_attempts: 2}\n')
    shown = output(capsys, *argv)
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "owned" in shown


@pytest.mark.parametrize(
    "text",
    [
        '"\\e[31m": 1\n',
        '{"budgets": {"\\u001b[31m": 1}}',
        'monitoring: {track: ["\\e[31m"]}\n',
        "tools: {allow: [\x1b[31m]}\n",
        "budgets:\n  max_steps: '\u202e'\n",
    ],
)
def test_errors_about_a_hostile_file_are_escaped(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write(text)
    shown = output(capsys, "check", code=64)
    assert not {"\x1b", "\u202e"} & set(shown)
