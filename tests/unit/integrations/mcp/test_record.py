"""`flightlog mcp record` between the official client and real servers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.unit.integrations.mcp.talking import (
    BAD_ZONE,
    DESK,
    TIME,
    ZONE,
    rows,
    talk,
    text_of,
    through,
)

CALLS = "SELECT * FROM tool_calls ORDER BY seq"
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "0"},
    },
}


def spoken(store: Path, *lines: dict[str, Any] | bytes, server: Any) -> tuple[list[Any], Any]:
    """What comes back to a client that says these lines and then closes its side."""
    raw = b"".join(
        one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines
    )
    command = ["-m", "flightlog", "mcp", "record", "--store", str(store), "--", *server]
    done = subprocess.run(
        [sys.executable, *command], input=raw, capture_output=True, check=False, timeout=60
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def answers_of(command: Any, lines: list[dict[str, Any]], count: int) -> set[bytes]:
    """So many lines of a server that is told these; servers answer in any order."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(json.dumps(one).encode() + b"\n" for one in lines))
        process.stdin.flush()
        found = {process.stdout.readline() for _ in range(count)}
        process.stdin.close()
        process.wait(30)
    return found


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_session_with_a_real_server_is_a_run(mode: str, tmp_path: Path) -> None:
    async def say(client: Client) -> Any:
        listed = await client.list_tools()
        good = await client.call_tool("get_current_time", ZONE)
        bad = await client.call_tool("get_current_time", BAD_ZONE)
        return listed, good, bad

    command = through("record", "--store", tmp_path, "--task", "t1", server=TIME)
    listed, good, bad = talk(command, say, mode=mode)
    assert {tool.name for tool in listed.tools} == {"get_current_time", "convert_time"}
    [run] = rows(tmp_path, "SELECT * FROM runs")
    assert (run["task_id"], run["stop_reason"], run["tool_calls"]) == ("t1", "ok", 2)
    assert run["agent"] is not None
    first, second = rows(tmp_path, CALLS)
    assert json.loads(first["result"]) == json.loads(text_of(good))
    assert json.loads(first["args"]) == ZONE
    assert (first["outcome"], second["outcome"]) == ("ok", "failed")
    assert second["error"] == text_of(bad)
    assert first["latency_ms"] > 0
    assert (first["step"], second["step"]) == (1, 2)


def test_what_the_client_gets_is_what_the_server_sent(tmp_path: Path) -> None:
    lines = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/list"},
        {"jsonrpc": "2.0", "id": 3, "method": "nobody/knows"},
    ]
    ours = [sys.executable, "-m", "flightlog", "mcp", "record", "--store", str(tmp_path), "--"]
    assert answers_of([*ours, *TIME], lines, 3) == answers_of(TIME, lines, 3)


def test_calls_beside_each_other_are_one_step(tmp_path: Path) -> None:
    import asyncio

    async def say(client: Client) -> None:
        calls = (client.call_tool("slow", {"seconds": 0.5}) for _ in range(3))
        await asyncio.gather(*calls)
        await client.call_tool("slow", {"seconds": 0})

    talk(through("record", "--store", tmp_path, server=DESK), say)
    found = [(call["step"], call["call_ix"]) for call in rows(tmp_path, CALLS)]
    assert sorted(found) == [(1, 0), (1, 1), (1, 2), (2, 0)]


def test_effects_are_what_is_declared_and_hints_where_they_are_trusted(tmp_path: Path) -> None:
    async def say(client: Client) -> None:
        await client.list_tools()
        await client.call_tool("get_order", {"order_id": "A1"})
        await client.call_tool("close_order", {"order_id": "A1"})

    for name, options, wanted in (
        ("none", (), ["unknown", "unknown"]),
        ("hints", ("--trust-hints",), ["read", "unknown"]),
        ("told", ("--effect", "get_*=read", "--effect", "close_order=write"), ["read", "write"]),
    ):
        store = tmp_path / name
        talk(through("record", "--store", store, *options, server=DESK), say)
        assert [call["effect"] for call in rows(store, CALLS)] == wanted


def test_a_server_that_dies_leaves_a_failed_call_and_a_crashed_run(tmp_path: Path) -> None:
    call = {"name": "die", "arguments": {}}
    told, done = spoken(
        tmp_path,
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        b"",
        server=("bash", "-c", f"exec {sys.executable} -c '{DESK[2]}'"),
    )
    assert 2 not in [one["id"] for one in told]
    assert done.returncode == 3
    [found] = rows(tmp_path, CALLS)
    assert (found["outcome"], found["error_type"]) == ("failed", "no_answer")


def test_a_server_that_cannot_be_started_is_a_clear_error(tmp_path: Path) -> None:
    told, done = spoken(tmp_path, HELLO, server=("no-such-server-anywhere",))
    assert told == []
    assert done.returncode == 64
    assert b"cannot be started" in done.stderr


def test_rubbish_passes_and_is_counted(tmp_path: Path) -> None:
    program = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line)"
    echo = (sys.executable, "-c", program)
    rubbish = b'no json\n[1, 2]\n{"id": []}\n{"jsonrpc": "2.0", "id": 1, "result": 5}\n\n'
    deep = b'{"method": "tools/call", "id": 1, "params": ' + b"[" * 50_000 + b"\n"
    command = ["-m", "flightlog", "mcp", "record", "--store", str(tmp_path), "--", *echo]
    shown, said = [sys.executable, *command], rubbish + deep
    done = subprocess.run(shown, input=said, capture_output=True, check=True, timeout=60)
    assert done.stdout == rubbish + deep
    assert b"were no JSON-RPC" in done.stderr


def test_a_signal_ends_the_server_and_the_run(tmp_path: Path) -> None:
    lines = [
        HELLO,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "slow", "arguments": {"seconds": 50}},
        },
    ]
    command = ["-m", "flightlog", "mcp", "record", "--store", str(tmp_path), "--", *DESK]
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(json.dumps(one).encode() + b"\n" for one in lines))
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        from tests.unit.integrations.running import eventually

        eventually(lambda: rows(tmp_path, "FROM events WHERE kind = 'run_started'"))
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    [run] = rows(tmp_path, "SELECT * FROM runs")
    assert run["stop_reason"] == "cancelled"
    [call] = rows(tmp_path, CALLS)
    assert call["error_type"] == "no_answer"


def test_what_the_client_has_seen_is_recorded_though_the_recorder_is_killed(
    tmp_path: Path,
) -> None:
    command = ["-m", "flightlog", "mcp", "record", "--store", str(tmp_path), "--", *DESK]
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def say(message: dict[str, Any]) -> None:
            assert process.stdin is not None
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()

        say(HELLO)
        process.stdout.readline()
        say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        for number in range(20):
            params = {"name": "get_order", "arguments": {"order_id": "A1"}}
            say({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})
            assert json.loads(process.stdout.readline())["id"] == number
        process.kill()
    assert len(rows(tmp_path, CALLS)) == 20


def test_secrets_in_arguments_are_not_recorded(tmp_path: Path) -> None:
    secret = "AKIAIOSFODNN7EXAMPLQ"

    async def say(client: Client) -> None:
        await client.call_tool("get_order", {"order_id": secret})

    talk(through("record", "--store", tmp_path, server=DESK), say)
    raw = b"".join(one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())
    assert secret.encode() not in raw
    assert len(rows(tmp_path, CALLS)) == 1
