"""Pinned baselines, and what a check says was loosened since."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.golden.baselines import load_baseline
from flightlog.recorder.record import record

SECRET = "the-customer-s-own-words"


def record_side(path: Path, variant: str, calls: int, session: str = "one") -> None:
    for task in range(8):
        for trial in range(3):
            fields = {"agent": "a", "model": "m", "suite": "s", "session_id": session}
            with record(
                path, task_id=f"t{task}", task_digest="d", variant=variant, trial=trial, **fields
            ) as writer:
                writer.model_call(
                    step=1, request_model="m", input_tokens=9, output_tokens=1, latency_ms=5.0,
                    cost_usd=0.01,
                )  # fmt: skip
                for _ in range(calls):
                    args, result = json.dumps({"q": SECRET}), SECRET * 20
                    writer.tool_call(
                        step=1, tool_name="search", args=args, result=result, latency_ms=1.0
                    )
                writer.evaluation(name="success", passed=True)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A baseline of 24 runs with 2 tool calls each; the folder is a git repository."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    git("config", "user.email", "a@example.invalid")
    git("config", "user.name", "a")
    record_side(tmp_path / "store", "baseline", 2)
    return tmp_path / "store"


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit() -> str:
    git("add", "-A", ":!store")
    git("commit", "-q", "--allow-empty", "-m", "x")
    return git("rev-parse", "HEAD")


def cli(*argv: object) -> int:
    return run([str(part) for part in argv])


def check(store: Path, *argv: object) -> int:
    return cli("check", "--store", store, *argv)


def test_a_pinned_baseline_holds_the_runs_without_their_texts(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("baseline", "set", "main", "--store", store) == 0
    assert "@main: 24 runs of 8 tasks in 1 session" in capsys.readouterr().out
    kept = load_baseline(Path("baselines/main"))
    for path in kept.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    assert kept.size_bytes < 60_000
    assert cli("verify", "--store", kept.store) == 0


def test_new_runs_are_compared_with_it_wherever_the_old_store_is(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("baseline", "set", "main", "--store", store) == 0
    store.rename(store.with_name("gone"))
    record_side(store, "candidate", 3, session="two")
    assert check(store, "--baseline", "@main", "--candidate", "candidate") == 1
    out = capsys.readouterr().out
    assert "candidate (24 runs) against @main (24 runs), 8 tasks" in out
    assert "CONFOUNDED" in out


def test_a_run_that_is_in_the_baseline_too_is_no_candidate(store: Path) -> None:
    record_side(store, "candidate", 2)
    cli("baseline", "set", "main", "--store", store)
    assert check(store, "--baseline", "@main", "--candidate", "suite=s") in (0, 64)
    assert check(store, "--baseline", "@main", "--candidate", "candidate") == 0


def test_a_missing_baseline_exits_2_with_the_command_that_makes_one(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli("baseline", "set", "main", "--store", store)
    assert check(store, "--baseline", "@mian", "--candidate", "baseline") == 2
    err = capsys.readouterr().err
    assert "flightlog baseline set mian --store STORE" in err
    assert "There are: main." in err


def test_a_moved_store_of_a_baseline_is_an_error_and_no_empty_side(store: Path) -> None:
    cli("baseline", "set", "main", "--store", store)
    Path("baselines/main/store").rename("elsewhere")
    assert check(store, "--baseline", "@main", "--candidate", "baseline") == 64


def test_a_baseline_is_replaced_only_when_asked(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("baseline", "set", "main", "--store", store) == 0
    before = sorted(Path("baselines").rglob("*"))
    assert cli("baseline", "set", "main", "--store", store) == 64
    assert "--replace" in capsys.readouterr().err
    assert sorted(Path("baselines").rglob("*")) == before
    assert cli("baseline", "set", "main", "--store", store, "--replace") == 0
    assert [path.name for path in Path("baselines").iterdir()] == ["main"]


@pytest.mark.parametrize("name", ["../x", ".", "..", "a/b", "-x", ".x", ""])
def test_a_name_never_leaves_the_folder(store: Path, name: str) -> None:
    assert cli("baseline", "set", "--store", store, "--", name) == 64
    assert not Path("baselines").exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"version": 2}', '{"version": 1, "state": {}}', "\x00"]
)
def test_a_damaged_file_of_a_baseline_is_named(
    store: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    cli("baseline", "set", "main", "--store", store)
    Path("baselines/main/baseline.json").write_text(text)
    capsys.readouterr()
    assert cli("baseline", "show", "main") == 64
    assert "baselines/main/baseline.json" in capsys.readouterr().err


def test_a_side_that_no_run_is_on_pins_nothing(store: Path) -> None:
    assert cli("baseline", "set", "main", "--store", store, "--side", "nobody") == 64
    assert not Path("baselines/main").exists()


def test_baselines_are_listed_and_shown(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("baseline", "list") == 0
    assert "no pinned baseline" in capsys.readouterr().out
    head = commit()
    cli("baseline", "set", "main", "--store", store)
    capsys.readouterr()
    assert cli("baseline", "list", "--json") == 0
    [one] = json.loads(capsys.readouterr().out)
    assert (one["runs"], one["tasks"], one["revision"]) == (24, 8, head)
    assert cli("baseline", "show", "main") == 0
    assert "tool_calls_per_run (10 %)" in capsys.readouterr().out


# What was loosened.


def verdict_of(store: Path, *argv: object) -> dict[str, object]:
    check(store, "-o", "verdict.json", *argv)
    found: dict[str, object] = json.loads(Path("verdict.json").read_text(encoding="utf-8"))
    return found


def settings(text: str) -> None:
    Path("flightlog.yaml").write_text(f"monitoring: {text}\n")


def test_a_check_names_what_was_loosened_since_the_baseline_was_set(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings("{metrics: {calls: {sql: tool_calls}}}")
    cli("baseline", "set", "main", "--store", store)
    record_side(store, "candidate", 2)
    sides = ("--baseline", "@main", "--candidate", "candidate")
    assert verdict_of(store, *sides)["loosened"] == []
    settings("{metrics: {cost_usd: {tolerance: 0.5}, tool_calls_per_run: {gate: false}}}")
    assert verdict_of(store, *sides)["loosened"] == [
        "metric calls is no longer compared",
        "tolerance of cost_usd: 20 % -> 50 %",
        "metric tool_calls_per_run no longer gates",
    ]
    assert "Loosened since the baseline" in capsys.readouterr().out


def test_a_tighter_check_is_not_loosened(store: Path) -> None:
    cli("baseline", "set", "main", "--store", store)
    record_side(store, "candidate", 2)
    settings("{metrics: {cost_usd: {tolerance: 0.1}, steps: {gate: true}}}")
    sides = ("--baseline", "@main", "--candidate", "candidate")
    assert verdict_of(store, *sides)["loosened"] == []


def test_a_commit_can_be_the_guard(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings("{track: [tool_calls_per_run, cost_usd]}")
    first = commit()
    record_side(store, "candidate", 2)
    settings("{track: [tool_calls_per_run]}")
    assert verdict_of(store, "--guard", first)["loosened"] == ["metric cost_usd no longer gates"]
    assert verdict_of(store)["loosened"] == []
    assert check(store, "--guard", "no-such-commit") == 64
    assert "is no commit of a repository here" in capsys.readouterr().err


def test_runs_that_name_their_commit_are_guarded_from_there(store: Path) -> None:
    settings("{track: [tool_calls_per_run, cost_usd]}")
    first = commit()
    for variant in ("baseline", "candidate"):
        for task in range(6):
            with record(
                store, task_id=f"t{task}", variant=f"{variant}2", labels={"git_revision": first}
            ) as writer:
                writer.tool_call(step=1, tool_name="search")
    settings("{track: [tool_calls_per_run]}")
    commit()
    sides = ("--baseline", f"baseline2,git={first[:9]}", "--candidate", "candidate2,git=HEAD~1")
    assert verdict_of(store, *sides)["loosened"] == ["metric cost_usd no longer gates"]
