"""Golden tasks as pytest items, each test in a pytest of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.golden.life.quarantine import put_in_quarantine
from flightlog.golden.pin import pin_runs
from flightlog.recorder.store import Store
from flightlog.runtime.task import Task
from tests.unit.golden.world import GET, REFUND, record_run

ROOT = Path(__file__).resolve().parents[3]
TODAY = datetime.now(tz=UTC).date()
AGENTS = """
from tests.unit.golden.world import GET, REFUND, candidate

good = candidate([GET], [REFUND])
lazy = candidate([GET])
curious = candidate([GET], [("get_order", {"order_id": "B2"})], [REFUND])
"""
# Plugins of other packages take most of the time that a pytest needs to start.
OTHERS = [
    f"-pno:{name}" for name in ("cacheprovider", "langsmith_plugin", "hypothesispytest", "anyio")
]
PYTEST = [sys.executable, "-m", "pytest", *OTHERS]
GOLDENS = ("--flightlog-goldens", "goldens")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Path:
    """A project with two golden tasks and three agents."""
    for number in (1, 2):
        task = Task(f"refund-{number}", "Refund order A1.", suite="shop")
        record_run(folder / "live", [GET], [REFUND], task=task, run_id=f"run-{number}")
    pin_runs(Store.open(folder / "live"), ["run-1", "run-2"], folder / "goldens")
    (folder / "agents.py").write_text(AGENTS)
    return folder


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTEST, "-W", "error", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
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


def items(folder: Path, *options: str) -> list[str]:
    """The ids of the tests that pass or do not, in their order."""
    done = run(folder, "--collect-only", "-q", *options)
    assert done.returncode == 0, done.stdout
    return [line for line in done.stdout.splitlines() if "::" in line]


def replays(folder: Path) -> list[tuple[object, ...]]:
    with Traces(folder / "flightlog-store") as traces:
        rows = traces.sql("SELECT golden, trial, stop_reason, session_id FROM runs ORDER BY ALL")
        return rows.fetchall()


def test_each_trial_of_each_golden_task_is_an_item_with_a_stable_id(project: Path) -> None:
    told = items(project, *GOLDENS, "--flightlog-agent", "agents:good", "--flightlog-trials", "2")
    assert told == [f"goldens/refund-{n}::trial-{k}" for n in (1, 2) for k in (0, 1)]


def test_agent_that_does_what_was_recorded_passes_and_the_summary_says_how(project: Path) -> None:
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good", "--flightlog-trials", "3")
    assert done.returncode == 0, done.stdout
    assert "replays: 6 passed, 0 failed, 0 inconclusive" in done.stdout
    assert "served: 12 of 12 calls (12 recorded)" in done.stdout
    assert "live tool calls: 0" in done.stdout
    assert "check: flightlog check --store flightlog-store --candidate candidate" in done.stdout
    rows = replays(project)
    assert [row[:3] for row in rows] == [(f"refund-{n}", k, "ok") for n in (1, 2) for k in range(3)]
    assert len({row[3] for row in rows}) == 1


@pytest.mark.parametrize(
    ("agent", "verdict", "why"),
    [("lazy", "failed", "refund"), ("curious", "inconclusive", "no match")],
)
def test_all_but_a_pass_fails_and_says_why(
    project: Path, agent: str, verdict: str, why: str
) -> None:
    done = run(project, *GOLDENS, "--flightlog-agent", f"agents:{agent}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 failed" in done.stdout
    assert f"{verdict}: " in done.stdout
    assert why in done.stdout
    assert "first divergence: " in done.stdout


def test_replay_that_nobody_can_judge_is_an_expected_failure_only_where_asked_for(
    project: Path,
) -> None:
    options = (*GOLDENS, "--flightlog-xfail-inconclusive", "--flightlog-agent")
    done = run(project, *options, "agents:curious")
    assert (done.returncode, "2 xfailed" in done.stdout) == (0, True)
    assert run(project, *options, "agents:lazy").returncode == pytest.ExitCode.TESTS_FAILED


def test_two_workers_share_store_and_session_and_play_each_trial_once(project: Path) -> None:
    pytest.importorskip("xdist")
    options = ("--flightlog-agent", "agents:good", "--flightlog-trials", "4", "-n", "2")
    done = run(project, *GOLDENS, *options)
    assert done.returncode == 0, done.stdout
    assert "replays: 8 passed, 0 failed, 0 inconclusive" in done.stdout
    rows = replays(project)
    assert [row[:2] for row in rows] == [(f"refund-{n}", k) for n in (1, 2) for k in range(4)]
    assert len({row[3] for row in rows}) == 1


def test_task_in_quarantine_is_skipped_with_its_reason_and_the_others_run(project: Path) -> None:
    put_in_quarantine(
        project / "goldens", "refund-1", reason="flaky shop", until=TODAY, today=TODAY
    )
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good", "-rs")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert f"in quarantine until {TODAY}: flaky shop" in done.stdout


def test_where_every_task_is_in_quarantine_the_gate_compared_nothing_and_fails(
    project: Path,
) -> None:
    for name in ("refund-1", "refund-2"):
        put_in_quarantine(project / "goldens", name, reason="x", until=TODAY, today=TODAY)
    for options in ((), ("-n", "2")):
        done = run(project, *GOLDENS, "--flightlog-agent", "agents:good", *options)
        assert done.returncode == pytest.ExitCode.TESTS_FAILED
        assert "nothing was replayed: all 2 trials" in done.stdout


def test_task_whose_quarantine_is_over_fails(project: Path) -> None:
    before = TODAY - timedelta(days=3)
    put_in_quarantine(project / "goldens", "refund-1", reason="x", until=before, today=before)
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in done.stdout
    assert f"the quarantine of refund-1 is over since {before}" in done.stdout


def test_folder_without_golden_tasks_is_an_error(folder: Path) -> None:
    (folder / "goldens").mkdir()
    done = run(folder, *GOLDENS, "--flightlog-agent", "agents:good")
    assert done.returncode not in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "error" in done.stdout


def test_golden_task_that_cannot_be_read_fails_and_names_file_and_line(project: Path) -> None:
    task = project / "goldens" / "refund-1" / "task.yaml"
    task.write_text(task.read_text() + "no_such_key: 1\n")
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "no_such_key" in done.stdout
    assert "task.yaml:" in done.stdout


def test_name_of_a_folder_does_nothing_to_the_terminal(project: Path) -> None:
    (project / "goldens" / "refund-1").rename(project / "goldens" / "a\x1b[31m::b[c]")
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good", "-v", "--color=no")
    assert done.returncode == 0, done.stdout
    assert "\x1b" not in done.stdout
    assert "2 passed" in done.stdout


FIXTURE_TEST = """
import pytest


@pytest.mark.golden("goldens", agent="agents:good", trials=2)
def test_refunds(golden):
    report = golden.replay()
    assert report.level == "exact"
    assert golden.task.task_id.startswith("refund-")
    assert golden.recordings


@pytest.mark.golden("goldens")
def test_lazy(golden):
    report = golden.replay("agents:lazy", must_pass=False)
    assert report.passed is False


@pytest.mark.golden("goldens")
def test_curious(golden):
    golden.replay("agents:curious")
    pytest.exit("a void replay has passed")
"""


def test_fixture_runs_a_test_for_each_trial_and_a_void_replay_never_passes(project: Path) -> None:
    (project / "test_it.py").write_text(FIXTURE_TEST)
    assert items(project)[:4] == [
        f"test_it.py::test_refunds[refund-{n}-trial-{k}]" for n in (1, 2) for k in (0, 1)
    ]
    done = run(project)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "2 failed, 6 passed" in done.stdout
    assert "inconclusive: " in done.stdout
    assert "replays: 4 passed, 2 failed, 2 inconclusive" in done.stdout


def test_fixture_leaves_tasks_in_quarantine_out(project: Path) -> None:
    (project / "test_it.py").write_text(
        FIXTURE_TEST.split('@pytest.mark.golden("goldens")', maxsplit=1)[0]
    )
    put_in_quarantine(project / "goldens", "refund-1", reason="flaky", until=TODAY, today=TODAY)
    done = run(project, "-rs")
    assert done.returncode == 0, done.stdout
    assert "2 passed, 2 skipped" in done.stdout


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('@pytest.mark.golden("gone")', "gone"),
        ('@pytest.mark.golden("goldens", trials=0)', "trials=0"),
        ('@pytest.mark.golden("goldens", agnet="x")', "agnet"),
        ("", "no golden tasks"),
    ],
)
def test_marker_that_cannot_be_meant_is_an_error(project: Path, marker: str, told: str) -> None:
    body = f"import pytest\n\n\n{marker}\ndef test_it(golden):\n    golden.replay()\n"
    (project / "test_it.py").write_text(body)
    done = run(project)
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert told in done.stdout


def test_test_without_an_agent_says_how_to_name_one(project: Path) -> None:
    (project / "test_it.py").write_text(
        'import pytest\n\n\n@pytest.mark.golden("goldens")\ndef test_it(golden):\n'
        "    golden.replay()\n"
    )
    done = run(project)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "--flightlog-agent" in done.stdout


def test_fixture_of_the_project_with_the_same_name_wins(folder: Path) -> None:
    (folder / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.fixture\ndef golden():\n    return 3\n\n\n"
        "def test_it(golden):\n    assert golden == 3\n"
    )
    assert run(folder).returncode == 0


def test_interrupted_run_leaves_a_store_that_the_next_one_goes_on_with(project: Path) -> None:
    (project / "slow.py").write_text(
        "import time\n\nfrom agents import good\n\n\ndef make(trial):\n"
        "    if trial.number == 2:\n        open('waiting', 'w').close()\n"
        "        time.sleep(60)\n    return good(trial)\n"
    )
    command = [*PYTEST, *GOLDENS]
    command += ["--flightlog-agent", "slow:make", "--flightlog-trials", "3"]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{project}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=project, env=env, stdout=pipe, stderr=pipe) as process:
        ends = time.monotonic() + 60
        while not (project / "waiting").exists() and time.monotonic() < ends:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == pytest.ExitCode.INTERRUPTED
    assert [row[:3] for row in replays(project)] == [("refund-1", 0, "ok"), ("refund-1", 1, "ok")]
    done = run(project, *GOLDENS, "--flightlog-agent", "agents:good")
    assert done.returncode == 0, done.stdout
    assert len(replays(project)) == 4
