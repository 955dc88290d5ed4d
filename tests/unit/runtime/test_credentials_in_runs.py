"""Credentials in whole runs: tools get them, and neither model, result nor store ever does."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import flightlog
from flightlog import Recorder
from flightlog.errors import ConfigError, ToolError
from flightlog.recorder.blobs import read_blob
from flightlog.recorder.layout import open_layout
from flightlog.runtime.agent import Agent
from flightlog.runtime.approvers import queue_approver
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelRequest, ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.task import Task
from flightlog.runtime.tool_context import ToolContext
from flightlog.testing import FakeTool, ScriptedModel, asking, saying
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect

KEY = 'Zr8q"Lw3/nTb+é'
HELD = {"acme": {"*": {"key": KEY}}}
BASIC = base64.b64encode(f"user:{KEY}".encode()).decode()


@flightlog.tool(name="leak", effect="read", credentials=["key"])
def leak(how: str, ctx: ToolContext) -> Any:
    """Shows its credential in one way or another."""
    key = ctx.credentials["key"]
    if how == "raise":
        raise ToolError(f"401 for https://user:{key}@example.org")
    return {
        "plain": key,
        "object": {"nested": [key], key: "as a key"},
        "basic": f"Authorization: Basic {BASIC}",
        "hex": key.encode().hex(),
        "long": f"{key} in the midst of {'many words ' * 3000}{BASIC}",
    }[how]


def forms() -> list[bytes]:
    """The value as it would stand in bytes, in each encoding; of Base64 what is independent
    of what stands before."""
    raw = KEY.encode()
    inner = [base64.b64encode(b"x" * n + raw)[4:-4] for n in range(3)]
    escaped = [json.dumps(KEY)[1:-1].encode(), json.dumps(KEY, ensure_ascii=False)[1:-1].encode()]
    return [raw, raw.hex().encode(), *inner, *escaped]


def found_in(content: bytes) -> list[bytes]:
    return [form for form in forms() if form in content]


def content_of(store: Path) -> dict[str, bytes]:
    """Everything in a store: the bytes of each file, and what is inside of the packed ones."""
    content = {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    layout = open_layout(store)
    for path in store.rglob("*.parquet"):
        rows = pq.read_table(path).to_pylist()
        content[f"rows of {path}"] = json.dumps(rows, default=str, ensure_ascii=False).encode()
        for row in rows:
            for digest in filter(None, [row.get("result_blob")]):
                content[f"blob {digest}"] = read_blob(layout, digest).encode()
    return content


class Parrot:
    """A model that repeats all that it hears, in words and in the arguments of its calls."""

    name = "parrot"

    def __init__(self, *first: ModelResponse) -> None:
        self.script = list(first)
        self.heard: list[str] = []

    def complete(self, request: ModelRequest) -> ModelResponse:
        self.heard = [message.text or "" for message in request.messages]
        if self.script:
            return self.script.pop(0)
        asked = sum(len(message.tool_requests) for message in request.messages)
        if asked < 6:
            return asking(("note", {"text": self.heard[-1]}))
        return saying(" ".join(self.heard))


def play(model: Any, sink: Any, *, tools: Any = (), prompt: str = "Go.", **more: Any) -> RunResult:
    agent = Agent(
        "a",
        model,
        [leak, FakeTool("note", effect=Effect.READ), *tools],
        credentials=Credentials(HELD),
        policy=Policy(["*"], approver=more.pop("approver", approve_all)),
    )
    return run(agent, Task("t", prompt), sink=sink, context=RunContext(tenant="acme"), **more)


@pytest.mark.parametrize("how", ["plain", "object", "basic", "hex", "long", "raise"])
def test_a_value_that_a_tool_shows_reaches_neither_model_nor_result_nor_store(how, tmp_path):
    model = Parrot(asking(("leak", {"how": how})))
    with Recorder(tmp_path / "store") as recorder:
        result = play(model, recorder)
        result.writer.evaluation(name="note", passed=True, detail=f"saw {KEY}")
        unsealed = content_of(tmp_path / "store")
    assert result.stop == "ok"
    assert any("<credential:key>" in text for text in model.heard)
    for text in (*model.heard, result.answer or "", result.to_json()):
        assert found_in(text.encode()) == []
    sealed = content_of(tmp_path / "store")
    assert any("rows of" in name for name in sealed)
    assert (how == "long") == any("blob" in name for name in sealed)
    assert b"credential:key" in b"".join(unsealed.values())
    for name, content in {**unsealed, **sealed}.items():
        assert found_in(content) == [], name


def test_a_value_that_stands_in_task_prompt_and_arguments_does_not_reach_the_store(tmp_path):
    """The agent's owner put it there, so the model hears it; the trace still does not."""
    model = Parrot(asking(("note", {KEY: KEY, "list": [KEY]})), asking((KEY, f'{{"broken {KEY}')))
    tools = [FakeTool("write", effect=Effect.WRITE)]
    with Recorder(tmp_path / "store") as recorder:
        model.script.append(asking(("write", {"to": KEY})))
        result = play(
            model,
            recorder,
            tools=tools,
            prompt=f"Use {KEY}.",
            approver=queue_approver(recorder.control),
        )
    assert result.stop == "approval_pending:write"
    assert KEY in model.heard[0]
    content = content_of(tmp_path / "store")
    assert any("state.sqlite" in name for name in content)
    for name, raw in content.items():
        assert found_in(raw) == [], name


def test_digests_of_a_run_lead_to_what_is_kept():
    sink = MemorySink()
    play(Parrot(asking(("leak", {"how": "object"}))), sink, prompt=f"Use {KEY}.")
    started = sink.events[0]
    assert {started.task_digest, started.toolset_digest} <= set(sink.messages)
    calls = [event for event in sink.events if hasattr(event, "prompt_added")]
    for call in calls:
        assert {*call.prompt_added, call.output_digest} <= set(sink.messages)
    assert all(digest == message.digest for digest, message in sink.messages.items())


def test_an_async_run_is_as_tight():
    sink = MemorySink()
    agent = Agent(
        "a",
        ScriptedModel("m", [asking(("leak", {"how": "raise"})), saying("done")]),
        [leak],
        credentials=Credentials(HELD),
    )
    context = RunContext(tenant="acme")
    result = asyncio.run(run_async(agent, Task("t", "Go."), sink=sink, context=context))
    assert result.stop == "ok"
    call = next(event for event in sink.events if hasattr(event, "tool_name"))
    assert call.error == "401 for https://user:<credential:key>@example.org"


@pytest.mark.parametrize("tenant", [None, "zeta", "ACME"])
def test_a_run_of_another_tenant_is_denied_the_tool(tenant):
    sink = MemorySink()
    agent = Agent(
        "a",
        ScriptedModel("m", [asking(("leak", {"how": "plain"})), saying("done")]),
        [leak],
        credentials=Credentials(HELD),
    )
    run(agent, Task("t", "Go."), sink=sink, context=RunContext(tenant=tenant))
    call = next(event for event in sink.events if hasattr(event, "tool_name"))
    assert (call.outcome, call.error_type, call.served_how) == (
        "denied",
        "missing_credential",
        None,
    )


def test_a_variable_that_is_not_set_is_an_error_before_the_run():
    sink = MemorySink()
    held = Credentials.from_env({"acme": {"leak": {"key": {"env": "ACME_KEY"}}}}, environ={})
    agent = Agent("a", ScriptedModel("m", [saying("hi")]), [leak], credentials=held)
    with pytest.raises(ConfigError, match="ACME_KEY"):
        run(agent, Task("t", "Go."), sink=sink, context=RunContext(tenant="acme"))
    assert sink.events == []
    assert run(agent, Task("t", "Go."), context=RunContext(tenant="zeta")).stop == "ok"
