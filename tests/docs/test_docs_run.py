"""Every command and snippet of the README and docs/ runs, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEMO_BEGIN, DEMO_END = "<!-- demo output: begin -->", "<!-- demo output: end -->"
EXITS = re.compile(r"#\s*exits (\d+)")

pytestmark = [pytest.mark.docs, pytest.mark.xdist_group("docs")]


def shell(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", code],
        cwd=folder,
        check=False,
        env={**os.environ, "PATH": path, "COLUMNS": "92"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo made, and what it printed."""
    made = tmp_path_factory.mktemp("docs")
    (made / "examples").symlink_to(ROOT / "examples")
    done = shell("flightlog demo", made)
    assert done.returncode == 1, done.stderr
    return made, done.stdout


@pytest.fixture(scope="module")
def folder(demo: tuple[Path, str]) -> Path:
    return demo[0]


def test_readme_shows_what_the_demo_prints(demo: tuple[Path, str]) -> None:
    """Set FLIGHTLOG_UPDATE_README=1 to write it anew."""
    printed = demo[1].split("Tasks that moved")[0]
    shown = "\n".join(line.rstrip() for line in printed.splitlines()).rstrip()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(DEMO_BEGIN)
    after = rest.split(DEMO_END)[1]
    wanted = f"{before}{DEMO_BEGIN}\n```text\n{shown}\n```\n{DEMO_END}{after}"
    if os.environ.get("FLIGHTLOG_UPDATE_README"):
        readme.write_text(wanted, encoding="utf-8")
    assert text == wanted or "FLIGHTLOG_UPDATE_README" in os.environ


def test_every_command_that_the_demo_suggests_works(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    suggested = [line.strip() for line in printed.split("Try next:")[1].splitlines() if line]
    assert len(suggested) >= 5
    for command in suggested:
        done = shell(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_snippet_of_the_page_runs(page: Path, folder: Path) -> None:
    for language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            (folder / "snippet.py").write_text(code, encoding="utf-8")
        command = code if language == "sh" else f"{sys.executable} snippet.py"
        wanted = EXITS.search(command)
        done = shell(command, folder)
        assert done.returncode == int(wanted[1] if wanted else 0), f"{code}\n{done.stderr}"


def test_readme_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
