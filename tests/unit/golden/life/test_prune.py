"""Only what no trial needs is pruned, and only after a full green replay."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from flightlog.cli import run as flightlog
from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.entries import load_suite
from flightlog.golden.life.accept import accept
from flightlog.golden.life.prune import Pruned, prune
from flightlog.golden.life.quarantine import put_in_quarantine
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.task import Task
from tests.unit.golden.world import GET, REFUND, candidate, record_run

TODAY = date(2026, 6, 1)
AGAIN = ("refund", {"order_id": "A1", "amount": 7})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path, store: Path) -> Path:
    """Three recordings of one task: r1 refunds, r2 refunds otherwise, r3 only looks."""
    record_run(store, [GET], [REFUND], run_id="r1")
    record_run(store, [AGAIN], run_id="r2")
    record_run(store, [GET], run_id="r3")
    pin_runs(Store.open(store), ["r1", "r2", "r3"], tmp_path / "goldens")
    return tmp_path / "goldens"


def replay(goldens: Path, store: Path, *steps: Any, tasks: list[str] | None = None) -> None:
    with Recorder(store) as recorder:
        replay_suite(goldens, candidate(*steps), recorder=recorder, tasks=tasks)


def pruned(goldens: Path, store: Path, **options: Any) -> Pruned:
    return prune(goldens, store, today=TODAY, **options)


def run_ids(goldens: Path) -> list[str]:
    return [one.run_id for entry in load_suite(goldens) for one in entry.recordings]


def test_recordings_that_no_trial_was_served_from_are_removed(store: Path, goldens: Path) -> None:
    replay(goldens, store, [REFUND])
    before = run_ids(goldens)
    dry = pruned(goldens, store, dry_run=True)
    assert run_ids(goldens) == before == ["r1", "r2", "r3"]
    done = pruned(goldens, store)
    assert done.removed == dry.removed
    assert run_ids(goldens) == ["r1"]
    assert any(str(goldens / "refund-17" / "2.jsonl") in line for line in done.lines())
    replay(goldens, store, [REFUND])
    assert pruned(goldens, store).removed == ()


def test_a_recording_without_which_a_trial_would_not_pass_stays(store: Path, goldens: Path) -> None:
    # It reads from r3, and passes since its writes are those of r1.
    replay(goldens, store, [GET], [REFUND])
    pruned(goldens, store)
    assert "r1" in run_ids(goldens)
    replay(goldens, store, [GET], [REFUND])
    assert pruned(goldens, store).removed == ()


def test_one_recording_always_stays(store: Path, goldens: Path) -> None:
    replay(goldens, store)
    assert len(pruned(goldens, store).removed) == 2
    assert run_ids(goldens) == ["r3"]


def test_a_replay_that_is_not_green_prunes_nothing(store: Path, goldens: Path) -> None:
    replay(goldens, store, [("refund", {"order_id": "B2", "amount": 1})])
    with pytest.raises(GoldenError, match="is not green"):
        pruned(goldens, store)
    assert run_ids(goldens) == ["r1", "r2", "r3"]


def test_a_replay_that_left_a_task_out_prunes_nothing(store: Path, goldens: Path) -> None:
    record_run(store, [GET], run_id="other", task=Task("other", "x"))
    pin_runs(Store.open(store), ["other"], goldens)
    replay(goldens, store, [REFUND], tasks=["refund-17"])
    with pytest.raises(GoldenError, match="golden other was not replayed"):
        pruned(goldens, store)
    put_in_quarantine(goldens, "other", reason="x", until=TODAY, today=TODAY)
    pruned(goldens, store)
    assert run_ids(goldens) == ["other", "r1"]


def test_goldens_that_changed_since_the_replay_are_not_pruned(store: Path, goldens: Path) -> None:
    replay(goldens, store, [REFUND])
    record_run(store, [GET], [GET], run_id="r4")
    accept(goldens, "refund-17", read_recordings(Store.open(store), ["r4"]))
    with pytest.raises(GoldenError, match="changed since it was replayed"):
        pruned(goldens, store)


def test_without_a_replay_there_is_nothing_to_prune_by(store: Path, goldens: Path) -> None:
    with pytest.raises(NothingToCompareError, match="no replay"):
        pruned(goldens, store)
    with pytest.raises(NothingToCompareError, match="'gone'"):
        pruned(goldens, store, session_id="gone")


def test_the_command_prints_every_path(
    store: Path, goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(goldens, store, [REFUND])
    assert flightlog(["golden", "prune", str(goldens), "--store", str(store), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"would remove {goldens / 'refund-17' / '2.jsonl'}" in printed
    assert f"would remove {goldens / 'refund-17' / '3.jsonl'}" in printed
