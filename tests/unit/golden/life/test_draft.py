"""A pinned contract says what it was drafted from, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.errors import GoldenError
from flightlog.golden.life.comments import comments_of, with_comments
from flightlog.golden.pin import pin_runs
from flightlog.golden.task import load_task
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.redact.policy import Capture, Redaction
from flightlog.runtime.budget import Budget
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect
from tests.unit.golden.world import GET, REFUND, record_run, shop_tools

SECRET = "sk-proj-" + "a1B2c3D4" * 6
UNREDACTED = Redaction(capture=Capture.FULL)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    return tmp_path / "goldens"


def pin(store: Path, goldens: Path, *run_ids: str) -> None:
    pin_runs(Store.open(store), run_ids, goldens)


def contract(goldens: Path) -> str:
    (path,) = goldens.glob("*/task.yaml")
    return path.read_text(encoding="utf-8")


def test_each_part_of_the_contract_has_its_evidence(store: Path, goldens: Path) -> None:
    pin(store, goldens, record_run(store, [GET], [REFUND]))
    comments = comments_of(contract(goldens))
    assert comments["judge", "writes"] == ("successful writes of run-1: refund x1",)
    assert comments["judge", "stop_reasons"] == ("ok in 1 run",)
    assert comments["budgets", "max_tool_calls"] == ("run-1 used at most 2",)


def test_a_write_that_nobody_asked_for_is_suggested_and_only_applied_when_asked(
    store: Path, goldens: Path, tmp_path: Path
) -> None:
    erase = Tool("erase_all", fn=lambda: None, effect=Effect.WRITE, scopes=("*",))
    run_id = record_run(store, [REFUND], tools=(*shop_tools(), erase), answer="5.25 USD for A1-77")
    pin(store, goldens, run_id)
    assert 'drafted, not in force: forbidden_tools: ["erase_all"]' in contract(goldens)
    (path,) = goldens.glob("*/task.yaml")
    assert load_task(path).judge.forbidden_tools == ()
    other = tmp_path / "applied"
    pin_runs(Store.open(store), [run_id], other, apply_drafts=True)
    (path,) = other.glob("*/task.yaml")
    assert load_task(path).judge.forbidden_tools == ("erase_all",)


def test_facts_that_writes_and_every_answer_share_are_suggested(store: Path, goldens: Path) -> None:
    for number, answer in enumerate(("Refund R-100 of 25.50 USD", "25.50 USD, see R-100; 9999")):
        with record(store, run_id=f"r{number}", task_id="t") as run:
            run.tool_call(
                tool_name="refund", args='{"amount":"25.50"}', result='{"id":"R-100"}', step=1
            )
            run.stopped(stop_reason="ok", answer=answer)
    pin(store, goldens, "r0", "r1")
    assert 'answer_contains: ["25.50", "R-100"]' in contract(goldens)


def test_an_imported_run_without_limits_gets_suggested_ones(store: Path, goldens: Path) -> None:
    with record(store, run_id="r", task_id="t") as run:
        run.tool_call(tool_name="get", args="{}", result="1", step=1, call_ix=0)
        run.stopped(stop_reason="ok", used_tool_calls=7)
    pin_runs(Store.open(store), ["r"], goldens, apply_drafts=True)
    assert load_task(goldens / "t" / "task.yaml").budgets == {"max_tool_calls": 14}


def test_comments_of_a_reviewer_stay_when_the_contract_is_widened(
    store: Path, goldens: Path
) -> None:
    pin(store, goldens, record_run(store, [GET], run_id="r1"))
    path = goldens / "refund-17" / "task.yaml"
    path.write_text(
        path.read_text().replace("  writes:", "  # agreed with the shop\n  writes:"), "utf-8"
    )
    budget = Budget(max_tool_calls=1, max_seconds=None)
    pin(store, goldens, record_run(store, [GET], [GET], run_id="r2", budget=budget))
    assert "  # agreed with the shop\n  writes: accepted\n" in path.read_text()
    assert "max_tool_calls" in path.read_text()


def test_a_contract_that_does_not_change_is_not_written_anew(store: Path, goldens: Path) -> None:
    pin(store, goldens, record_run(store, [GET], run_id="r1"))
    path = goldens / "refund-17" / "task.yaml"
    path.write_text(path.read_text() + "# the end  \n\n", encoding="utf-8")
    before = path.read_bytes()
    pin(store, goldens, record_run(store, [GET], run_id="r2"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("where", ["args", "result", "answer"])
def test_a_secret_stops_the_pin_with_field_and_kind_but_never_its_value(
    store: Path, goldens: Path, where: str
) -> None:
    texts = {"args": "{}", "result": "1", "answer": "done"}
    texts[where] = f'{{"note":"{SECRET}"}}'
    with (
        Recorder(store, redaction=UNREDACTED) as recorder,
        record(recorder, run_id="r", task_id="t") as run,
    ):
        run.tool_call(tool_name="get", args=texts["args"], result=texts["result"], step=1)
        run.stopped(stop_reason="ok", answer=texts["answer"])
    with pytest.raises(GoldenError, match=f", {where}: ") as caught:
        pin(store, goldens, "r")
    assert SECRET not in str(caught.value)
    assert SECRET[8:20] not in str(caught.value)
    assert not goldens.exists()


def test_pseudonyms_are_no_secrets(store: Path, goldens: Path) -> None:
    with record(store, run_id="r", task_id="t") as run:
        run.tool_call(tool_name="get", args=f'{{"key":"{SECRET}"}}', result="1", step=1)
    pin(store, goldens, "r")
    text = (goldens / "t" / "1.jsonl").read_text()
    assert SECRET not in text
    assert "<" in text


def test_a_hostile_comment_stays_one_comment() -> None:
    made = with_comments("a: 1\n", {("a",): ("x\nb: 2", "\u2028c: 3 \x1b[2J", "\x85d: 4 \ud800")})
    assert made.splitlines()[-1] == "a: 1"
    assert all(line.startswith("# ") and line.isascii() for line in made.splitlines()[:-1])
    assert made.isprintable() or "\x1b" not in made


def test_a_comment_behind_a_value_moves_above_it_when_the_file_is_written_anew() -> None:
    text = "judge:\n  # above\n  writes: accepted   # mine\n  stop_reasons:\n  - ok  # good\n"
    told = comments_of(text + 'note: "a # b"  # last\nother: a#b\n')
    assert told == {
        ("judge", "writes"): ("above", "mine"),
        ("judge", "stop_reasons", 0): ("good",),
        ("note",): ("last",),
    }
    anew = with_comments("judge:\n  writes: ignore\n  stop_reasons:\n  - ok\n", told)
    assert anew == (
        "judge:\n  # above\n  # mine\n  writes: ignore\n  stop_reasons:\n  # good\n  - ok\n# last\n"
    )
