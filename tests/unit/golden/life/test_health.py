"""Golden tasks that cannot be trusted fail the check, each with its message; nothing is written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.selection import Side
from flightlog.cli import run as flightlog
from flightlog.errors import GoldenError, NothingToCompareError
from flightlog.golden.entries import load_suite
from flightlog.golden.life.contracts import Way, contract_changes, contract_text
from flightlog.golden.life.health import Fault, GoldenHealth, check_goldens
from flightlog.golden.life.pending import propose
from flightlog.golden.life.quarantine import (
    QUARANTINE_FILE,
    left_out,
    lift_quarantine,
    load_quarantine,
    put_in_quarantine,
)
from flightlog.golden.life.sides import contract_notes, judged_by
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import replay_suite
from flightlog.golden.task import load_task
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from tests.unit.golden.world import GET, REFUND, candidate, record_run, shop_tools

TODAY = date(2026, 6, 1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path, store: Path) -> Path:
    record_run(store, [GET], [REFUND], run_id="r1")
    pin_runs(Store.open(store), ["r1"], tmp_path / "goldens")
    return tmp_path / "goldens"


def faults(health: GoldenHealth) -> list[tuple[Fault, str]]:
    return [(one.fault, one.golden) for one in health.findings if not one.is_quarantined]


def hashed(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(str(path.stat().st_mtime_ns).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def replay(goldens: Path, store: Path, variant: str) -> None:
    with Recorder(store) as recorder:
        replay_suite(goldens, candidate([GET], [REFUND]), recorder=recorder, variant=variant)


def change(goldens: Path, old: str, new: str, *, file: str = "refund-17/task.yaml") -> None:
    path = goldens / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_golden_folder_in_order_has_no_finding(goldens: Path) -> None:
    health = check_goldens(goldens, today=TODAY, replayed={"refund-17"})
    assert (health.findings, health.exit_code) == ((), 0)


def test_a_golden_that_nobody_replayed_is_unused(goldens: Path) -> None:
    health = check_goldens(goldens, today=TODAY, replayed=set())
    assert faults(health) == [(Fault.UNUSED, "refund-17")]
    assert health.exit_code == 3
    assert "no run of the candidate" in health.lines()[0]


def test_a_golden_that_is_gone_or_has_no_recording_is_missing(goldens: Path) -> None:
    gone = check_goldens(goldens, today=TODAY, replayed={"refund-17", "refund-18"})
    assert faults(gone) == [(Fault.MISSING, "refund-18")]
    (goldens / "refund-17" / "1.jsonl").unlink()
    empty = check_goldens(goldens, today=TODAY)
    assert faults(empty) == [(Fault.MISSING, "refund-17")]
    assert "it has no recording" in empty.lines()[0]


def test_a_pending_recording_fails_the_check(goldens: Path, store: Path) -> None:
    record_run(store, [GET], run_id="r2")
    propose(goldens, read_recordings(Store.open(store), ["r2"]))
    health = check_goldens(goldens, today=TODAY)
    assert faults(health) == [(Fault.PENDING, "refund-17")]
    assert "flightlog golden accept refund-17" in health.lines()[0]


def test_a_changed_schema_of_a_called_tool_is_stale(store: Path, tmp_path: Path) -> None:
    goldens = tmp_path / "goldens"
    schema = {"type": "object", "properties": {"amount": {"type": "number"}}}
    tools = [replace(tool, input_schema=schema) for tool in shop_tools()]
    record_run(store, [REFUND], run_id="r1", tools=tools)
    pin_runs(Store.open(store), ["r1"], goldens)
    assert check_goldens(goldens, today=TODAY).findings == ()
    change(goldens, "type: number", "type: integer", file="tools.yaml")
    health = check_goldens(goldens, today=TODAY)
    assert faults(health) == [(Fault.STALE, "refund-17")]
    assert "the input schema of tool 'refund'" in health.lines()[0]


def test_a_recording_of_another_fixture_is_stale(store: Path, tmp_path: Path) -> None:
    goldens = tmp_path / "goldens"
    with record(store, run_id="f1", task_id="t", labels={"fixture": "shop-1"}) as run:
        run.tool_call(tool_name="get", args="{}", result="1", step=1, call_ix=0)
    pin_runs(Store.open(store), ["f1"], goldens)
    change(goldens, "tools:", "fixture: shop-1\ntools:", file="tools.yaml")
    assert check_goldens(goldens, today=TODAY).findings == ()
    change(goldens, "shop-1", "shop-2", file="tools.yaml")
    health = check_goldens(goldens, today=TODAY)
    assert faults(health) == [(Fault.STALE, "t")]
    assert "began in fixture 'shop-1', tools.yaml has 'shop-2'" in health.lines()[0]


def test_a_tool_that_is_not_declared_any_more_is_stale(goldens: Path) -> None:
    change(goldens, "- refund\n", "- refund_all\n")
    health = check_goldens(goldens, today=TODAY)
    assert faults(health) == [(Fault.STALE, "refund-17")]
    assert "'refund_all'" in health.lines()[0]


def test_a_quarantined_golden_is_left_out_until_its_day_and_then_fails(goldens: Path) -> None:
    put_in_quarantine(goldens, "refund-17", reason="flaky shop", until=TODAY, today=TODAY)
    calm = check_goldens(goldens, today=TODAY, replayed=set())
    assert (faults(calm), calm.exit_code) == ([], 0)
    assert calm.lines() == [f"quarantined golden refund-17: until {TODAY}, since flaky shop"]
    over = check_goldens(goldens, today=TODAY + timedelta(days=1), replayed={"refund-17"})
    assert faults(over) == [(Fault.EXPIRED, "refund-17")]
    assert over.exit_code == 3
    lift_quarantine(goldens, "refund-17")
    assert not (goldens / QUARANTINE_FILE).exists()


def test_a_replay_leaves_quarantined_goldens_out_and_never_all(goldens: Path) -> None:
    put_in_quarantine(goldens, "refund-17", reason="x", until=TODAY, today=TODAY)
    with pytest.raises(NothingToCompareError, match="every golden task is in quarantine"):
        left_out(goldens, TODAY)
    assert left_out(goldens, TODAY + timedelta(days=1)) == {}


def test_a_quarantined_golden_that_cannot_be_read_does_not_stop_the_others(
    goldens: Path, tmp_path: Path
) -> None:
    other = goldens / "other"
    other.mkdir()
    (other / "task.yaml").write_text("task: [", encoding="utf-8")
    with pytest.raises(GoldenError):
        load_suite(goldens)
    text = f'quarantine:\n  other:\n    reason: broken\n    until: "{date.max}"\n'
    (goldens / QUARANTINE_FILE).write_text(text, encoding="utf-8")
    with Recorder(tmp_path / "replays") as recorder:
        report = replay_suite(goldens, candidate([GET], [REFUND], [GET]), recorder=recorder)
    assert [trial.task_id for trial in report.trials] == ["refund-17"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("quarantine:\n  refund-17:\n    until: '2026-12-31'\n", "reason"),
        ("quarantine:\n  refund-17:\n    reason: x\n    until: soon\n", "until"),
        ("quarantine:\n  refund-17:\n    reason: x\n    untill: '2026-12-31'\n", "until"),
        ("quarantined: {}\n", "quarantined"),
        ("quarantine: [1]\n", "keys and values"),
        ("quarantine: &a\n  b: *a\n", ""),
    ],
)
def test_a_malformed_quarantine_names_file_and_line(goldens: Path, text: str, what: str) -> None:
    (goldens / QUARANTINE_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(GoldenError) as caught:
        load_quarantine(goldens)
    assert what in str(caught.value)
    assert QUARANTINE_FILE in caught.value.where


def test_a_quarantine_needs_a_reason_and_a_day_to_come(goldens: Path) -> None:
    with pytest.raises(GoldenError, match="no reason"):
        put_in_quarantine(goldens, "refund-17", reason=" ", until=TODAY, today=TODAY)
    with pytest.raises(GoldenError, match="is over"):
        put_in_quarantine(
            goldens, "refund-17", reason="x", until=TODAY, today=TODAY + timedelta(days=1)
        )


def test_a_quarantine_of_no_golden_is_missing(goldens: Path) -> None:
    (goldens / QUARANTINE_FILE).write_text(
        "quarantine:\n  nobody:\n    reason: x\n    until: '2026-12-31'\n", encoding="utf-8"
    )
    assert faults(check_goldens(goldens, today=TODAY)) == [(Fault.MISSING, "nobody")]


@pytest.mark.parametrize(
    ("old", "new", "way", "key"),
    [
        ("writes: accepted", "writes: ignore", Way.DELETED, "judge.writes"),
        ("  - ok\n", "  - ok\n  - max_steps\n", Way.LOOSENED, "judge.stop_reasons"),
        ("  - refund_all\n", "  - other\n", Way.DELETED, "judge.forbidden_tools"),
        ("max_tool_calls: 9", "max_tool_calls: 90", Way.LOOSENED, "budgets.max_tool_calls"),
        ("  max_tool_calls: 9\n", "", Way.DELETED, "budgets.max_tool_calls"),
        ("within: [38, 39]", "within: [3, 39]", Way.LOOSENED, "judge.answer.number[].within"),
        ("at_most: 2", "at_most: 3", Way.LOOSENED, "judge.temporal[].at_most"),
        ("required: true", "required: false", Way.LOOSENED, "judge.graded[].required"),
        ("contains: refund", "contains: money", Way.DELETED, "judge.answer_contains"),
        ("max_tool_calls: 9", "max_tool_calls: 8", Way.TIGHTENED, "budgets.max_tool_calls"),
    ],
)
def test_a_weaker_contract_is_told_from_a_stronger_one(
    tmp_path: Path, old: str, new: str, way: Way, key: str
) -> None:
    path = tmp_path / "task.yaml"
    text = (
        "format: 1\ntask_id: t\njudge:\n  writes: accepted\n  stop_reasons:\n  - ok\n"
        "  forbidden_tools:\n  - refund_all\n  temporal:\n  - {at_most: 2, calls: refund}\n"
        "  answer:\n    contains: refund\n    number:\n    - {path: /usd, within: [38, 39]}\n"
        "  graded:\n  - {rubric: polite, required: true}\n"
        "budgets:\n  max_tool_calls: 9\n  max_steps: 5\n"
    )
    path.write_text(text, encoding="utf-8")
    before = contract_text(load_task(path))
    path.write_text(text.replace(old, new), encoding="utf-8")
    changes = contract_changes(before, contract_text(load_task(path)))
    assert (changes[0].way, changes[0].key) == (way, key)


def test_the_contract_that_a_run_was_judged_by_is_kept_and_compared(
    goldens: Path, store: Path
) -> None:
    replay(goldens, store, "baseline")
    change(goldens, "writes: accepted", "writes: ignore")
    replay(goldens, store, "candidate")
    with Traces(store) as traces:
        judged = judged_by(traces, Side.parse("baseline"), Side.parse("candidate"))
    notes, (weaker,) = contract_notes(judged, goldens)
    assert not notes
    assert weaker == (
        "golden refund-17: since the baseline its contract has become weaker: "
        'deleted judge.writes: it was "accepted"'
    )
    change(goldens, "writes: ignore", "writes: accepted")
    notes, weaker = contract_notes(judged, goldens)
    assert (len(notes), len(weaker)) == (1, 1)


def test_a_check_shows_a_weaker_contract_and_never_writes(
    goldens: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(goldens, store, "baseline")
    change(goldens, "writes: accepted", "writes: ignore")
    replay(goldens, store, "candidate")
    before = hashed(goldens)
    code = flightlog(["check", "--store", str(store), "--goldens", str(goldens)])
    assert code in (0, 2)
    assert "become weaker" in capsys.readouterr().out
    for command in (
        ["golden", "check", str(goldens)],
        ["golden", "list", str(goldens)],
        ["golden", "review", "--goldens", str(goldens)],
        ["golden", "review", "r1", "--goldens", str(goldens), "--store", str(store)],
    ):
        assert flightlog(command) == 0
    assert hashed(goldens) == before


def test_a_check_with_a_pending_golden_exits_3(
    goldens: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(goldens, store, "baseline")
    replay(goldens, store, "candidate")
    record_run(store, [GET], run_id="r2")
    propose(goldens, read_recordings(Store.open(store), ["r2"]))
    assert flightlog(["check", "--store", str(store), "--goldens", str(goldens)]) == 3
    assert "pending golden refund-17" in capsys.readouterr().out
    assert flightlog(["golden", "check", str(goldens)]) == 3
