"""The CI jobs: the same shell steps that a CI server runs, in a repository with two branches.

`pip` and `gh` are stand-ins on the PATH; everything else is real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flightlog.cli import run
from flightlog.commands import demo
from flightlog.commands.init import CI_FILES, EXAMPLE_AGENT, template_text

AGENT = """\
from flightlog.commands.demo_agent import {name}


def make_agent(trial):
    return {name}(trial)
"""
GH = """\
#!{python}
import json, pathlib, sys
calls = pathlib.Path({calls!r})
done = json.loads(calls.read_text()) if calls.exists() else []
body = [a.removeprefix("body=@") for a in sys.argv if a.startswith("body=@")]
text = pathlib.Path(body[0]).read_text() if body else ""
done.append({{"argv": sys.argv[1:], "body": text}})
calls.write_text(json.dumps(done))
if "--jq" in sys.argv and any(d["body"] for d in done):
    print(17)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`origin/main` has an agent with 40 golden tasks; the branch `change` has a drifted one."""
    root = tmp_path_factory.mktemp("ci")
    origin, work = root / "origin", root / "work"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(origin)], check=True)
    subprocess.run(["git", "clone", "-q", str(origin), str(work)], check=True, capture_output=True)
    git(work, "config", "user.email", "a@example.invalid")
    git(work, "config", "user.name", "a")
    git(work, "checkout", "-q", "-b", "main")
    run_ids = demo._record_baseline(root / "recorded")
    demo._pin(root / "recorded", run_ids, work / "goldens")
    (work / "my_agent.py").write_text(AGENT.format(name="baseline"))
    assert run(["init", "--dir", str(work), "--ci", "none"]) == 0
    settings = work / "flightlog.yaml"
    allowed = "allow: [kb.search, orders.get, refund.quote, refund.issue]"
    text = settings.read_text().replace("allow: [search.read, kb.read, http.get]", allowed)
    settings.write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "one")
    git(work, "push", "-q", "origin", "main")
    git(work, "checkout", "-q", "-b", "change")
    (work / "my_agent.py").write_text(AGENT.format(name="drifted"))
    settings.write_text(text.replace("{tolerance: 0.20}", "{tolerance: 0.50}"))
    git(work, "commit", "-qam", "two")
    return work


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, cwd=folder, capture_output=True)


def environment(repository: Path, tmp_path: Path, job: dict[str, Any]) -> dict[str, str]:
    """What the server sets, the job's own variables, and the stand-ins on the PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    scripts = {
        "pip": f"#!{sys.executable}\n",
        "flightlog": f"#!{sys.executable}\nfrom flightlog.cli import main\nmain()\n",
        "gh": GH.format(python=sys.executable, calls=str(tmp_path / "gh.json")),
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "temp").mkdir()
    told = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_RUN_ID": "4711",
        "GITHUB_REPOSITORY": "you/agent",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "CI_PIPELINE_ID": "4712",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "PR": "3",
    }
    own = job.get("env") or job.get("variables") or {}
    for name, value in own.items():
        text = str(value).replace("${{ github.base_ref }}", "main")
        text = text.replace("${{ github.workspace }}", str(repository))
        text = text.replace("$CI_PROJECT_DIR", str(repository))
        text = text.replace("$CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
        told[name] = "" if "${{" in text else text
    told["TRIALS"] = "2"
    return told


@pytest.fixture
def clean(repository: Path) -> Path:
    git(repository, "clean", "-qfd")
    shutil.rmtree(repository / "flightlog-store", ignore_errors=True)
    return repository


def steps_run(folder: Path, steps: list[str], told: dict[str, str]) -> list[int]:
    """Exit codes of shell steps, as far as the first that fails."""
    codes = []
    for step in steps:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step],
            cwd=folder, env=told, check=False, capture_output=True, text=True,
        )  # fmt: skip
        codes.append(done.returncode)
        print(done.stdout, done.stderr)
        if done.returncode:
            break
    return codes


def test_the_github_job_finds_the_drift_and_comments_once(clean: Path, tmp_path: Path) -> None:
    job = yaml.safe_load(Path("examples/ci/github.yml").read_text())["jobs"]["gate"]
    told = environment(clean, tmp_path, job)
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert list(steps) == [
        "Install", "Golden tasks", "Replay both sides in turn", "Verdict", "Comment",
    ]  # fmt: skip
    comment = steps.pop("Comment")
    assert steps_run(clean, list(steps.values()), told) == [0, 0, 0, 1]
    verdict = json.loads((clean / "verdict.json").read_text())
    assert verdict["decision"] == "DRIFT"
    assert verdict["baseline_runs"] == verdict["candidate_runs"] == 80
    assert verdict["is_confounded"] is False
    assert verdict["loosened"] == ["tolerance of cost_usd: 20 % -> 50 %"]
    assert "DRIFT" in (tmp_path / "summary.md").read_text()
    assert steps_run(clean, [comment, comment], told) == [0, 0]
    calls = json.loads((tmp_path / "gh.json").read_text())
    written = [call for call in calls if call["body"]]
    assert [call["argv"][:3] for call in written] == [
        ["api", "repos/you/agent/issues/3/comments", "-F"], ["api", "--method", "PATCH"],
    ]  # fmt: skip
    assert written[1]["argv"][3] == "repos/you/agent/issues/comments/17"
    assert written[0]["body"].startswith("<!-- flightlog verdict -->\n### ")


def test_the_gitlab_job_finds_the_drift_too(clean: Path, tmp_path: Path) -> None:
    job = yaml.safe_load(Path("examples/ci/gitlab.yml").read_text())["flightlog"]
    shutil.rmtree("/tmp/flightlog-base", ignore_errors=True)
    git(clean, "worktree", "prune")
    told = environment(clean, tmp_path, job)
    assert steps_run(clean, [*job["before_script"], *job["script"]], told)[-1] == 1
    for name in [*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]]:
        assert (clean / name).stat().st_size


def test_an_unchanged_agent_passes_the_job(clean: Path, tmp_path: Path) -> None:
    job = yaml.safe_load(Path("examples/ci/github.yml").read_text())["jobs"]["gate"]
    told = environment(clean, tmp_path, job) | {"BASE": "change", "TRIALS": "3"}
    steps = [step["run"] for step in job["steps"] if "run" in step][:-1]
    assert steps_run(clean, steps, told) == [0, 0, 0, 0]
    assert json.loads((clean / "verdict.json").read_text())["decision"] == "OK"


def test_the_job_for_models_stops_as_soon_as_it_is_settled(clean: Path, tmp_path: Path) -> None:
    job = yaml.safe_load(Path("examples/ci/github-models.yml").read_text())["jobs"]["gate"]
    told = environment(clean, tmp_path, job)
    told |= {"BASELINE_MODEL": "recorded", "CANDIDATE_MODEL": "recorded", "MAX_USD": "20"}
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert steps_run(clean, steps, told) == [0, 0]
    verdict = json.loads((clean / "verdict.json").read_text())
    assert (verdict["decision"], verdict["sequential"]["saved_trials"] > 0) == ("OK", True)


def test_the_examples_are_what_init_writes() -> None:
    for ci, name in (("github", "github.yml"), ("gitlab", "gitlab.yml")):
        [template] = CI_FILES[ci]
        text = template_text(template).replace("__AGENT__", EXAMPLE_AGENT)
        assert Path("examples/ci", name).read_text() == text


def test_the_hooks_of_pre_commit_run(clean: Path, tmp_path: Path) -> None:
    told = environment(clean, tmp_path, {})
    shown = yaml.safe_load(Path("examples/ci/pre-commit.yaml").read_text())["repos"][0]["hooks"]
    published = yaml.safe_load(Path(".pre-commit-hooks.yaml").read_text())
    assert [hook["id"] for hook in shown] == [hook["id"] for hook in published]
    entries = [" ".join([hook["entry"], *hook["args"]]) for hook in published]
    assert entries == [hook["entry"] for hook in shown]
    assert steps_run(clean, entries, told) == [0, 0]
    assert steps_run(clean, ["flightlog golden lint nowhere"], told) != [0]
