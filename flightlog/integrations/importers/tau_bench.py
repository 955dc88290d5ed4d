"""Reads tau-bench result files: a JSON list of tasks with OpenAI-style messages.

Source: sierra-research/tau-bench, `tau_bench/run.py` and `historical_trajectories/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import (
    Count,
    ForeignRun,
    ModelTurn,
    ToolTurn,
    Turn,
    finite,
    plain_text,
    request,
    task_message,
)
from flightlog.integrations.importers.json_input import read_document
from flightlog.trace.canonical import digest_of
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Actor

FORMAT = "tau-bench"
LOOKS_LIKE = "a JSON list of objects with task_id, reward, info and traj (a tau-bench result file)"
_DOMAINS = ("airline", "retail")
_TRANSFER_TOOL = "transfer_to_human_agents"
_USER_STOP = "###STOP###"
_SUCCESS_TOLERANCE = 1e-6


class _Function(msgspec.Struct):
    name: str
    arguments: str | dict[str, Any] = ""


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Result(msgspec.Struct):
    task_id: int | str
    reward: float | None
    info: dict[str, Any]
    traj: list[_Message]
    trial: Count | None = None


def read(path: Path) -> list[ForeignRun]:
    """All runs of a tau-bench result file.

    Suite and model are read from a file name of the form `<model>-<domain>.json`,
    which is how the benchmark publishes its own; elsewhere they stay unknown.

    Raises:
        TraceFormatError: the file is not a tau-bench result file.
    """
    results = read_document(path, list[_Result], looks_like=LOOKS_LIKE)
    model, suite = _names_in(path)
    return [_run(result, path, ix, model, suite) for ix, result in enumerate(results)]


def _names_in(path: Path) -> tuple[str | None, str | None]:
    stem = path.name.split(".json")[0]
    for domain in _DOMAINS:
        if stem.endswith(f"-{domain}"):
            return stem.removesuffix(f"-{domain}"), domain
    return None, None


def _run(result: _Result, path: Path, ix: int, model: str | None, suite: str | None) -> ForeignRun:
    where = f"{path}: item {ix}"
    system, turns = _turns(result.traj, where, model)
    user_cost = result.info.get("user_cost")
    reward = finite(result.reward)
    source = f"tau-bench/{path.name.split('.json')[0]}"
    trial = 0 if result.trial is None else result.trial
    return ForeignRun(
        format=FORMAT,
        source=source,
        source_run_id=f"{suite}/{result.task_id}/{trial}" if suite else f"{result.task_id}/{trial}",
        # The format has no run ids, and every run of a task is called the same.
        content_digest=digest_of(json.dumps(msgspec.to_builtins(result.traj))),
        where=where,
        turns=turns,
        system=system,
        task=task_message(str(result.task_id), suite, result.info.get("task")),
        started={
            "model": model,
            "suite": suite,
            "task_id": str(result.task_id),
            "trial": result.trial,
        },
        stop_reason=_stop_reason(result),
        passed=None if reward is None else abs(reward - 1) <= _SUCCESS_TOLERANCE,
        score=reward,
        labels={} if user_cost is None else {"user_cost_usd": str(user_cost)},
    )


def _turns(
    traj: Sequence[_Message], where: str, model: str | None
) -> tuple[Message | None, tuple[Turn, ...]]:
    system: Message | None = None
    turns: list[Turn] = []
    pending: list[_ToolCall] = []
    for ix, message in enumerate(traj):
        text = plain_text(message.content)
        if message.role == "system" and ix == 0:
            system = Message("system", text).cleaned
        elif message.role == "user":
            turns.append(ModelTurn(Message("user", text), actor=Actor.USER))
        elif message.role == "assistant":
            pending = list(message.tool_calls or ())
            requests = tuple(
                request(call.id, call.function.name, call.function.arguments) for call in pending
            )
            turns.append(ModelTurn(Message("assistant", text, requests), model=model))
        elif message.role == "tool":
            turns.append(_tool_turn(message, text, pending, f"{where}, message {ix}"))
        else:
            raise TraceFormatError(
                f"unknown message role {message.role!r}",
                where=f"{where}, message {ix}",
                hint="tau-bench writes system, user, assistant and tool. Nothing was imported.",
            )
    return system, tuple(turns)


def _tool_turn(
    message: _Message, text: str | None, pending: list[_ToolCall], where: str
) -> ToolTurn:
    # Ids repeat within a run, so an answer belongs to the oldest open request of its id.
    call = next((c for c in pending if c.id == message.tool_call_id), None)
    if call is None:
        raise TraceFormatError(
            f"a tool answer to {message.tool_call_id!r}, which the message before did not ask for",
            where=where,
            hint="The file is not as tau-bench wrote it. Nothing was imported.",
        )
    pending.remove(call)
    return ToolTurn(
        name=call.function.name,
        args=call.function.arguments,
        call_id=call.id,
        result=text,
        error=text if text is not None and text.startswith("Error") else None,
    )


def _stop_reason(result: _Result) -> str | None:
    if result.info.get("reward_info") is None:
        return "max_steps"
    calls = [call for message in result.traj for call in message.tool_calls or ()]
    if any(call.function.name == _TRANSFER_TOOL for call in calls):
        return "agent_transfer"
    users = [message for message in result.traj if message.role == "user"]
    if users and _USER_STOP in (plain_text(users[-1].content) or ""):
        return "user_stop"
    return None
