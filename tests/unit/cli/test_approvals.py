"""`flightlog approvals`: shows what is decided, decides once, and records who decided."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.control.approval import Approval, ApprovalState, WriteRequest
from flightlog.control.control import Control
from flightlog.recorder.recorder import Recorder
from flightlog.trace.vocab import Effect

HOSTILE = "\x1b[2J\x1b]0;title\x07\r\n\u202eevil\u2066\u200b\u200d\u3164\x9b1m\x7f"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    Recorder(path).close()
    return path


def ask(
    store: Path, args: Any = None, *, valid_s: float = 3600, ago_s: float = 0, **changed: Any
) -> Approval:
    fields: dict[str, Any] = {
        "tool": "refund",
        "effect": Effect.WRITE,
        "run_id": "run-1",
        "step": 3,
        "agent": "shop",
        "tenant": "acme",
        "task_id": "refund-1",
        "task_digest": "d1",
        **changed,
    }
    write = WriteRequest.of(args={"order_id": "A1"} if args is None else args, **fields)
    control = Control.at(store)
    asked = control.approvals.ask(write, time.time() - ago_s, valid_s=valid_s)
    control.close()
    return asked


def state_of(store: Path, asked: Approval) -> Approval:
    control = Control.at(store)
    found = control.approvals.get(asked.id, time.time())
    control.close()
    assert found is not None
    return found


def approvals(store: Path, *argv: str) -> int:
    return run(["approvals", *argv, "--store", str(store)])


def test_an_approval_shows_the_write_decides_it_and_is_an_event(
    store: Path, capsys: Captured
) -> None:
    asked = ask(store)
    assert approvals(store, "approve", asked.id[:4], "--who", "ann", "--why", "checked") == 0
    shown, decided = capsys.readouterr().out.split("approved ")
    for text in ("refund (write)", "shop", "acme", "refund-1", "run-1, step 3", '"order_id": "A1"'):
        assert text in shown
    assert asked.write.args_digest in shown
    assert decided.startswith(f"{asked.id}, by ann; one run can use it until 20")
    found = state_of(store, asked)
    assert (found.state, found.decided_by, found.why) == (ApprovalState.APPROVED, "ann", "checked")
    with Traces(store) as traces:
        rows = traces.sql(
            "SELECT run_id, subject, tool_name, state_from, state_to, detail FROM events"
        ).fetchall()
    detail = (
        f"approval {asked.id} of run run-1, step 3, arguments {asked.write.args_digest}, "
        "by ann: checked"
    )
    assert rows == [("", "approval", "refund", "pending", "approved", detail)]


def test_a_denial_is_recorded_with_who_runs_the_command(store: Path) -> None:
    asked = ask(store)
    assert approvals(store, "deny", asked.id) == 0
    found = state_of(store, asked)
    assert found.state is ApprovalState.DENIED
    assert "@" in (found.decided_by or "")


@pytest.mark.parametrize("first", ["approve", "deny"])
@pytest.mark.parametrize("second", ["approve", "deny"])
def test_a_second_decision_is_exit_64_and_changes_nothing(
    store: Path, capsys: Captured, first: str, second: str
) -> None:
    asked = ask(store)
    assert approvals(store, first, asked.id, "--who", "ann") == 0
    before = state_of(store, asked)
    assert approvals(store, second, asked.id, "--who", "bob") == 64
    assert "already, by ann" in capsys.readouterr().err
    assert state_of(store, asked) == before


@pytest.mark.parametrize("option", ["--why", "--who"])
def test_a_text_that_is_too_long_for_every_reader_decides_nothing(
    store: Path, capsys: Captured, option: str
) -> None:
    asked = ask(store)
    assert approvals(store, "deny", asked.id, option, "x" * 1001) == 64
    assert f"'{option}': it has 1,001 characters, more than 1,000" in capsys.readouterr().err
    assert state_of(store, asked).state is ApprovalState.PENDING


def test_only_what_waits_is_listed_with_the_time_that_is_left(
    store: Path, capsys: Captured
) -> None:
    asked = ask(store)
    assert approvals(store, "list") == 0
    assert " in 60 min" in capsys.readouterr().out
    assert approvals(store, "deny", asked.id) == 0
    capsys.readouterr()
    assert approvals(store, "list", "--all") == 0
    assert "in 60 min" not in capsys.readouterr().out


def test_a_used_approval_cannot_be_taken_back(store: Path, capsys: Captured) -> None:
    asked = ask(store)
    assert approvals(store, "approve", asked.id) == 0
    control = Control.at(store)
    control.approvals.collect(asked.id, asked.write, time.time())
    control.close()
    assert approvals(store, "deny", asked.id) == 64
    assert "is used already, by run run-1" in capsys.readouterr().err


def test_an_expired_request_cannot_be_approved(store: Path, capsys: Captured) -> None:
    asked = ask(store, valid_s=60, ago_s=61)
    assert approvals(store, "approve", asked.id) == 64
    streams = capsys.readouterr()
    assert "has expired" in streams.err
    assert streams.out == ""
    assert state_of(store, asked).state is ApprovalState.EXPIRED


def test_an_unknown_id_is_exit_64_with_the_nearest(store: Path, capsys: Captured) -> None:
    asked = ask(store)
    near = asked.id[:-1] + ("2" if asked.id[-1] != "2" else "3")
    for command in ("approve", "deny", "show"):
        assert approvals(store, command, near) == 64
        assert f"nearest: {asked.id}" in capsys.readouterr().err


def test_a_pinned_digest_that_is_not_the_request_s_is_refused(
    store: Path, capsys: Captured
) -> None:
    asked = ask(store)
    assert approvals(store, "approve", asked.id, "--digest", "0" * 32) == 64
    assert "is for arguments" in capsys.readouterr().err
    assert state_of(store, asked).state is ApprovalState.PENDING
    assert approvals(store, "approve", asked.id, "--digest", asked.write.args_digest) == 0


def test_arguments_too_long_to_be_shown_are_approved_only_by_their_digest(
    store: Path, capsys: Captured
) -> None:
    asked = ask(store, {"amount_usd": 5, "note": "y" * 1_000_000 + "END"})
    assert approvals(store, "approve", asked.id) == 64
    streams = capsys.readouterr()
    assert f"--digest {asked.write.args_digest}" in streams.err
    assert "(cut: 4000 of 1000005 characters)" in streams.out
    assert state_of(store, asked).state is ApprovalState.PENDING
    assert approvals(store, "show", asked.id) == 0
    assert 'yEND"\n' in capsys.readouterr().out
    assert approvals(store, "list") == 0
    assert len(capsys.readouterr().out) < 2000
    assert approvals(store, "approve", asked.id, "--digest", asked.write.args_digest) == 0


def test_a_long_write_can_be_denied_unread(store: Path) -> None:
    asked = ask(store, {"note": "y" * 1_000_000})
    assert approvals(store, "deny", asked.id) == 0


@pytest.mark.parametrize("command", ["list", "show", "approve", "deny"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_hostile_text_cannot_act_on_the_terminal(
    store: Path, capsys: Captured, command: str, form: str
) -> None:
    names = dict.fromkeys(("tool", "agent", "tenant", "task_id", "task_digest", "run_id"), HOSTILE)
    asked = ask(store, {HOSTILE: [HOSTILE]}, **names)
    argv = [command] if command == "list" else [command, asked.id]
    if form == "json" and command in ("list", "show"):
        argv.append("--json")
    assert approvals(store, *argv) == 0
    shown = capsys.readouterr().out
    drawn = "─"  # of the table
    assert {char for char in shown if not " " <= char <= "~"} <= {"\n", drawn, "\x7f"}
    assert "\x7f" not in shown or form == "json"
    if form == "text":
        assert "\\u202eevil" in shown


def test_the_list_shows_what_is_open_and_all_on_demand(store: Path, capsys: Captured) -> None:
    assert approvals(store, "list") == 0
    assert capsys.readouterr().out == "no request waits\n"
    waiting, denied = ask(store), ask(store, {"n": 1})
    given, late = ask(store, {"n": 2}), ask(store, {"n": 3}, valid_s=60, ago_s=61)
    assert approvals(store, "deny", denied.id) == 0
    assert approvals(store, "approve", given.id) == 0
    capsys.readouterr()
    assert approvals(store, "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["id"], row["state"]) for row in rows} == {
        (waiting.id, "pending"),
        (given.id, "approved"),
    }
    (row,) = [row for row in rows if row["id"] == waiting.id]
    assert row["args"] == {"order_id": "A1"}
    assert row["args_digest"] == waiting.write.args_digest
    assert row["created_at"].endswith("Z")
    assert approvals(store, "list", "--all") == 0
    shown = capsys.readouterr().out
    for one, state in ((waiting, "pending"), (denied, "denied"), (late, "expired")):
        assert any(one.id in line and state in line for line in shown.splitlines())


def test_a_damaged_request_is_listed_and_never_approved(store: Path, capsys: Captured) -> None:
    asked = ask(store)
    db = sqlite3.connect(store / "control" / "state.sqlite")
    with db:
        db.execute("UPDATE approvals SET args = 'no JSON'")
    db.close()
    assert approvals(store, "list") == 0
    assert approvals(store, "list", "--json") == 0
    assert approvals(store, "show", asked.id) == 0
    capsys.readouterr()
    assert approvals(store, "approve", asked.id) == 64
    assert "was changed" in capsys.readouterr().err
    assert state_of(store, asked).state is ApprovalState.PENDING


def test_a_decision_holds_even_where_it_cannot_be_recorded(store: Path, capsys: Captured) -> None:
    asked = ask(store)
    journals = store / "journal"
    for file in journals.iterdir():
        file.unlink()
    journals.rmdir()
    journals.write_text("in the way")
    assert approvals(store, "approve", asked.id) == 0
    assert "warning: done, but not recorded in the store" in capsys.readouterr().err
    assert state_of(store, asked).state is ApprovalState.APPROVED


@pytest.mark.parametrize("argv", [["list"], ["show", "x"], ["approve", "x"], ["deny", "x"]])
def test_what_is_no_store_is_exit_64_and_nothing_is_made(
    tmp_path: Path, capsys: Captured, argv: list[str]
) -> None:
    assert approvals(tmp_path / "none", *argv) == 64
    assert "none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_looking_makes_no_file(store: Path) -> None:
    before = sorted(store.rglob("*"))
    assert approvals(store, "list") == 0
    assert approvals(store, "approve", "x") == 64
    assert sorted(store.rglob("*")) == before
