"""`flightlog mcp replay`: a golden task as an MCP server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.unit.integrations.mcp.talking import DESK, rows, talk, text_of, through

A1 = {"order_id": "A1"}
EFFECTS = ("--effect", "get_order=read", "--effect", "close_order=write")


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A golden task out of a session with a real server: read, write, read again, and an error."""
    folder = tmp_path_factory.mktemp("recorded")
    store, goldens = folder / "store", folder / "goldens"

    async def say(client: Client) -> list[str]:
        await client.list_tools()
        told = [await client.call_tool("get_order", A1), await client.call_tool("close_order", A1)]
        told.append(await client.call_tool("get_order", A1))
        told.append(await client.call_tool("get_order", {"order_id": "B2"}))
        return [text_of(one) for one in told]

    command = through("record", "--store", store, "--task", "t1", *EFFECTS, server=DESK)
    assert len(talk(command, say)) == 4
    [run] = rows(store, "SELECT run_id FROM runs")
    pin = ["golden", "pin", run["run_id"], "--store", str(store), "--goldens", str(goldens)]
    subprocess.run([sys.executable, "-m", "flightlog", *pin], check=True, timeout=60)
    return goldens


def state_of(result: Any) -> Any:
    """What the tool told of the order's state."""
    return (result.structured_content or {}).get("state")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_golden_answers_as_its_recording_did_in_the_same_state(
    mode: str, goldens: Path, tmp_path: Path
) -> None:
    async def say(client: Client) -> Any:
        names = {tool.name for tool in (await client.list_tools()).tools}
        before = await client.call_tool("get_order", A1)
        closed = await client.call_tool("close_order", A1)
        after = await client.call_tool("get_order", A1)
        missing = await client.call_tool("get_order", {"order_id": "B2"})
        return names, before, missing, closed, after

    command = through("replay", "t1", "--goldens", goldens, "--store", tmp_path)
    names, before, missing, closed, after = talk(command, say, mode=mode)
    assert {"get_order", "close_order"} <= names
    assert (state_of(before), text_of(closed), state_of(after)) == ("open", "closed", "closed")
    assert missing.is_error
    assert text_of(missing) == "Error executing tool get_order"
    [run] = rows(tmp_path, "SELECT * FROM runs")
    assert (run["origin"], run["golden"], run["stop_reason"]) == ("replay", "t1", "ok")
    served = rows(tmp_path, "SELECT DISTINCT served_how FROM tool_calls")
    assert served == [{"served_how": "recorded"}]


def test_a_call_that_nobody_recorded_is_a_miss_and_ends_the_run(
    goldens: Path, tmp_path: Path
) -> None:
    async def say(client: Client) -> Any:
        missed = await client.call_tool("close_order", {"order_id": "Z9"})
        return missed, await client.call_tool("get_order", A1)

    command = through("replay", "t1", "--goldens", goldens, "--store", tmp_path)
    missed, late = talk(command, say)
    assert missed.is_error
    assert late.is_error
    assert "replay_miss" in text_of(late)
    [run] = rows(tmp_path, "SELECT stop_reason FROM runs")
    assert run["stop_reason"] == "replay_miss"


def test_after_a_miss_the_run_may_go_on_where_that_is_asked_for(
    goldens: Path, tmp_path: Path
) -> None:
    async def say(client: Client) -> Any:
        missed = await client.call_tool("get_order", {"order_id": "Z9"})
        return missed, await client.call_tool("get_order", A1)

    options = ("--on-miss", "error")
    command = through("replay", "t1", "--goldens", goldens, "--store", tmp_path, *options)
    missed, found = talk(command, say)
    assert missed.is_error
    assert state_of(found) == "open"


def test_a_golden_that_is_not_there_is_a_clear_error(goldens: Path, tmp_path: Path) -> None:
    command = ["mcp", "replay", "t2", "--goldens", str(goldens), "--store", str(tmp_path)]
    shown = [sys.executable, "-m", "flightlog", *command]
    done = subprocess.run(shown, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 64
    assert "'t2'" in done.stderr
    assert "t1" in done.stderr
