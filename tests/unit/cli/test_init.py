"""`flightlog init` writes what a repository needs, and overwrites nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flightlog.cli import run
from flightlog.config import load_config


def init(folder: Path, *argv: str) -> int:
    return run(["init", "--dir", str(folder), *argv])


def test_it_writes_settings_goldens_and_the_job(tmp_path: Path) -> None:
    assert init(tmp_path, "--agent", "shop.agent:build") == 0
    config = load_config(tmp_path / "flightlog.yaml")
    assert "cost_usd" in config["monitoring.track"]
    job = yaml.safe_load((tmp_path / ".github/workflows/flightlog.yml").read_text())
    assert job["jobs"]["gate"]["env"]["AGENT"] == "shop.agent:build"
    assert (tmp_path / "goldens/README.md").is_file()


def test_what_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flightlog.yaml").write_text("mine")
    assert init(tmp_path) == 0
    assert init(tmp_path) == 0
    assert (tmp_path / "flightlog.yaml").read_text() == "mine"
    assert f"kept  {tmp_path / 'flightlog.yaml'}" in capsys.readouterr().out


@pytest.mark.parametrize(("ci", "count"), [("none", 2), ("gitlab", 3), ("github", 3)])
def test_the_job_is_for_the_server_that_was_named(tmp_path: Path, ci: str, count: int) -> None:
    assert init(tmp_path, "--ci", ci) == 0
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == count


@pytest.mark.parametrize("agent", ["", "agent", "a:b; rm -rf /", "a:b\n", "$(x):y", "a:b'"])
def test_an_agent_that_is_no_name_is_refused(tmp_path: Path, agent: str) -> None:
    assert init(tmp_path, "--agent", agent) == 64
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "goldens").write_text("a file")
    assert init(tmp_path) == 64
    assert "goldens" in capsys.readouterr().err
