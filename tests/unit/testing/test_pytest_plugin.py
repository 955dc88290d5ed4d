"""Golden tasks as pytest items, each test in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_missing_folder_is_a_usage_error(folder: Path) -> None:
    done = run(folder, "--flightlog-goldens", "gone", "--flightlog-agent", "a:b")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no such folder of golden tasks" in done.stderr


def test_no_agent_is_a_usage_error(folder: Path) -> None:
    (folder / "goldens").mkdir()
    done = run(folder, "--flightlog-goldens", "goldens")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no agent" in done.stderr


def test_a_project_without_goldens_loads_nothing_that_replays(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "import sys\n\n\ndef test_it():\n"
        "    heavy = ('flightlog.golden', 'flightlog.runtime', 'pyarrow', 'duckdb', 'polars')\n"
        "    assert 'flightlog.testing.pytest_plugin' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.startswith(heavy)]\n"
    )
    done = run(folder)
    assert done.returncode == 0, done.stdout
    assert "live tool calls" not in done.stdout
