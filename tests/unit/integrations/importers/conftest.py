"""One small file of each trace format, made up, and ways to import it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flightlog.integrations.importers.importing import Changes, ImportReport, import_file
from flightlog.trace.events import Event, ModelCall, ToolCall
from flightlog.trace.sink import MemorySink
from tests.unit.integrations.otlp.made_spans import agent_spans, export_request


def _ask(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


@pytest.fixture
def tau_bench_results() -> list[dict[str, Any]]:
    """A task that succeeds, and one that fails twice and never ends."""
    task = {"user_id": "ann_1", "instruction": "Cancel R1."}
    solved = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Cancel R1, please."},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [_ask("c1", "cancel", '{"id": "R1"}')],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "cancel", "content": '{"id": "R1"}'},
        {"role": "assistant", "content": "It is cancelled."},
        {"role": "user", "content": "###STOP###"},
    ]
    failed = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Book it."},
        {"role": "assistant", "content": "", "tool_calls": [_ask("c1", "book", '{"n": 1}')]},
        {"role": "tool", "tool_call_id": "c1", "name": "book", "content": "Error: no seats"},
        {"role": "assistant", "content": "", "tool_calls": [_ask("c1", "book", '{"n": 2}')]},
        {"role": "tool", "tool_call_id": "c1", "name": "book", "content": "Error: no seats"},
    ]
    return [
        {
            "task_id": 7,
            "trial": 0,
            "reward": 1.0,
            "info": {"task": task, "user_cost": 0.25, "reward_info": {"reward": 1.0}},
            "traj": solved,
        },
        {
            "task_id": 8,
            "trial": 0,
            "reward": 0.0,
            "info": {"task": task | {"user_id": "bob_2"}, "reward_info": None},
            "traj": failed,
        },
    ]


def _said(
    role: str,
    content: str | None,
    second: int,
    *,
    cost: float = 0.0,
    usage: tuple[int, int] | None = None,
    calls: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "role": role,
        "content": content,
        "tool_calls": calls,
        "timestamp": f"2025-08-01T10:00:{second:02d}.500000",
        "cost": cost,
        "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None,
        "raw_data": {"finish_reason": "tool_calls" if calls else "stop"} if usage else None,
    }


def _answered(role: str, call_id: str, content: str, second: int, **more: Any) -> dict[str, Any]:
    return {
        "role": "tool",
        "id": call_id,
        "content": content,
        "requestor": role,
        "error": False,
        "timestamp": f"2025-08-01T10:00:{second:02d}.500000",
        **more,
    }


@pytest.fixture
def tau2_simulations() -> dict[str, Any]:
    """A conversation in which the user calls a tool as well, and one that broke at once."""
    look = [{"id": "t1", "name": "get_line", "arguments": {"line": "L1"}}]
    reboot = [{"id": "t2", "name": "reboot", "arguments": {}}]
    messages = [
        _said("assistant", "Hi! How can I help?", 0),
        _said("user", "No signal.", 2, cost=0.01, usage=(100, 10)),
        _said("assistant", None, 5, cost=0.02, usage=(200, 20), calls=look),
        _answered("assistant", "t1", "Error: no line L1", 6, error=True),
        _said("assistant", "Reboot, please.", 8, cost=0.03, usage=(250, 25)),
        _said("user", None, 9, cost=0.01, usage=(120, 5), calls=reboot),
        _answered("user", "t2", "rebooted", 10),
        _said("user", "It works.", 12, cost=0.01, usage=(130, 6)),
    ]
    simulation = {
        "id": "sim-1",
        "task_id": "13",
        "trial": 0,
        "seed": 300,
        "start_time": "2025-08-01T10:00:00.000000",
        "end_time": "2025-08-01T10:00:13.000000",
        "duration": 13.0,
        "termination_reason": "user_stop",
        "agent_cost": 0.05,
        "user_cost": 0.03,
        "reward_info": {"reward": 1.0},
        "messages": messages,
    }
    broken = simulation | {
        "id": "sim-2",
        "task_id": "14",
        "termination_reason": "infrastructure_error",
        "agent_cost": None,
        "user_cost": None,
        "reward_info": None,
        "messages": [],
    }
    return {
        "timestamp": "2025-08-01T09:59:59",
        "info": {
            "git_commit": "abc",
            "agent_info": {"implementation": "llm_agent", "llm": "model-a"},
            "user_info": {"implementation": "user_simulator", "llm": "model-u"},
            "environment_info": {"domain_name": "telecom", "policy": "Help."},
        },
        "tasks": [{"id": "13", "user_scenario": "no signal"}, {"id": "14", "user_scenario": "?"}],
        "simulations": [simulation, broken],
    }


@pytest.fixture
def run_rows() -> list[dict[str, Any]]:
    """A run with everything, and one with next to nothing."""
    full = {
        "source": "elsewhere",
        "run_id": "run-1",
        "task_id": "t1",
        "task_group": "shop",
        "model": "model-a",
        "variant": "plain",
        "trial": 2,
        "success": True,
        "score": 0.5,
        "stop_reason": "answered",
        "started_at": "2025-08-01T10:00:00",
        "duration_ms": 1500.0,
        "totals": {"agent_cost_usd": 0.3, "user_cost_usd": 0.1},
        "events": [
            {"type": "user", "name": "user", "result": "Find shoes."},
            {
                "type": "model",
                "name": "model-a",
                "result": None,
                "calls": ["c0", "c0"],
                "input_tokens": 10,
                "output_tokens": 5,
                "cost_usd": 0.3,
                "latency_ms": 700.0,
                "ts": "2025-08-01T10:00:01",
                "finish_reason": "tool_calls",
            },
            {
                "type": "tool",
                "call_id": "c0",
                "name": "search",
                "args": {"q": "shoes"},
                "result": "a",
            },
            {
                "type": "tool",
                "call_id": "c0",
                "name": "stock",
                "args": {"id": 1.0},
                "result": "",
                "error": "ValueError: no such id",
            },
            {"type": "model", "name": "model-a", "result": "None left."},
        ],
    }
    bare = {
        "source": "elsewhere",
        "run_id": "run-2",
        "task_id": "t2",
        "events": [
            {
                "type": "model",
                "name": "model-a",
                "result": None,
                "calls": ["c0"],
                "input_tokens": 0,
                "output_tokens": 0,
                "cost_usd": 0.0,
            },
            {
                "type": "tool",
                "call_id": "c0",
                "name": "search",
                "args": {"q": "x"},
                "executed": False,
            },
        ],
    }
    return [full, bare]


@dataclass
class Imported:
    """What an import wrote, and its report."""

    sink: MemorySink
    report: ImportReport

    def of(self, kind: type[Event], run: int = 0) -> list[Any]:
        """The events of one kind of the run at this place in the file."""
        run_ids = list(dict.fromkeys(event.run_id for event in self.sink.events))
        return [e for e in self.sink.events if isinstance(e, kind) and e.run_id == run_ids[run]]

    def prompts(self, run: int = 0) -> list[list[str | None]]:
        """Per model call of the agent the texts (or tool names) of the messages it was sent."""
        digests: dict[int, tuple[str, ...]] = {}
        found = []
        for call in self.of(ModelCall, run):
            base = digests.get(call.prompt_base_seq, ())
            digests[call.seq] = (*base[: call.prompt_kept], *call.prompt_added)
            if call.actor == "agent":
                messages = [self.sink.messages[digest] for digest in digests[call.seq]]
                found.append([m.text if m.text is not None else m.role for m in messages])
        return found

    def tools(self, run: int = 0) -> list[ToolCall]:
        """The tool calls of a run."""
        return self.of(ToolCall, run)


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[Any], name: str = "runs.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[..., Path]:
    def write(value: Any, name: str) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return write


@pytest.fixture
def otlp_request() -> dict[str, Any]:
    """Two traces of an agent: one that answers, and one whose tool fails."""
    return export_request([*agent_spans("a" * 32, "R1"), *agent_spans("b" * 32, "R2", fails=True)])


@pytest.fixture
def imported() -> Callable[..., Imported]:
    """Imports a file into memory."""

    def run(format_name: str, path: Path, **options: Any) -> Imported:
        sink = MemorySink()
        return Imported(sink, import_file(format_name, path, sink, changes=Changes(**options)))

    return run
