"""`flightlog redact`, and the settings of redaction in the commands that record."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightlog.cli import cli, run
from flightlog.control.control import Control
from flightlog.errors import ConfigError, UnknownNameError
from flightlog.recorder.recorder import Recorder
from flightlog.redact.finder import KINDS
from flightlog.redact.from_config import redaction_from
from flightlog.redact.key_files import KEY_VARIABLE
from flightlog.redact.policy import Capture, Redaction

CARD = "4539578763621486"
SETTINGS = """\
redaction:
  capture: metadata
  off: [iban]
  emails: true
  key_names: [patient_id]
  patterns:
    customer: {regex: 'CUST-[0-9]{6}'}
  key_file: the.key
  max_seconds: 2
"""


def called(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=text, catch_exceptions=False)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_the_text_is_printed_as_it_would_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k" * 32)
    first, second = (called("redact", "-", text=f"card {CARD}\nok\n") for _ in range(2))
    assert first.output == second.output
    assert first.output.startswith("card <card:")
    assert first.output.endswith(">\nok\n")


def test_an_explanation_names_place_and_rule_and_no_value() -> None:
    text = f'x\n  {CARD}\n{{"password": "hunter2"}}\n'
    lines = called("redact", "-", "--explain", text=text).output.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["2:3", "card"], ["3:15", "key_names"]]
    assert lines[2] == "2 found"
    assert CARD not in "".join(lines)
    assert "hunter2" not in "".join(lines)


def test_the_kinds_are_listed() -> None:
    assert called("redact", "--kinds").output.split() == list(KINDS)


def test_settings_become_a_redaction(tmp_path: Path) -> None:
    file = tmp_path / "flightlog.yaml"
    file.write_text(SETTINGS)
    assert redaction_from(file) == Redaction(
        capture=Capture.METADATA,
        off=("iban",),
        emails=True,
        key_names=("patient_id",),
        patterns={"customer": "CUST-[0-9]{6}"},
        key_file=str(tmp_path / "the.key"),
        max_seconds=2,
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("redaction:\n  emails: true\n  off: [cards]\n", 3),
        ("redaction:\n  patterns:\n    x: {regex: '(?=a)'}\n", 3),
        ("redaction:\n  key_names: ['--']\n", 2),
    ],
)
def test_settings_that_cannot_be_name_file_and_line(tmp_path: Path, settings, line) -> None:
    file = tmp_path / "flightlog.yaml"
    file.write_text(settings)
    with pytest.raises((ConfigError, UnknownNameError)) as refused:
        redaction_from(file)
    assert f"{file}:{line}" in refused.value.where


def test_the_reason_of_the_kill_switch_is_redacted_by_the_settings(tmp_path: Path) -> None:
    with Recorder("store"):
        pass
    Path("flightlog.yaml").write_text("redaction: {emails: true}\n")
    done = called("kill", "on", "--store", "store", "--why", f"{CARD} of bob@mail.example")
    assert done.exit_code == 0
    [rule] = Control.at("store").kill_switch.rules()
    assert CARD not in rule.why
    assert "bob@" not in rule.why
    content = b"".join(p.read_bytes() for p in sorted(Path("store").rglob("*")) if p.is_file())
    assert CARD.encode() not in content
    assert b"bob@mail.example" not in content


def test_broken_settings_and_a_lost_key_do_not_stop_the_kill_switch(tmp_path: Path) -> None:
    with Recorder("store"):
        pass
    Path("flightlog.yaml").write_text("redaction: {emails: perhaps}\n")
    key = Path("store/control/redaction.key")
    key.write_text("short")
    done = called("kill", "on", "--store", "store", "--why", f"card {CARD}")
    assert done.exit_code == 0
    [rule] = Control.at("store").kill_switch.rules()
    assert rule.why.startswith("left out")


def test_file_without_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["redact", "/dev/zero"]) == 64
    assert "more than 67,108,864 bytes" in capsys.readouterr().err
