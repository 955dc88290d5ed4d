from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "incident"

RunExample = Callable[..., "subprocess.CompletedProcess[str]"]
CheckPublished = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def run_example() -> RunExample:
    """Runs an example, or code beside it, as a real command in a folder."""

    def run(*command: str, folder: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        first = [command[0]] if command[0] == "-c" else [str(EXAMPLES / command[0])]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(EXAMPLES), str(ROOT)))}
        done = subprocess.run(
            [sys.executable, *first, *command[1:]],
            cwd=folder,
            check=False,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def check_published() -> CheckPublished:
    """Compares a marked block of a page with real output; writes it if told to."""

    def check(page: str, name: str, printed: str) -> None:
        path = ROOT / page
        begin, end = f"<!-- {name} output: begin -->", f"<!-- {name} output: end -->"
        text = path.read_text(encoding="utf-8")
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        shown = "\n".join(line.rstrip() for line in printed.splitlines()).rstrip()
        wanted = f"{before}{begin}\n```text\n{shown}\n```\n{end}{after}"
        if os.environ.get("FLIGHTLOG_UPDATE_README"):
            path.write_text(wanted, encoding="utf-8")
        assert text == wanted or "FLIGHTLOG_UPDATE_README" in os.environ

    return check
