"""Pinning: runs become goldens, whole or not at all."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from flightlog.cli import run as cli
from flightlog.errors import FlightlogError, GoldenError, NothingToCompareError, UnknownNameError
from flightlog.golden.files import load_tools
from flightlog.golden.pin import pin_runs
from flightlog.golden.pin_report import PinReport
from flightlog.golden.recording_files import load_recording, recorded_run_ids
from flightlog.golden.task import load_task
from flightlog.recorder.life.pins import pins_of
from flightlog.recorder.life.retain import retain
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.redact.policy import Capture, Redaction
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run
from flightlog.runtime.task import Task
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect, StopReason
from tests.unit.golden.world import GET, REFUND, TASK, record_run, shop_agent, shop_tools


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    return tmp_path / "goldens"


def _pin(store: Path, goldens: Path, *run_ids: str, tools_file: Path | None = None) -> PinReport:
    return pin_runs(Store.open(store), run_ids, goldens, tools_file=tools_file)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_secret_of_another_run_of_the_store_keeps_no_run_from_being_pinned(
    tmp_path: Path,
) -> None:
    store = tmp_path / "raw"
    secret = Task("other", "Use the key AKIAQ3EGXMPLSD4TZ5WV to look.", suite="shop")
    with Recorder(store, redaction=Redaction(capture=Capture.FULL)) as recorder:
        other = run(shop_agent([]), secret, sink=recorder)
        mine = run(shop_agent([[GET]]), TASK, sink=recorder)
    with pytest.raises(GoldenError, match="should not be in a repository"):
        pin_runs(Store.open(store), [other.run_id], tmp_path / "goldens")
    assert pin_runs(Store.open(store), [mine.run_id], tmp_path / "goldens").tasks


def test_a_run_becomes_contract_declarations_and_recording(store: Path, goldens: Path) -> None:
    report = _pin(store, goldens, record_run(store, [GET], [REFUND]))
    assert set(_files(goldens)) == {"tools.yaml", "refund-17/task.yaml", "refund-17/1.jsonl"}
    golden = load_task(goldens / "refund-17" / "task.yaml")
    assert golden.task == Task(
        TASK.task_id, TASK.prompt, TASK.suite, TASK.inputs, content_digest=TASK.digest
    )
    assert golden.task.digest == TASK.digest
    assert golden.tools == ("get_order", "refund")
    assert golden.judge.stop_reasons == (StopReason.OK,)
    assert golden.budgets["max_steps"] == Budget().max_steps
    assert load_tools(goldens / "tools.yaml")["refund"].effect is Effect.WRITE
    calls = load_recording(goldens / "refund-17" / "1.jsonl").tool_calls
    assert [call.tool_name for call in calls] == ["get_order", "refund"]
    assert report.undeclared_tools == ()
    assert report.lines()[0] == f"pinned 1 run as 1 golden task in {goldens}"


def test_runs_of_one_task_share_its_golden(store: Path, goldens: Path) -> None:
    runs = [record_run(store, [GET], run_id="r1"), record_run(store, [GET], [GET], run_id="r2")]
    (pinned,) = _pin(store, goldens, *runs).tasks
    assert pinned.added == ("r1", "r2")
    assert sorted(p.name for p in (goldens / "refund-17").glob("*.jsonl")) == ["1.jsonl", "2.jsonl"]


def test_a_run_that_is_pinned_already_stays_as_it_is(store: Path, goldens: Path) -> None:
    run_id = record_run(store, [GET])
    _pin(store, goldens, run_id)
    before = _files(goldens)
    (pinned,) = _pin(store, goldens, run_id).tasks
    assert (pinned.added, pinned.kept) == ((), (run_id,))
    assert _files(goldens) == before


def test_a_later_run_is_added_and_its_stop_reason_accepted(store: Path, goldens: Path) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    stopped = record_run(
        store, [GET], [GET], run_id="r2", budget=Budget(max_tool_calls=1, max_seconds=None)
    )
    _pin(store, goldens, stopped)
    golden = load_task(goldens / "refund-17" / "task.yaml")
    assert golden.judge.stop_reasons == (StopReason.OK, StopReason.MAX_TOOL_CALLS)
    assert (goldens / "refund-17" / "2.jsonl").exists()


def test_what_a_reviewer_wrote_into_the_contract_is_kept(store: Path, goldens: Path) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    path = goldens / "refund-17" / "task.yaml"
    path.write_text(path.read_text() + "", encoding="utf-8")
    text = path.read_text().replace("writes: accepted", "writes: ignore")
    path.write_text(text, encoding="utf-8")
    _pin(store, goldens, record_run(store, [REFUND], run_id="r2"))
    assert load_task(path).judge.writes == "ignore"


def test_undeclared_tools_are_pinned_as_unknown_and_reported(store: Path, goldens: Path) -> None:
    run_id = record_run(store, [GET], tools=shop_tools(is_declared=False))
    report = _pin(store, goldens, run_id)
    assert report.undeclared_tools == ("get_order",)
    assert load_tools(goldens / "tools.yaml")["get_order"].effect is Effect.UNKNOWN
    assert any("counts as a write to everything" in line for line in report.lines())


def test_tools_of_a_run_without_a_toolset_are_unknown(store: Path, goldens: Path) -> None:
    with record(store, task_id="t") as run:
        run.tool_call(tool_name="get_order", args="{}", result="1", step=1, call_ix=0)
    report = _pin(store, goldens, run.run_id)
    assert report.undeclared_tools == ("get_order",)
    assert load_task(goldens / "t" / "task.yaml").tools == ("get_order",)


def test_a_tools_file_declares_for_runs_that_did_not(
    store: Path, goldens: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(
        "tools:\n  get_order:\n    effect: read\n    scopes: ['order:{order_id}']\n",
        encoding="utf-8",
    )
    run_id = record_run(store, [GET], tools=shop_tools(is_declared=False))
    assert _pin(store, goldens, run_id, tools_file=file).undeclared_tools == ()
    assert load_tools(goldens / "tools.yaml")["get_order"].effect is Effect.READ


def test_a_reviewed_declaration_holds_against_that_of_a_later_run(
    store: Path, goldens: Path
) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    path = goldens / "tools.yaml"
    path.write_text(path.read_text().replace("order:{order_id}", "orders"), encoding="utf-8")
    report = _pin(store, goldens, record_run(store, [GET], run_id="r2"))
    assert load_tools(path)["get_order"].scopes == ("orders",)
    assert any("'get_order' is declared in tools.yaml otherwise" in note for note in report.notes)


def test_recordings_that_disagree_are_listed(store: Path, goldens: Path) -> None:
    for run_id, result in (("r1", "1"), ("r2", "2")):
        with Recorder(store) as recorder:
            writer = RunWriter(recorder, run_id)
            writer.started(task_id="t")
            writer.tool_call(tool_name="get", args="{}", result=result, step=1, call_ix=0)
            writer.stopped(stop_reason="ok")
    report = _pin(store, goldens, "r1", "r2")
    assert any("get {} was answered differently in the same state" in n for n in report.notes)


def test_a_run_judged_unsuccessful_is_pinned_with_a_note(store: Path, goldens: Path) -> None:
    report = _pin(store, goldens, record_run(store, [GET], passed=False))
    assert any("judged unsuccessful (run-1)" in note for note in report.notes)


def test_an_unknown_run_names_the_nearest(store: Path, goldens: Path) -> None:
    record_run(store, [GET])
    with pytest.raises(UnknownNameError, match="run-l") as caught:
        _pin(store, goldens, "run-l")
    assert "run-1" in caught.value.hint
    assert not goldens.exists()


def test_no_run_is_nothing_to_pin(store: Path, goldens: Path) -> None:
    record_run(store, [GET])
    with pytest.raises(NothingToCompareError):
        _pin(store, goldens)


def test_an_unfinished_run_and_one_without_a_task_are_refused(store: Path, goldens: Path) -> None:
    with record(store) as no_task:
        pass
    with Recorder(store) as recorder:
        RunWriter(recorder, "open").started(task_id="t")
        with pytest.raises(GoldenError, match="still going on"):
            _pin(store, goldens, "open")
    with pytest.raises(GoldenError, match="names no task"):
        _pin(store, goldens, no_task.run_id)
    assert not goldens.exists()


def test_two_runs_under_one_id_are_refused(store: Path, goldens: Path) -> None:
    for _ in range(2):
        record_run(store, [GET], run_id="same")
    with pytest.raises(GoldenError, match="holds an event twice"):
        _pin(store, goldens, "same")
    assert not goldens.exists()


def test_a_task_of_the_same_name_with_other_content_is_refused(store: Path, goldens: Path) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    before = _files(goldens)
    other = Task(TASK.task_id, "Something else.", suite=TASK.suite)
    with pytest.raises(GoldenError, match="has other content"):
        _pin(store, goldens, record_run(store, [GET], run_id="r2", task=other))
    assert _files(goldens) == before


def test_the_same_task_id_of_two_suites_has_two_folders(store: Path, goldens: Path) -> None:
    runs = [
        record_run(store, [GET], run_id=suite, task=Task("t", "x", suite=suite))
        for suite in ("one", "two")
    ]
    report = _pin(store, goldens, *runs)
    assert len({task.folder for task in report.tasks}) == 2


@pytest.mark.parametrize("task_id", ["../../evil", "/abs", "nul\0", "x" * 300, "blobs", "ü ñ"])
def test_hostile_task_ids_stay_inside_the_folder(
    store: Path, goldens: Path, tmp_path: Path, task_id: str
) -> None:
    run_id = record_run(store, [GET], task=Task(task_id, "x"))
    before = {path for path in tmp_path.iterdir() if path != goldens}
    _pin(store, goldens, run_id)
    assert {path for path in tmp_path.iterdir() if path != goldens} == before
    (path,) = goldens.glob("*/task.yaml")
    assert load_task(path).task.task_id == task_id


def test_a_broken_file_in_the_folder_stops_the_pin_before_anything_is_written(
    store: Path, goldens: Path
) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    (goldens / "refund-17" / "task.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    before = _files(goldens)
    with pytest.raises(FlightlogError):
        _pin(store, goldens, record_run(store, [GET], run_id="r2"))
    assert _files(goldens) == before


def test_a_pin_that_cannot_write_a_file_puts_everything_back(store: Path, goldens: Path) -> None:
    _pin(store, goldens, record_run(store, [GET], run_id="r1"))
    # A file stands where the folder of the second run's contract has to be.
    (goldens / "zzz").write_text("in the way", encoding="utf-8")
    before = _files(goldens)
    runs = [
        record_run(store, [GET], run_id="r2"),
        record_run(store, [GET], run_id="r3", task=Task("zzz", "x")),
    ]
    with pytest.raises(GoldenError, match="cannot write the golden tasks"):
        _pin(store, goldens, *runs)
    assert _files(goldens) == before
    assert list(goldens.parent.glob(".goldens-*")) == []


def test_large_results_go_into_blobs(store: Path, goldens: Path) -> None:
    with record(store, task_id="t") as run:
        run.tool_call(tool_name="get", args="{}", result="x" * 50_000, step=1, call_ix=0)
    _pin(store, goldens, run.run_id)
    (blob,) = (goldens / "blobs").iterdir()
    assert blob.read_text() == "x" * 50_000
    recording = load_recording(goldens / "t" / "1.jsonl")
    assert recording.result_of(recording.tool_calls[0]) == "x" * 50_000


def test_a_line_of_a_recording_can_be_reviewed(store: Path, goldens: Path) -> None:
    _pin(store, goldens, record_run(store, [GET]))
    lines = (goldens / "refund-17" / "1.jsonl").read_text().splitlines()
    (call,) = [json.loads(line) for line in lines if '"kind":"tool_call"' in line]
    assert call["args"] == '{"order_id":"A1"}'
    assert call["result"] == '{"order_id":"A1","refunded":0}'


def test_the_store_remembers_its_pinned_runs(store: Path, goldens: Path) -> None:
    runs = [record_run(store, [GET], run_id="r1"), record_run(store, [GET], run_id="../r2")]
    _pin(store, goldens, *runs)
    _pin(store, goldens, runs[0])
    pins = pins_of(Store.open(store).layout)
    found = sorted((pin.run_id, pin.goldens) for pin in pins.values())
    assert found == [("../r2", str(goldens)), ("r1", str(goldens))]
    assert {path.parent for path in pins} == {store / "pins"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in pins} == {0o600}
    assert retain(Store.open(store), older_than_s=0).runs == 0


def test_a_pin_that_a_store_cannot_remember_is_a_note(store: Path, goldens: Path) -> None:
    run_id = record_run(store, [GET])
    (store / "pins").write_text("in the way")
    report = _pin(store, goldens, run_id)
    assert "cannot be told of the pins" in report.notes[-1]
    assert recorded_run_ids(goldens) == {run_id}


def test_a_folder_without_recordings_pins_nothing_and_is_refused(goldens: Path) -> None:
    goldens.mkdir()
    with pytest.raises(GoldenError, match="no golden task with a recording"):
        recorded_run_ids(goldens)


def test_command_adds_no_run_to_a_golden_task_without_a_review(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, goldens = tmp_path / "store", tmp_path / "goldens"
    record_run(store, [GET], [REFUND])
    record_run(store, [REFUND], run_id="run-2")
    command = ["golden", "pin", "--store", str(store), "--goldens", str(goldens)]
    assert cli([*command, "run-1"]) == 0
    assert cli([*command, "run-1"]) == 0  # nothing new
    assert cli([*command, "run-2"]) == 64
    assert "flightlog golden accept refund-17 --run run-2" in capsys.readouterr().err
    assert len(list(goldens.glob("*/*.jsonl"))) == 1


def test_fixture_shows_unsound_scopes_when_a_run_is_pinned(tmp_path: Path) -> None:
    world = {"A1": 0}

    def refund(order_id: str, amount: float) -> dict[str, float]:
        world[order_id] += 5
        return {"refunded": 5}

    def fixture() -> dict[str, object]:
        world["A1"] = 0
        return {"get_order": lambda order_id: {"refunded": world[order_id]}, "refund": refund}

    tools = [
        replace(tool, scopes=("elsewhere",)) if tool.name == "refund" else tool
        for tool in shop_tools()
    ]
    record_run(tmp_path / "store", [GET], [REFUND], tools=tools)
    report = pin_runs(
        Store.open(tmp_path / "store"), ["run-1"], tmp_path / "goldens", fixture=fixture
    )
    assert any("unsound_scope" in note and "get_order" in note for note in report.notes)
