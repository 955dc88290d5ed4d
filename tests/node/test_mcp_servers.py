"""Real MCP servers in JavaScript behind the recorder and behind the guard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.unit.integrations.mcp.talking import rows, talk, text_of, through


def server(node: Path, name: str, *arguments: object) -> tuple[str, ...]:
    """A server's command."""
    return (str(node / "node_modules" / ".bin" / f"mcp-server-{name}"), *map(str, arguments))


SAYS: dict[str, Sequence[tuple[str, dict[str, Any]]]] = {
    "filesystem": (
        ("read_text_file", {"path": "{folder}/a.txt"}),
        ("read_text_file", {"path": "/etc/passwd"}),
    ),
    "memory": (
        (
            "create_entities",
            {"entities": [{"name": "A1", "entityType": "order", "observations": ["open"]}]},
        ),
        ("search_nodes", {"query": "A1"}),
    ),
    "everything": (("echo", {"message": "hello"}), ("get-sum", {"a": 2, "b": 3})),
    "git": (
        ("git_status", {"repo_path": "{folder}"}),
        ("git_status", {"repo_path": "/nowhere"}),
    ),
}


@pytest.mark.parametrize("how", ["record", "guard"])
@pytest.mark.parametrize("name", SAYS)
def test_a_real_server_answers_through_us_as_it_does_straight(
    name: str, how: str, node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tmp_path / "files", tmp_path / "store"
    folder.mkdir()
    (folder / "a.txt").write_text("shipped")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    monkeypatch.setenv("MEMORY_FILE_PATH", str(tmp_path / "memory.json"))
    given = {"filesystem": (folder,), "everything": ("stdio",)}.get(name, ())
    command = server(node, name, *given)
    if name == "git":
        command = (sys.executable, "-m", "mcp_server_git", "--repository", str(folder))
    calls = [
        (tool, {key: _filled(value, folder) for key, value in args.items()})
        for tool, args in SAYS[name]
    ]

    async def say(client: Client) -> Any:
        listed = [tool.name for tool in (await client.list_tools()).tools]
        return listed, [await client.call_tool(tool, args) for tool, args in calls]

    options: tuple[object, ...] = ("--effect", "*=read")
    if how == "guard":
        config = tmp_path / "flightlog.yaml"
        config.write_text("tools: {allow: ['*']}\nwrites: {require_approval: false}\n")
        options += ("--config", config)
    listed, told = talk(through(how, "--store", store, *options, server=command), say)
    assert {tool for tool, _ in calls} <= set(listed)
    found = rows(store, "SELECT * FROM tool_calls ORDER BY seq")
    assert [call["tool_name"] for call in found] == [tool for tool, _ in calls]
    failed = [bool(one.is_error) for one in told]
    assert failed == [False, name in ("filesystem", "git")]
    assert [call["outcome"] != "ok" for call in found] == failed
    assert all(call["result"] for call, bad in zip(found, failed, strict=True) if not bad)
    if name == "everything":
        assert text_of(told[1]) == "The sum of 2 and 3 is 5."


def _filled(value: Any, folder: Path) -> Any:
    return value.format(folder=folder) if isinstance(value, str) else value
