"""`flightlog kill`: what it says, what it records, and that it works when recording does not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillRule
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from tests.unit.cli.agent_process import run_agent
from tests.unit.control.kill_processes import tell_rules
from tests.unit.control.processes import child, told

CHANGES = """
SELECT run_id, state_from, state_to, detail, "at" = make_timestamp(seq) AS is_in_order
FROM events WHERE subject = 'kill_switch' ORDER BY seq
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with record(path, task_id="t1", variant="baseline") as writer:
        writer.tool_call(step=1, tool_name="search", args="{}", result="x")
    return path


def kill(*argv: object, store: Path) -> int:
    return run(["kill", *(str(part) for part in argv), "--store", str(store)])


def rules(store: Path) -> tuple[KillRule, ...]:
    return Control.at(store).kill_switch.rules()


def changes(store: Path) -> list[tuple[Any, ...]]:
    with Traces(store) as traces:
        return [tuple(row.values()) for row in traces.rows(CHANGES)]


def test_on_says_what_is_on_for_whom_and_why(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--mode", "disable_tools:http.*", "--tenant", "acme", "--why", "outage", "--who", "ana")
    assert kill("on", *argv, store=store) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(
        r"kill switch is on: disable_tools:http\.\* for tenant 'acme', by ana, "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: outage\n",
        printed.out,
    )
    assert printed.err == ""
    [rule] = rules(store)
    assert (rule.text, rule.tenant, rule.who, rule.why) == (
        "disable_tools:http.*",
        "acme",
        "ana",
        "outage",
    )


def test_on_without_a_mode_means_what_each_agent_says_and_who_is_the_user(store: Path) -> None:
    assert kill("on", store=store) == 0
    [rule] = rules(store)
    assert rule.text == "configured"
    assert re.fullmatch(r".+@.+", rule.who)


def test_on_again_says_what_it_takes_the_place_of(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill("on", "--mode", "disable_writes", "--who", "ana", store=store)
    capsys.readouterr()
    assert kill("on", "--mode", "stop_all", "--who", "bo", store=store) == 0
    assert re.search(
        r"on: stop_all for all runs, by bo.*\nin place of: disable_writes for all runs, by ana",
        capsys.readouterr().out,
    )


def test_off_says_what_it_ended_and_what_is_still_on(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill("on", "--mode", "stop_all", store=store)
    kill("on", "--mode", "disable_writes", "--tenant", "acme", store=store)
    capsys.readouterr()
    assert kill("off", store=store) == 0
    assert re.search(
        r"off; it was: stop_all for all runs(.|\n)*still on: disable_writes for tenant 'acme'",
        capsys.readouterr().out,
    )
    assert kill("off", "--tenant", "other", store=store) == 0
    assert "was not on for tenant 'other'\nstill on: " in capsys.readouterr().out
    assert kill("off", "--all", store=store) == 0
    assert "still on" not in capsys.readouterr().out
    assert kill("off", store=store) == 0
    assert capsys.readouterr().out == "kill switch was not on for all runs\n"
    assert rules(store) == ()


def test_status_of_a_switch_that_is_off(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kill("status", store=store) == 0
    assert capsys.readouterr().out == "kill switch is off\n"
    assert kill("status", "--json", store=store) == 0
    assert json.loads(capsys.readouterr().out) == {"is_on": False, "rules": []}


def test_status_tells_each_rule_as_text_and_as_json(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill("on", "--mode", "stop_all", "--tenant", "acme", "--who", "bo", store=store)
    kill("on", "--mode", "disable_tools:a*", "--who", "ana", "--why", "é", store=store)
    capsys.readouterr()
    assert kill("status", store=store) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("kill switch is on: disable_tools:a* for all runs, by ana, ")
    assert second.startswith("kill switch is on: stop_all for tenant 'acme', by bo, ")
    assert kill("status", "--json", store=store) == 0
    shown = json.loads(capsys.readouterr().out)
    at = shown["rules"][0].pop("at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", at)
    assert shown["is_on"] is True
    assert shown["rules"][0] == {
        "tenant": None,
        "mode": "disable_tools",
        "tools": "a*",
        "text": "disable_tools:a*",
        "who": "ana",
        "why": "é",
    }


def test_status_of_a_file_that_is_not_understood_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "control" / "kill.json").write_text("")
    assert kill("status", store=store) == 0
    assert "stop_all for all runs" in (text := capsys.readouterr().out)
    assert "cannot be understood: it is empty" in text
    assert kill("on", "--mode", "disable_writes", store=store) == 64
    assert "flightlog kill off --all" in capsys.readouterr().err
    assert kill("off", "--all", store=store) == 0
    assert rules(store) == ()


def test_hostile_text_is_escaped_wherever_it_is_shown(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2J\nkill switch is off\u202e"
    for _ in range(2):
        kill("on", "--why", hostile, "--who", hostile, "--tenant", hostile, store=store)
    kill("status", store=store)
    kill("status", "--json", store=store)
    kill("off", "--all", "--who", hostile, "--why", hostile, store=store)
    printed = capsys.readouterr()
    for shown in (printed.out, printed.err):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert not re.search(r"^kill switch is off$", printed.out, re.MULTILINE)


def test_bytes_that_are_no_text_are_kept_out_of_the_file(store: Path) -> None:
    assert kill("on", "--why", os.fsdecode(b"\xff"), store=store) == 0
    assert len(rules(store)) == 1
    assert kill("on", "--tenant", os.fsdecode(b"\xff"), store=store) == 64


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["on", "--mode", "stopall"], "nearest: stop_all"),
        (["on", "--mode", "disable_tools"], "names no tool"),
        (["on", "--tenant", ""], "tenant is empty"),
        (["on", "--why", "x" * 2000], "'--why': it has 2,000 characters, more than 1,000"),
        (["off", "--who", "x" * 2000], "'--who': it has 2,000 characters"),
        (["off", "--all", "--tenant", "acme"], "not both"),
    ],
)
def test_what_cannot_be_meant_is_exit_64_and_changes_nothing(
    store: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert kill(*argv, store=store) == 64
    assert said in capsys.readouterr().err
    assert rules(store) == ()
    assert changes(store) == []


def test_a_tenant_that_looks_like_a_glob_is_switched_by_its_name_with_a_warning(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kill("on", "--mode", "stop_all", "--tenant", "acme*", store=store) == 0
    assert "warning: a tenant is meant by its exact name" in capsys.readouterr().err
    assert [rule.tenant for rule in rules(store)] == ["acme*"]
    assert kill("on", "--mode", "disable_tools:http.*", "--tenant", "acme", store=store) == 0
    assert capsys.readouterr().err == ""


def test_on_where_no_store_is_says_that_nothing_would_have_been_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "notes.txt"):
        assert kill("on", "--mode", "stop_all", store=path) == 64
        assert "nothing would have been stopped" in capsys.readouterr().err
        for action in ("off", "status"):
            assert kill(action, store=path) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_changes_are_events_of_no_run_in_their_order(store: Path) -> None:
    kill("on", "--mode", "stop_all", "--who", "ana", "--why", "outage", store=store)
    kill("on", "--mode", "disable_writes", "--who", "ana", store=store)
    kill("on", "--mode", "disable_writes", "--who", "ana", store=store)
    kill("on", "--mode", "disable_tools:a", "--tenant", "acme", "--who", "bo", store=store)
    kill("off", "--all", "--who", "cy", "--why", "over", store=store)
    wanted = [
        ("", "off", "stop_all", "for all runs, by ana: outage", True),
        ("", "stop_all", "disable_writes", "for all runs, by ana", True),
        ("", "disable_writes", "disable_writes", "for all runs, by ana", True),
        ("", "off", "disable_tools:a", "for tenant 'acme', by bo", True),
        ("", "disable_writes", "off", "for all runs, by cy: over", True),
        ("", "disable_tools:a", "off", "for tenant 'acme', by cy: over", True),
    ]
    assert changes(store) == wanted
    seal_store(Store.open(store))
    assert changes(store) == wanted


def test_nothing_is_recorded_where_nothing_changed(store: Path) -> None:
    assert kill("off", "--all", store=store) == 0
    assert kill("status", store=store) == 0
    assert changes(store) == []


def test_changes_make_no_run_and_control_files_are_no_traces(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill("on", "--mode", "stop_all", store=store)
    for is_sealed in (False, True):
        if is_sealed:
            assert run(["seal", "--store", str(store)]) == 0
        assert run(["verify", "--store", str(store)]) == 0
        with Traces(store) as traces:
            for view in ("runs", "steps", "tool_calls", "model_calls", "messages", "budgets"):
                assert traces.rows(f"SELECT * FROM {view} WHERE run_id = ''") == []
            assert [row["stop_reason"] for row in traces.rows("SELECT * FROM runs")] == ["ok"]
            assert traces.rows("SELECT * FROM events WHERE kind='run_stopped' AND run_id=''") == []
            assert traces.problems == ()
    capsys.readouterr()
    for argv in (["runs"], ["show", "last"]):
        assert run([*argv, "--store", str(store)]) == 0
    assert "kill" not in capsys.readouterr().out
    assert len(rules(store)) == 1


def test_a_switch_that_cannot_be_recorded_is_on_all_the_same_and_says_so(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(store / "journal")
    (store / "journal").write_text("a file in place of the folder")
    assert kill("on", "--mode", "stop_all", store=store) == 0
    printed = capsys.readouterr()
    assert "kill switch is on: stop_all" in printed.out
    assert re.match("warning: .*not recorded in the store: ", printed.err)
    assert [rule.text for rule in rules(store)] == ["stop_all"]
    assert kill("off", store=store) == 0
    assert "not recorded in the store" in capsys.readouterr().err
    assert rules(store) == ()


def test_a_full_disk_that_has_room_for_the_switch_only_is_enough(store: Path) -> None:
    code = (
        "import resource, sys\nfrom flightlog.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))\n"
        "argv = ['kill', 'on', '--mode', 'stop_all', '--who', 'ana', '--store', sys.argv[1]]\n"
        "sys.exit(run(argv))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not recorded in the store: " in done.stderr
    assert "File too large" in done.stderr
    assert [rule.text for rule in rules(store)] == ["stop_all"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_what_root_makes_in_the_store_of_a_user_is_that_users(store: Path) -> None:
    for path in (store, *store.rglob("*")):
        os.chown(path, 12345, 12345)
    kill("on", "--mode", "stop_all", store=store)
    made = [*(store / "control").iterdir(), *(store / "journal").iterdir()]
    assert {path.suffix for path in made} == {".json", ".lock", ".journal"}
    assert {path.stat().st_uid for path in made} == {12345}


def test_a_running_process_is_reached_by_the_command(store: Path) -> None:
    with child(tell_rules, store / "control" / "kill.json") as (_, pipe):
        assert told(pipe) == []
        kill("on", "--mode", "stop_all", store=store)
        pipe.send("look")
        assert told(pipe) == ["stop_all"]
        kill("off", store=store)
        pipe.send("look")
        assert told(pipe) == []


def test_the_command_stops_a_running_agent_at_its_next_call(store: Path) -> None:
    with child(run_agent, store) as (_, pipe):
        for number in range(3):
            assert told(pipe) == number
            if number == 2:
                kill("on", "--mode", "stop_all", "--who", "ana", "--why", "outage", store=store)
            pipe.send("go on")
        stop, detail = told(pipe)
    assert stop == "kill_switch"
    assert "by ana: outage" in detail
    with Traces(store) as traces:
        [row] = traces.rows("SELECT stop_reason, tool_calls FROM runs WHERE agent = 'watcher'")
        assert row == {"stop_reason": "kill_switch", "tool_calls": 3}
        met = traces.rows("SELECT run_id <> '' AS in_run FROM events WHERE subject='kill_switch'")
    assert sorted(one["in_run"] for one in met) == [False, True]


def test_commands_at_once_lose_nothing_and_are_all_recorded(store: Path) -> None:
    program = [sys.executable, "-m", "flightlog.cli", "kill", "on", "--mode", "stop_all"]
    started = [
        subprocess.Popen([*program, "--tenant", f"t{number}", "--store", store])
        for number in range(6)
    ]
    assert [process.wait(60) for process in started] == [0] * 6
    tenants = [f"t{number}" for number in range(6)]
    assert sorted(rule.tenant or "" for rule in rules(store)) == tenants
    assert sorted(row[3].split("'")[1] for row in changes(store)) == tenants


def test_a_store_that_is_being_recorded_can_be_switched(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        assert kill("on", "--mode", "stop_all", store=tmp_path / "store") == 0
        rule = recorder.control.kill_switch.rule_for(
            tenant=None, tool=None, is_write=False, configured="disable_writes"
        )
        assert rule is not None
        assert rule.text == "stop_all"
    assert len(changes(tmp_path / "store")) == 1
