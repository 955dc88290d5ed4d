"""`flightlog doctor`: what it finds, in which order, and when it is content."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.health import KINDS, examine
from flightlog.cli import run
from flightlog.control.approval import WriteRequest
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.control import Control
from flightlog.recorder.layout import Layout
from flightlog.recorder.life.pending import Column, new_pending, save_pending
from flightlog.recorder.manifest import sealing_lock
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import Gap, RunStarted, StateChanged
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect

KEY = "k" * 8
READERS = ".readers"
"""Whoever reads a store holds it."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that nothing is wrong with."""
    path = tmp_path / "store"
    with record(path, agent="a", task_id="t1") as writer:
        writer.tool_intent(step=1, call_ix=0, tool_name="pay", effect="write", args={"usd": 1})
        writer.tool_call(step=1, call_ix=0, tool_name="pay", effect="write", args={"usd": 1})
    return path


def wait_until_sealed(store: Path) -> None:
    """A process beside the recording seals what was closed."""
    until_s = time.monotonic() + 60
    while verify_store(Store.open(store)).unsealed_events:
        assert time.monotonic() < until_s, "nothing was sealed"
        time.sleep(0.01)
    with sealing_lock(Store.open(store).layout):
        pass  # its manifest is written, too


def doctor(store: Path, *argv: str) -> int:
    return run(["doctor", "--store", str(store), "--min-free", "0", *argv])


def found(store: Path, **options: Any) -> list[str]:
    return [one.kind for one in examine(store, **{"min_free_bytes": 0, **options})]


def leave_in_doubt(store: Path, run_id: str = "r1") -> None:
    with Recorder(store) as recorder:
        writer = RunWriter.with_system_clock(recorder, run_id)
        writer.started(agent="a")
        writer.tool_intent(
            step=2, call_ix=0, tool_name="pay", effect="write", args={"usd": 7}, idempotency_key=KEY
        )
        writer.stopped(stop_reason="cancelled", status="stopped")


def test_a_healthy_store_is_ok_and_is_not_touched(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert doctor(store) == 0
    printed = capsys.readouterr()
    assert printed.out == f"ok: nothing is wrong with {store}\n"
    assert printed.err == ""
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    assert {path: at for path, at in after.items() if path.name != READERS} == before


def test_no_store_is_a_usage_error(tmp_path: Path) -> None:
    assert doctor(tmp_path / "nothing") == 64
    assert not (tmp_path / "nothing").exists()


def test_writes_in_doubt_come_first_with_all_that_one_needs_to_settle_them(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Recorder(store) as recorder:
        recorder.emit(Gap(run_id="", seq=0, dropped_events=3, detail="disk full"))
    leave_in_doubt(store)
    assert doctor(store) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"2 findings in {store}", "Writes in doubt: 1"]
    assert 'pay({"usd":7}), run r1, step 2, call 0: the run ended (cancelled)' in lines[2]
    assert f"key {KEY}" in lines[3]
    assert "flightlog doctor settle r1 2 0 --done|--not-done --why WHY" in lines[3]
    assert doctor(store, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    first = told["findings"][0]
    assert (told["healthy"], first["kind"]) == (False, "write_in_doubt")
    assert first["details"]["idempotency_key"] == KEY
    assert first["details"]["tool_name"] == "pay"
    assert first["at"].endswith("Z")


@pytest.mark.parametrize("is_done", [True, False])
def test_a_settled_write_is_told_no_more(
    store: Path, is_done: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_in_doubt(store)
    verdict = "--done" if is_done else "--not-done"
    argv = ["settle", "r1", "2", "0", verdict, "--why", "asked the bank", "--who", "ana"]
    assert run(["doctor", *argv, "--store", str(store)]) == 0
    assert capsys.readouterr().out == (
        f"{'done' if is_done else 'not done'}: pay of run r1, attempt 1\n"
    )
    assert doctor(store) == 0
    with Traces(store) as traces:
        [row] = traces.rows("SELECT * FROM writes WHERE run_id = 'r1'")
        [event] = traces.rows("SELECT * FROM events WHERE subject = 'write'")
    assert row["state"] == ("done" if is_done else "not_done")
    assert row["why"] == "settled by ana: asked the bank"
    assert (event["run_id"], event["state_from"], event["detail"]) == (
        "r1",
        "in_doubt",
        "by ana: asked the bank",
    )
    assert event["at"] is not None


def test_the_store_may_stand_before_settle_too(store: Path) -> None:
    leave_in_doubt(store)
    argv = ["settle", "r1", "2", "0", "--done", "--why", "seen"]
    assert run(["doctor", "--store", str(store), *argv]) == 0
    assert doctor(store) == 0


@pytest.mark.parametrize(
    "argv",
    [
        ["r1", "2", "0", "--done"],
        ["r1", "2", "0", "--why", "x"],
        ["r1", "2", "0", "--done", "--why", " "],
        ["r1", "two", "0", "--done", "--why", "x"],
        ["r1", "2", "7", "--done", "--why", "x"],
        ["r9", "2", "0", "--done", "--why", "x"],
    ],
)
def test_settling_wants_a_verdict_a_reason_and_a_write_in_doubt(
    store: Path, argv: list[str]
) -> None:
    leave_in_doubt(store)
    assert run(["doctor", "settle", *argv, "--store", str(store)]) == 64
    assert found(store) == ["write_in_doubt"]


def test_a_settling_that_cannot_be_recorded_is_no_settling(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_in_doubt(store)
    shutil.rmtree(store / "journal")
    (store / "journal").write_text("no folder")
    argv = ["settle", "r1", "2", "0", "--done", "--why", "seen", "--store", str(store)]
    assert run(["doctor", *argv]) == 64
    assert "not settled" in capsys.readouterr().err
    (store / "journal").unlink()
    assert found(store) == ["write_in_doubt"]


def damage(store: Path) -> None:
    [segment] = store.glob("events/*/*.parquet")
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.write_bytes(raw)


def leave_gap(store: Path) -> None:
    with Recorder(store) as recorder:
        recorder.emit(Gap(run_id="", seq=0, at=1, dropped_events=3, detail="disk full"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def die(store: Path) -> None:
    child = os.fork()
    if child == 0:
        Recorder(store).emit(RunStarted(run_id="died", seq=0))
        os._exit(0)
    os.waitpid(child, 0)


def quarantine(store: Path) -> None:
    (store / "quarantine" / "x.damaged").write_bytes(b"?")


def switch(store: Path) -> None:
    assert run(["kill", "on", "--why", "outage", "--store", str(store)]) == 0


def trip(store: Path) -> None:
    control = Control.at(store)
    policy = BreakerPolicy(failure_rate=0.5, min_calls=1, window_s=60, open_s=30)
    control.breakers.report("pay", policy, time.time(), failed=True, is_probe=False)
    control.close()


def ask(store: Path, *, valid_s: float = 1e9) -> None:
    control = Control.at(store)
    write = WriteRequest.of("pay", {"usd": 1}, effect=Effect.WRITE, run_id="r", step=1)
    control.approvals.ask(write, time.time(), valid_s=valid_s)
    control.close()


def open_to_all(store: Path) -> None:
    (store / "events").chmod(0o777)


def be_ahead(store: Path) -> None:
    with Recorder(store) as recorder:
        ahead_us = round((time.time() + 7200) * 1e6)
        recorder.emit(StateChanged(run_id="", seq=0, at=ahead_us, subject="guard"))


def interrupt_an_erasure(store: Path) -> None:
    names: list[tuple[Column, str]] = [("data_subject", "ann")]
    save_pending(Layout(store), new_pending("erase", names=names))


def spoil_a_pin(store: Path) -> None:
    (store / "pins").mkdir()
    (store / "pins" / "x.json").write_text("?")


def spoil_a_removal(store: Path) -> None:
    (store / "pending").mkdir()
    (store / "pending" / "x.json").write_text("?")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("spoil", "kinds", "text"),
    [
        (damage, ["damage"], "the bytes are not those that were sealed"),
        (interrupt_an_erasure, ["removal"], "an erasure was begun and is not finished"),
        (spoil_a_pin, ["damage"], "x.json: the pin cannot be read"),
        (spoil_a_removal, ["damage"], "x.json: the record of a removal cannot be read"),
        (leave_gap, ["gap"], "3 events dropped: disk full"),
        (die, ["unsealed"], "1 journal of dead or closed writers"),
        (quarantine, ["quarantine"], "x.damaged: a damaged part of a journal"),
        (switch, ["kill_switch"], "the kill switch is on: configured for all runs"),
        (trip, ["breaker"], "the breaker of 'pay' is open"),
        (ask, ["approval"], "waits for a decision until"),
        (open_to_all, ["unreadable", "permissions"], "everybody may write to"),
        (be_ahead, ["clock"], "ahead of this machine's clock"),
    ],
)
def test_what_is_wrong_is_told(
    store: Path,
    spoil: Callable[[Path], None],
    kinds: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(store)
    capsys.readouterr()
    findings = examine(store, min_free_bytes=0)
    assert sorted({one.kind for one in findings}, key=KINDS.index) == kinds
    assert doctor(store) == 1
    assert text in capsys.readouterr().out


def test_an_erasure_that_waits_for_a_living_process_is_told_until_it_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store"
    with Recorder(path) as recorder:
        RunWriter.with_system_clock(recorder, "r").started(agent="a", data_subject="ann")
        assert run(["erase", "--subject", "ann", "--store", str(path)]) == 2
        assert found(path) == ["removal"]
        assert doctor(path) == 1
        assert "waits for 1 journal of living processes" in capsys.readouterr().out
    assert run(["seal", "--store", str(path)]) == 0
    assert "removal" not in found(path)


def test_a_damaged_segment_is_told_once(store: Path) -> None:
    for segment in store.glob("events/*/*.parquet"):
        os.truncate(segment, 100)
    assert found(store).count("damage") == 1


def test_a_file_of_another_owner_is_told(store: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    [segment] = store.glob("events/*/*.parquet")
    os.chown(segment, 65_534, -1)
    assert found(store) == ["permissions"]


def test_low_disk_space_is_told(store: Path) -> None:
    assert found(store, min_free_bytes=1e30) == ["disk_space"]
    assert run(["doctor", "--store", str(store), "--min-free", "1000000000TB"]) == 1


def test_since_leaves_out_what_is_past(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_gap(store)
    quarantine(store)
    old_s = time.time() - 90 * 86_400
    os.utime(store / "quarantine" / "x.damaged", (old_s, old_s))
    ask(store, valid_s=-1.0)
    assert found(store) == ["gap", "quarantine", "approval"]
    assert doctor(store, "--since", "7d") == 1  # the approval expired a second ago
    assert "expired undecided" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_run_without_an_end_that_no_process_records_is_told_with_its_writes(
    store: Path, tmp_path: Path
) -> None:
    """As in a store that somebody copied file by file while it was recorded."""
    copy = tmp_path / "copy"
    with Recorder(store, seal_at_bytes=1) as recorder:
        writer = RunWriter(recorder, "r2")
        writer.started()
        writer.tool_intent(step=1, call_ix=0, tool_name="pay", effect="write")
        writer.tool_call(step=1, call_ix=1, tool_name="look", effect="read", result="x" * 5_000)
        assert found(store) == []  # it goes on
        wait_until_sealed(store)
        shutil.copytree(store, copy)
        for journal in (copy / "journal").iterdir():
            journal.unlink()
        writer.stopped()
    assert found(copy) == ["write_in_doubt", "run_without_end"]


def test_every_finding_says_what_to_do_and_is_harmless_on_a_terminal(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Recorder(store) as recorder:
        writer = RunWriter(recorder, "r\x1b[2J")
        writer.started()
        evil = "\x1b]0;x\x07\u202e"
        writer.tool_intent(step=1, call_ix=0, tool_name=evil, effect="write", args={evil: evil})
        writer.stopped()
    findings = examine(store, min_free_bytes=0)
    assert all(one.do and one.what for one in findings)
    assert doctor(store) == 1
    assert not set("\x1b\x07\u202e") & set(capsys.readouterr().out)


def test_commands_leave_no_finding_of_an_unsealed_journal(store: Path) -> None:
    for word in ("on", "off"):
        assert run(["kill", word, "--store", str(store)]) == 0
    assert len(Store.open(store).layout.journal_files()) == 2
    assert found(store) == []
