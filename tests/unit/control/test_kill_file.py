"""The file of the kill switch: what a broken one means, and that no change is missed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from flightlog.control.kill_format import MAX_BYTES, MAX_TEXT
from flightlog.control.kill_switch import KillMode, KillRule, KillSwitch, parse_mode
from flightlog.errors import StoreError, UsageError
from tests.unit.control.kill_processes import (
    switch_for_ever,
    switch_tenants,
    tell_rules,
    tell_rules_of_a_forked_child,
)
from tests.unit.control.processes import child, killed, told

STOP = KillMode.STOP_ALL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control" / "kill.json"


def turn_on(switch: KillSwitch, mode: str, *, tenant: str | None = None) -> KillRule:
    kind, tools = parse_mode(mode)
    return switch.turn_on(kind, tools=tools, tenant=tenant, who="ana", why="test", at_us=7)


def found(switch: KillSwitch, *, tool: str | None = "kb.read") -> str | None:
    rule = switch.rule_for(tenant="acme", tool=tool, is_write=False, configured="disable_writes")
    return None if rule is None else rule.text


def written(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_a_rule_written_by_hand_needs_no_more_than_a_mode(path: Path) -> None:
    written(path, '{"version": 1, "rules": [{"mode": "stop_all"}]}')
    assert KillSwitch(path).rules() == (KillRule(STOP, who="unknown", why="", at_us=None),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("{", "truncated"),
        ("off", "invalid"),
        ("[]", "array"),
        ("{}", "version"),
        ('{"version": 1}', "rules"),
        ('{"version": 2, "rules": []}', "version 2.*upgrade"),
        ('{"version": 1, "rules": [], "off": true}', "unknown field"),
        ('{"version": 1, "rules": [{"mode": "stop"}]}', "stop"),
        ('{"version": 1, "rules": [{"mode": "disable_tools"}]}', "names no tool"),
        ('{"version": 1, "rules": [{"mode": "stop_all", "tenants": "a"}]}', "unknown field"),
        ('{"version": 1, "rules": [{"mode": "stop_all", "tenant": ""}]}', "tenant is empty"),
        ('{"version": 1, "rules": [{"mode": "stop_all", "at_us": 1e30}]}', "at_us"),
        (b"\xff\xfe\x00", "."),
        (b'{"version": 1, "rules": [{"mode": "stop_all", "why": "\xff"}]}', "."),
        ("[" * 100_000, "."),
        ('{"version": 1, "x": ' + "[" * 100_000, "."),
        (" " * (MAX_BYTES + 1), "longer"),
    ],
)
def test_a_file_that_is_not_understood_stops_everything_and_says_why(
    path: Path, content: str | bytes, why: str
) -> None:
    written(path, content)
    switch = KillSwitch(path)
    [rule] = switch.rules()
    assert (rule.mode, rule.tenant) == (STOP, None)
    assert found(switch, tool=None) == "stop_all"
    assert re.search(f"cannot be understood: .*{why}", rule.why, re.IGNORECASE), rule.why


def test_a_folder_a_pipe_or_a_device_in_its_place_stops_everything(path: Path) -> None:
    path.mkdir(parents=True)
    assert found(KillSwitch(path)) == "stop_all"
    path.rmdir()
    os.mkfifo(path)
    assert found(KillSwitch(path)) == "stop_all"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert found(KillSwitch(path)) == "stop_all"
    path.unlink()
    path.symlink_to(path)
    assert found(KillSwitch(path)) == "stop_all"


def test_a_file_that_is_not_understood_is_not_loosened_by_another_rule(path: Path) -> None:
    written(path, '{"version": 2, "rules": []}')
    switch = KillSwitch(path)
    for change in (
        lambda: turn_on(switch, "disable_writes"),
        lambda: turn_on(switch, "stop_all", tenant="acme"),
        switch.turn_off,
        lambda: switch.turn_off(tenant="acme"),
    ):
        with pytest.raises(StoreError, match=r"stopped already.*version 2(.|\n)*off --all"):
            change()
    assert found(switch) == "stop_all"
    assert json.loads(path.read_text())["version"] == 2


def test_stop_all_and_off_of_everything_replace_a_file_that_is_not_understood(path: Path) -> None:
    switch = KillSwitch(path)
    written(path, "")
    rule = turn_on(switch, "stop_all")
    assert switch.rules() == (rule,)
    written(path, "")
    assert [one.text for one in switch.turn_off(everything=True)] == ["stop_all"]
    assert switch.rules() == ()


@pytest.mark.parametrize(
    "rule",
    [
        KillRule(STOP, why="x" * (MAX_TEXT + 1)),
        KillRule(STOP, tenant="\ud800"),
        KillRule(STOP, at_us=-1),
        KillRule(STOP, at_us=1 << 60),
    ],
)
def test_what_readers_would_not_understand_is_never_written(path: Path, rule: KillRule) -> None:
    switch = KillSwitch(path)
    kept = turn_on(switch, "disable_writes")
    with pytest.raises(UsageError, match="does not take this"):
        switch.put(rule)
    assert KillSwitch(path).rules() == (kept,)
    assert sorted(one.name for one in path.parent.iterdir()) == ["kill.json", "kill.lock"]


def test_every_change_is_seen_by_a_switch_that_looked_before(path: Path) -> None:
    reader, writer = KillSwitch(path), KillSwitch(path)
    modes = ["stop_all", "disable_tools:aaaaaaa", "disable_tools:bbbbbbb"]
    for turn in range(60):
        mode = modes[turn % 3]
        turn_on(writer, mode)  # the same length and, at this pace, often the same inode number
        assert [rule.text for rule in reader.rules()] == [mode]


def test_the_file_gets_later_with_every_change_even_when_the_clock_goes_back(path: Path) -> None:
    reader, writer = KillSwitch(path), KillSwitch(path)
    times = []
    for at_us in (9_000_000, 5_000_000, 5_000_000, 1):
        rule = writer.turn_on(STOP, who="ana", why="", at_us=at_us)
        assert reader.rules() == (rule,)
        times.append(path.stat().st_mtime_ns)
    assert times == sorted(set(times))


def test_an_edit_in_place_is_seen(path: Path) -> None:
    switch = KillSwitch(path)
    turn_on(switch, "disable_tools:a")
    assert found(switch, tool="b") is None
    path.write_text(path.read_text().replace('"a"', '"b"'))
    assert found(switch, tool="b") == "disable_tools:b"


def test_a_file_that_was_removed_is_off(path: Path) -> None:
    switch = KillSwitch(path)
    turn_on(switch, "stop_all")
    path.unlink()
    assert found(switch) is None


def test_what_was_stopped_stays_stopped_when_the_store_vanishes(path: Path) -> None:
    switch, other = KillSwitch(path), KillSwitch(path)
    turn_on(switch, "stop_all")
    away = path.parent.rename(path.parent.with_name("away"))
    assert found(switch) == "stop_all"
    assert found(other) is None  # never looked before
    path.parent.write_text("a file in place of the folder")
    assert found(switch) == "stop_all"
    path.parent.unlink()
    away.rename(path.parent)
    KillSwitch(path).turn_off()
    assert found(switch) is None


def test_a_store_that_vanished_is_not_made_again_by_a_switch(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "gone" / "control" / "kill.json")
    with pytest.raises(StoreError, match="cannot be changed"):
        turn_on(switch, "stop_all")
    assert not (tmp_path / "gone").exists()


def test_a_process_that_changes_its_folder_is_stopped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    switch = KillSwitch(Path("control/kill.json"))
    turn_on(switch, "stop_all")
    monkeypatch.chdir("/")
    assert found(switch) == "stop_all"


def test_readers_of_other_users_can_read_it_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        turn_on(KillSwitch(path), "stop_all")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_switch_as_it_was(path: Path) -> None:
    kept = turn_on(KillSwitch(path), "disable_writes")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from flightlog.control.kill_switch import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "KillSwitch(Path(sys.argv[1])).put(KillRule(KillMode.STOP_ALL))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert "the kill switch cannot be changed: File too large" in done.stderr
    assert "An empty file in this place stops everything" in done.stderr
    assert KillSwitch(path).rules() == (kept,)
    assert sorted(one.name for one in path.parent.iterdir()) == ["kill.json", "kill.lock"]


def test_a_leftover_of_a_killed_process_is_cleared_away(path: Path) -> None:
    path.parent.mkdir()
    leftover = path.with_name(".kill.json.0123.tmp")
    leftover.write_text("half")
    assert KillSwitch(path).rules() == ()
    turn_on(KillSwitch(path), "stop_all")
    assert not leftover.exists()


def test_a_lock_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.with_suffix(".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be changed"):
        turn_on(KillSwitch(path), "stop_all")
    assert not (tmp_path / "elsewhere").exists()


def test_a_process_that_hangs_in_a_change_is_named_and_the_switch_stays(path: Path) -> None:
    switch = KillSwitch(path)
    kept = turn_on(switch, "disable_writes")
    with path.with_suffix(".lock").open() as hanging:
        fcntl.flock(hanging, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"another process(.|\n)*fuser"):
            turn_on(KillSwitch(path, timeout_s=0.01), "stop_all")
    assert switch.rules() == (kept,)
    turn_on(switch, "stop_all")


def test_changes_of_several_processes_do_not_lose_each_other(path: Path) -> None:
    with ExitStack() as stack:
        children = [stack.enter_context(child(switch_tenants, path, name)) for name in "abc"]
        for _, pipe in children:
            assert told(pipe) == "ready"
        for _, pipe in children:
            pipe.send("go")
        for _, pipe in children:
            assert told(pipe) == "done"
    assert {rule.tenant for rule in KillSwitch(path).rules()} == {
        f"{name}{number}" for name in "abc" for number in range(0, 25, 2)
    }


def test_a_writer_killed_in_the_midst_leaves_a_whole_file_and_no_lock(path: Path) -> None:
    reader = KillSwitch(path)
    for _ in range(5):
        with child(switch_for_ever, path) as (process, pipe):
            assert told(pipe) == "ready"
            pipe.send("go")
            while not reader.rules():
                pass
            for _ in range(2000):
                assert {rule.who for rule in reader.rules()} <= {"on"}  # never a half file
            killed(process)
        turn_on(KillSwitch(path), "stop_all")
        assert [rule.who for rule in reader.rules()] == ["ana"]
        reader.turn_off()


def test_a_running_process_sees_a_change_at_its_next_look(path: Path) -> None:
    with child(tell_rules, path) as (_, pipe):
        assert told(pipe) == []
        for mode in ("stop_all", "disable_tools:a", "disable_writes"):
            turn_on(KillSwitch(path), mode)
            pipe.send("look")
            assert told(pipe) == [mode]


def test_a_forked_child_sees_the_same_file(path: Path) -> None:
    turn_on(KillSwitch(path), "disable_writes")
    with child(tell_rules_of_a_forked_child, path) as (_, pipe):
        assert told(pipe) == ["disable_writes"]
        turn_on(KillSwitch(path), "stop_all")
        pipe.send("look")
        assert told(pipe) == ["stop_all"]
        assert [rule.tenant for rule in KillSwitch(path).rules()] == [None]
        pipe.send("change")
        assert told(pipe) == ["stop_all", "disable_writes"]
    assert [rule.tenant for rule in KillSwitch(path).rules()] == [None, "of the child"]
