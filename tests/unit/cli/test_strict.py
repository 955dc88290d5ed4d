"""Damage is told by every command that reads, and is an error with --strict."""

from __future__ import annotations

from pathlib import Path

import pytest

import flightlog
from flightlog.cli import run
from flightlog.errors import DamagedError
from flightlog.recorder.record import record

READING = (
    ["runs"],
    ["show", "last"],
    ["sql", "SELECT count(*) AS n FROM tool_calls"],
    ["ask", "stop_reasons"],
)
IDS = [command[0] for command in READING]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for variant in ("baseline", "candidate", "candidate"):
        with record(path, agent="a", variant=variant, task_id="t") as one:
            one.tool_call(tool_name="t", args="{}", result="r")
    return path


def damage(store: Path) -> Path:
    victim = sorted(store.glob("events/*/*.parquet"))[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 3] ^= 1
    victim.write_bytes(content)
    return victim


@pytest.mark.parametrize("command", READING, ids=IDS)
def test_damage_is_told_and_left_out_unless_reading_is_strict(
    command: list[str], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*command, "--store", str(store)]
    assert run([*asked, "--strict"]) == 0
    assert "damaged" not in capsys.readouterr().err
    victim = damage(store)
    assert run(asked) == 0
    told = capsys.readouterr()
    assert "damaged: " in told.err
    assert victim.name in told.err
    if command[0] == "sql":
        assert "2" in told.out
    assert run([*asked, "--strict"]) != 0
    told = capsys.readouterr()
    assert victim.name in told.err
    assert told.out == ""


def test_strictness_may_come_from_the_environment(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store)
    monkeypatch.setenv("FLIGHTLOG_STRICT", "1")
    assert run(["runs", "--store", str(store)]) != 0
    assert "--strict" in capsys.readouterr().err


def test_nothing_is_compared_exported_or_pinned_from_a_damaged_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = damage(store)
    for command in (
        ["check"],
        ["export", "--out", str(tmp_path / "out")],
        ["golden", "pin", "last", "--goldens", str(tmp_path / "goldens")],
    ):
        assert run([*command, "--store", str(store)]) != 0
        assert victim.name in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_damage_that_hides_no_segment_is_an_error_of_strict_checks_and_exports(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "quarantine" / "x-0.damaged").write_bytes(b"?")
    for command in (["check"], ["export", "--out", str(tmp_path / "out")]):
        assert run([*command, "--store", str(store), "--strict"]) != 0
        assert "x-0.damaged" in capsys.readouterr().err
        run([*command, "--store", str(store)])
        capsys.readouterr()
    assert (tmp_path / "out").is_dir()


def test_strict_reading_in_python(store: Path) -> None:
    with flightlog.open(store, strict=True) as traces:
        assert len(traces.rows("SELECT * FROM tool_calls")) == 3
    victim = damage(store)
    with flightlog.open(store) as traces:
        assert len(traces.rows("SELECT * FROM tool_calls")) == 2
        assert [problem.path for _, problem in traces.problems] == [victim]
    with pytest.raises(DamagedError, match=victim.name):
        flightlog.open(store, strict=True)
