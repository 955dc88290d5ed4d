"""Hostile and damaged golden folders: nothing leaves the folder, and every error has a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flightlog.cli import run as flightlog
from flightlog.errors import FlightlogError
from flightlog.golden.life.accept import accept, review_pending
from flightlog.golden.life.pending import pending_files, propose
from flightlog.golden.life.quarantine import load_quarantine
from flightlog.golden.pin import pin_runs
from flightlog.golden.task import load_task
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.task import Task
from tests.unit.golden.world import GET, REFUND, record_run

HOSTILE_IDS = [
    "../../evil",
    "/abs",
    "..",
    "nul\0",
    "x" * 300,
    "a: b\n# c",
    "<b>|`x`</b>",
    "\x1b[2J",
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def pinned(store: Path, goldens: Path, task: Task) -> None:
    record_run(store, [GET], run_id="r1", task=task)
    pin_runs(Store.open(store), ["r1"], goldens)


@pytest.mark.parametrize("task_id", HOSTILE_IDS)
def test_the_whole_life_of_a_hostile_task_id_stays_inside_the_folder(
    tmp_path: Path, store: Path, task_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = tmp_path / "deep" / "goldens"
    task = Task(task_id, "x")
    pinned(store, goldens, task)
    record_run(store, [REFUND], run_id="r2", task=task)
    before = {path for path in tmp_path.rglob("*") if goldens not in path.parents}
    propose(goldens, read_recordings(Store.open(store), ["r2"]))
    (folder,) = [path.parent for path in goldens.glob("*/task.yaml")]
    assert flightlog(["golden", "review", "--goldens", str(goldens)]) == 0
    assert flightlog(["golden", "check", str(goldens)]) == 3
    accept(goldens, folder.name)
    assert flightlog(["golden", "check", str(goldens)]) == 0
    assert load_task(folder / "task.yaml").task.task_id == task_id
    assert {path for path in tmp_path.rglob("*") if goldens not in path.parents} == before
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b'{"kind":"run_started","run_id":"r2","seq":0}\n',
        b'{"kind":"run_started","run_id":"r2"',
        b"\xff\xfe\x00",
        b"[" * 50_000,
        b'{"kind":"from_the_future","run_id":"r2","seq":0}\n',
    ],
)
def test_a_damaged_pending_recording_is_a_named_error_and_never_accepted(
    tmp_path: Path, store: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = tmp_path / "goldens"
    pinned(store, goldens, Task("t", "x"))
    path = goldens / ".pending" / "t" / "1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    for call in (lambda: accept(goldens, "t"), lambda: review_pending(goldens)):
        with pytest.raises(FlightlogError) as caught:
            call()
        assert str(path) in caught.value.where
    assert flightlog(["golden", "check", str(goldens)]) == 3
    assert "pending golden t" in capsys.readouterr().out
    assert sorted(p.name for p in (goldens / "t").iterdir()) == ["1.jsonl", "task.yaml"]


def test_a_pipe_among_the_files_does_not_stall(tmp_path: Path, store: Path) -> None:
    goldens = tmp_path / "goldens"
    pinned(store, goldens, Task("t", "x"))
    os.mkfifo(goldens / "quarantine.yaml")
    with pytest.raises(FlightlogError, match="pipe"):
        load_quarantine(goldens)


def test_names_in_the_pending_folder_that_are_no_numbers_are_left_alone(
    tmp_path: Path, store: Path
) -> None:
    goldens = tmp_path / "goldens"
    pinned(store, goldens, Task("t", "x"))
    folder = goldens / ".pending" / "t"
    folder.mkdir(parents=True)
    for name in ("notes.jsonl", "1.jsonl.swp", "-1.jsonl", "../x.jsonl"):
        (folder / name).write_text("x", encoding="utf-8")
    assert pending_files(goldens) == []


def test_a_hostile_prompt_and_inputs_come_back_as_they_were(tmp_path: Path, store: Path) -> None:
    goldens = tmp_path / "goldens"
    text = (
        "# no comment\n--- \n'\"`${x} <!-- -->\u2028end\n  - item: &a *b !!python/object:os.system"
    )
    task = Task("t", text, inputs={"k: v": [text, {"# a": None}]})
    pinned(store, goldens, task)
    record_run(store, [GET], [GET], run_id="r2", task=task)
    accept(goldens, "t", read_recordings(Store.open(store), ["r2"]))
    golden = load_task(goldens / "t" / "task.yaml")
    assert golden.task.prompt == text
    assert golden.task.inputs == {"k: v": [text, {"# a": None}]}
