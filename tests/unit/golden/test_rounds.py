"""The sequential gate: rounds, when it stops, what it spends, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.metrics import METRICS
from flightlog.cli import run
from flightlog.commands import demo
from flightlog.errors import UsageError
from flightlog.golden.rounds import DEFAULT_ROUNDS, Demands

AGENTS = "flightlog.commands.demo_agent"


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden tasks of the demo: 40, each with 3 recordings."""
    folder = tmp_path_factory.mktemp("gate")
    run_ids = demo._record_baseline(folder / "store")
    demo._pin(folder / "store", run_ids, folder / "goldens")
    return folder / "goldens"


def gate(goldens: Path, store: Path, candidate: str, *argv: object) -> int:
    command = ["gate", goldens, "--store", store, "--baseline-agent", f"{AGENTS}:baseline"]
    command += ["--candidate-agent", f"{AGENTS}:{candidate}", *argv]
    return run([str(part) for part in command])


def verdict(goldens: Path, store: Path, candidate: str, *argv: object) -> tuple[int, dict]:
    out = store.with_suffix(".json")
    code = gate(goldens, store, candidate, "-o", out, *argv)
    return code, json.loads(out.read_text(encoding="utf-8"))


# The plan.


def test_the_rounds_together_spend_the_error_rate_and_no_more() -> None:
    plan = Demands(METRICS)
    parts = [plan.alpha_of(number) for number in range(len(DEFAULT_ROUNDS))]
    assert parts == pytest.approx([0.00625, 0.00625, 0.00625, 0.0125, 0.01875])
    assert sum(parts) == pytest.approx(0.05)
    assert Demands(METRICS, rounds=(4,)).alpha_of(0) == 0.05


@pytest.mark.parametrize("rounds", [(), (0, 1), (2, 2), (3, 1), (1, 200)])
def test_rounds_that_cannot_be_are_refused(rounds: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        Demands(METRICS, rounds=rounds)


@pytest.mark.parametrize("text", ["", "1,,2", "x", "1;2", "-1", "1.5", "3,2", "999999"])
def test_rounds_on_the_command_line_are_rising_numbers(goldens, tmp_path, text) -> None:
    assert gate(goldens, tmp_path / "s", "steady", f"--rounds={text}") == 64
    assert not (tmp_path / "s").exists()


# When it stops.


def test_a_drift_ends_it_in_the_first_round_and_exits_1(goldens, tmp_path, capsys) -> None:
    code, found = verdict(goldens, tmp_path / "s", "drifted")
    assert (code, found["decision"]) == (1, "DRIFT")
    told = found["sequential"]
    assert (told["round"], told["trials"], told["planned_trials"]) == (1, 1, 640)
    assert told["saved_trials"] == 560
    assert told["saved_usd"] == pytest.approx(told["spent_usd"] * 7)
    captured = capsys.readouterr()
    assert "80 of 640 replays, 560 saved (88 %" in " ".join(captured.out.split())
    assert captured.err.startswith("round 1 of 5, 1 trial each")


def test_an_unchanged_candidate_ends_it_once_it_is_shown_to_be_fine(goldens, tmp_path) -> None:
    code, found = verdict(goldens, tmp_path / "s", "steady")
    assert (code, found["decision"]) == (0, "OK")
    assert found["sequential"]["trials"] < 8
    assert found["baseline_runs"] == found["candidate_runs"] == 40 * found["sequential"]["trials"]
    assert found["method"]["alpha"] < 0.05


def test_one_number_is_a_fixed_plan_at_the_whole_error_rate(goldens, tmp_path) -> None:
    _, found = verdict(goldens, tmp_path / "s", "steady", "--rounds", "2")
    assert (found["method"]["alpha"], found["sequential"]["saved_trials"]) == (0.05, 0)
    assert found["baseline_runs"] == 80


def test_both_sides_of_a_trial_run_one_after_the_other_in_random_order(goldens, tmp_path) -> None:
    verdict(goldens, tmp_path / "s", "steady", "--rounds", "2")
    with Traces(tmp_path / "s") as traces:
        rows = traces.rows("SELECT variant, task_id, trial FROM runs ORDER BY started_at, run_id")
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert all((a["task_id"], a["trial"]) == (b["task_id"], b["trial"]) for a, b in pairs)
    first = [a["variant"] for a, _ in pairs]
    assert 20 < first.count("baseline") < 60
    order = [[a["task_id"] for a, _ in part] for part in (pairs[:40], pairs[40:])]
    assert sorted(order[0]) == sorted(order[1])
    assert order[0] != order[1]


def test_the_spending_cap_ends_it_undecided_with_exit_2(goldens, tmp_path) -> None:
    code, found = verdict(goldens, tmp_path / "s", "steady", "--max-usd", "0.05")
    assert code == 2
    assert found["sequential"]["is_capped"] is True
    assert found["sequential"]["spent_usd"] <= 0.05 * 1.1


def test_a_drift_found_before_the_cap_is_still_a_drift(goldens, tmp_path) -> None:
    code, found = verdict(goldens, tmp_path / "s", "drifted", "--max-usd", "0.1")
    assert (code, found["decision"]) == (1, "DRIFT")


def test_only_a_confirmed_drift_ends_it_where_that_is_asked(goldens, tmp_path) -> None:
    code, found = verdict(goldens, tmp_path / "s", "drifted", "--fail-on", "confirmed")
    assert code == 1
    assert "confirmed" in {metric["strength"] for metric in found["metrics"]}


def test_the_same_session_gives_the_same_verdict_again(goldens, tmp_path) -> None:
    _, first = verdict(goldens, tmp_path / "s", "steady", "--session", "one")
    _, again = verdict(goldens, tmp_path / "s", "steady", "--session", "one", "--resume")
    assert first.pop("verified") != again.pop("verified")  # sealed meanwhile
    assert first == again
    with Traces(tmp_path / "s") as traces:
        [row] = traces.rows("SELECT count(*) AS n FROM runs")
    assert row["n"] == first["baseline_runs"] + first["candidate_runs"]


def test_an_older_session_of_the_same_variants_does_not_count(goldens, tmp_path) -> None:
    verdict(goldens, tmp_path / "s", "drifted", "--rounds", "1")
    code, found = verdict(goldens, tmp_path / "s", "steady", "--rounds", "3")
    assert (code, found["baseline_runs"]) == (0, 120)


def test_a_killed_gate_goes_on_where_it_was(goldens, tmp_path) -> None:
    store = tmp_path / "s"
    command = [
        sys.executable, "-m", "flightlog", "gate", str(goldens), "--store", str(store), "--agent",
        f"{AGENTS}:baseline", "--rounds", "3", "--session", "one",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as going:
        until = time.monotonic() + 60
        while time.monotonic() < until and not list(store.glob("journal/*.journal")):
            time.sleep(0.02)
        time.sleep(0.4)
        os.kill(going.pid, signal.SIGKILL)
    done = subprocess.run([*command, "--resume"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Traces(store) as traces:
        rows = traces.rows(
            "SELECT variant, golden, trial, count(*) AS n FROM runs WHERE run_id IN "
            "(SELECT run_id FROM events WHERE kind = 'evaluation' AND name = 'validity') "
            "GROUP BY ALL"
        )
        verdict = compare(traces, "baseline", "candidate")
    assert len(rows) == 240
    assert {row["n"] for row in rows} == {1}
    # What was killed before its judgement counts for nothing.
    assert (verdict.baseline_runs, verdict.candidate_runs) == (120, 120)
    assert not verdict.skipped_runs


# What it needs.


def test_it_needs_to_be_told_who_makes_the_agents(goldens, tmp_path, capsys) -> None:
    assert run(["gate", str(goldens), "--store", str(tmp_path / "s")]) == 64
    assert "Give --agent MODULE:FUNCTION" in capsys.readouterr().err


def test_resuming_needs_a_session(goldens, tmp_path, capsys) -> None:
    assert gate(goldens, tmp_path / "s", "steady", "--resume") == 64
    assert "--session" in capsys.readouterr().err


def test_a_dry_run_estimates_the_first_round_and_the_whole_plan(goldens, tmp_path, capsys) -> None:
    assert gate(goldens, tmp_path / "s", "steady", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "baseline, 1 per task", "baseline, 8 per task",
        "candidate, 1 per task", "candidate, 8 per task",
    ]  # fmt: skip
    assert all(re.search(r"\$\d", line) for line in lines)
    assert not (tmp_path / "s").exists()


def test_one_agent_with_two_models_is_two_sides(goldens, tmp_path) -> None:
    command = ["gate", goldens, "--store", tmp_path / "s", "--agent", f"{AGENTS}:baseline"]
    command += ["--baseline-model", "recorded", "--candidate-model", "recorded", "--rounds", "1"]
    assert run([str(part) for part in command]) == 0
    with Traces(tmp_path / "s") as traces:
        rows = traces.rows("SELECT variant, count(*) AS n FROM runs GROUP BY ALL ORDER BY ALL")
    assert [(row["variant"], row["n"]) for row in rows] == [("baseline", 40), ("candidate", 40)]
