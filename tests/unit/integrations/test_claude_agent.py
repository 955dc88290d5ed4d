"""The Claude Agent SDK with its own program, against a loopback server."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.integrations.claude_agent import claude_query
from flightlog.integrations.own_loop import own_loop
from flightlog.runtime.own_loop import OwnLoop
from tests.unit.integrations.frameworks import ANSWER, get_order
from tests.unit.integrations.model_server import Answer, Server, serving
from tests.unit.integrations.running import eventually

LOOK = ("toolu_1", "mcp__flightlog__get_order", '{"order_id": "A1"}')


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


async def _asked(run: OwnLoop, server: Server, home: str, **options: Any) -> list[str]:
    env = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k", "HOME": home}
    env |= {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "0"}
    messages = claude_query(
        run, "Where is A1?", model="model-a", setting_sources=[], env=env, cwd=home, **options
    )
    return [type(message).__name__ async for message in messages]


def ask(run: OwnLoop, server: Server, **options: Any) -> list[str]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        (Path(home) / "note.txt").write_text("A1 left on Monday.\n")
        return asyncio.run(_asked(run, server, home, **options))


def children() -> list[str]:
    """Programs that this process started and that have not ended."""
    mine = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    named = [Path(f"/proc/{pid}/comm") for pid in mine]
    return [one.parent.name for one in named if one.exists() and "claude" in one.read_text()]


def read(home_file: str = "note.txt") -> Answer:
    return Answer(calls=[("toolu_9", "Read", json.dumps({"file_path": home_file}))])


def test_model_calls_are_whole_though_the_sdk_tells_of_their_beginning_only(
    tmp_path: Path,
) -> None:
    with (
        serving(Answer(calls=[LOOK]), Answer(ANSWER)) as server,
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        told = ask(run, server)
    assert "StreamEvent" not in told
    first, last = rows(tmp_path, "SELECT * FROM model_calls ORDER BY seq")
    assert (first["output_tokens"], last["output_tokens"]) == (20, 20)
    assert (first["finish_reason"], last["finish_reason"]) == ("tool_call", "stop")
    assert first["provider"] == "anthropic"
    assert first["time_to_first_token_ms"] <= first["latency_ms"]


def test_tools_of_claude_code_are_denied_unless_the_policy_names_them(tmp_path: Path) -> None:
    with (
        serving(read(), Answer(ANSWER)) as server,
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        ask(run, server, tools=["Read"], allowed_tools=["Read"])
        told = str(server.bodies[1]["messages"][-1])
    assert "is not allowed" in told
    [call] = rows(tmp_path, "SELECT tool_name, outcome, error FROM tool_calls")
    assert (call["tool_name"], call["outcome"]) == ("Read", "denied")


def test_a_tool_of_claude_code_that_is_allowed_is_recorded(tmp_path: Path) -> None:
    policy = flightlog.Policy(allow=("get_order", "Read"))
    with (
        serving(read(), Answer(ANSWER)) as server,
        own_loop("desk", [get_order], store=tmp_path, policy=policy) as run,
    ):
        ask(run, server, tools=["Read"], allowed_tools=["Read"])
    [call] = rows(tmp_path, "SELECT * FROM tool_calls")
    assert (call["tool_name"], call["outcome"], call["step"]) == ("Read", "ok", 1)
    assert json.loads(call["args"])["file_path"].endswith("note.txt")
    assert "A1 left on Monday." in call["result"]
    assert rows(tmp_path, "SELECT tool_calls FROM runs") == [{"tool_calls": 1}]


@pytest.mark.parametrize("order", ["A0", "A1"], ids=["failing", "fine"])
@pytest.mark.parametrize(("bound", "requests"), [("max_steps", 2), ("max_tool_calls", 3)])
def test_a_budget_ends_the_program_before_it_asks_again(
    bound: str, requests: int, order: str, tmp_path: Path
) -> None:
    budget = flightlog.Budget(**{"max_steps": None, "max_tool_calls": None} | {bound: 2})
    policy = flightlog.Policy(allow=("get_order",), budget=budget)
    answers = [
        Answer(calls=[(f"toolu_{n}", LOOK[1], json.dumps({"order_id": order}))])
        for n in range(1, 20)
    ]
    with serving(*answers) as server:
        with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
            ask(run, server)
            pytest.fail("it went on to its end")
        assert len(server.bodies) == requests
    assert run.result is not None
    assert run.result.stop_reason == bound
    assert run.result.usage.tool_calls == 2
    assert eventually(lambda: not children())


def test_max_turns_of_the_sdk_is_max_steps(tmp_path: Path) -> None:
    with (
        serving(*[Answer(calls=[LOOK])] * 9) as server,
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        ask(run, server, max_turns=2)
        pytest.fail("it is no answer")
    assert run.result is not None
    assert run.result.stop_reason == "max_steps"


def test_an_api_that_refuses_is_model_error(tmp_path: Path) -> None:
    with (
        serving(Answer(status=400)) as server,
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        ask(run, server)
        pytest.fail("it is no answer")
    assert run.result is not None
    assert run.result.stop_reason == "model_error"
    calls = rows(tmp_path, "SELECT outcome FROM model_calls")
    assert calls == [{"outcome": "failed"}]
