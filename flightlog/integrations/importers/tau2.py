"""Reads tau2-bench simulation files: info, tasks and simulations in one JSON document.

Source: sierra-research/tau2-bench, `src/tau2/data_model/simulation.py`.
"""

from __future__ import annotations

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
    microseconds,
    plain_text,
    request,
    task_message,
)
from flightlog.integrations.importers.json_input import read_document
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Actor

FORMAT = "tau2"
LOOKS_LIKE = "a JSON object with info, tasks and simulations (a tau2-bench simulation file)"
_SUCCESS_TOLERANCE = 1e-6


class _Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class _ToolCall(msgspec.Struct):
    name: str
    arguments: Any = None
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    tool_calls: list[_ToolCall] | None = None
    timestamp: str | None = None
    cost: float | None = None
    usage: _Usage | None = None
    raw_data: dict[str, Any] | None = None
    id: str | None = None
    requestor: str | None = None
    error: bool = False


class _Reward(msgspec.Struct):
    reward: float | None = None


class _Simulation(msgspec.Struct):
    id: str
    task_id: int | str
    messages: list[_Message]
    termination_reason: str | None = None
    trial: Count | None = None
    seed: int | None = None
    start_time: str | None = None
    end_time: str | None = None
    duration: float | None = None
    agent_cost: float | None = None
    user_cost: float | None = None
    reward_info: _Reward | None = None


class _Party(msgspec.Struct):
    implementation: str | None = None
    llm: str | None = None


class _Environment(msgspec.Struct):
    domain_name: str | None = None
    policy: str | None = None


class _Info(msgspec.Struct):
    agent_info: _Party
    user_info: _Party
    environment_info: _Environment
    git_commit: str | None = None


class _File(msgspec.Struct):
    info: _Info
    simulations: list[_Simulation]
    tasks: list[dict[str, Any]] = []


def read(path: Path) -> list[ForeignRun]:
    """All runs of a tau2 simulation file.

    Raises:
        TraceFormatError: the file is not a tau2 simulation file.
    """
    file = read_document(path, _File, looks_like=LOOKS_LIKE)
    suite = file.info.environment_info.domain_name
    tasks = {
        str(task["id"]): task_message(str(task["id"]), suite, task)
        for task in file.tasks
        if "id" in task
    }
    return [
        _run(simulation, file.info, tasks, path, ix)
        for ix, simulation in enumerate(file.simulations)
    ]


def _run(
    simulation: _Simulation, info: _Info, tasks: dict[str, Message | None], path: Path, ix: int
) -> ForeignRun:
    where = f"{path}: simulations[{ix}]"
    reward = finite(simulation.reward_info.reward) if simulation.reward_info else None
    duration = finite(simulation.duration)
    labels = {
        "user_cost_usd": simulation.user_cost,
        "seed": simulation.seed,
        "git_commit": info.git_commit,
        "user_model": info.user_info.llm,
    }
    try:
        greeting = _is_greeting(simulation.messages)
        return ForeignRun(
            format=FORMAT,
            source=f"tau2/{path.name.split('.json')[0]}",
            source_run_id=simulation.id,
            where=where,
            turns=_turns(simulation.messages, info, where, has_greeting=greeting),
            started={
                "agent": info.agent_info.implementation,
                "model": info.agent_info.llm,
                "suite": info.environment_info.domain_name,
                "task_id": str(simulation.task_id),
                "trial": simulation.trial,
                "variant": info.agent_info.implementation,
            },
            task=tasks.get(str(simulation.task_id)),
            started_us=microseconds(simulation.start_time),
            ended_us=microseconds(simulation.end_time),
            duration_ms=None if duration is None else finite(duration * 1000),
            stop_reason=simulation.termination_reason,
            passed=None if reward is None else abs(reward - 1) <= _SUCCESS_TOLERANCE,
            score=reward,
            source_cost_usd=finite(simulation.agent_cost),
            labels={key: str(value) for key, value in labels.items() if value is not None}
            | ({"greeting": "canned"} if greeting else {}),
        )
    except ValueError as error:
        raise TraceFormatError(
            f"a time that is not ISO 8601: {error}", where=where, hint="Nothing was imported."
        ) from error


def _is_greeting(messages: Sequence[_Message]) -> bool:
    """True when the first message is the agent's fixed opening, which no model wrote."""
    first = messages[0] if messages else None
    return (
        first is not None
        and first.role == "assistant"
        and not first.tool_calls
        and first.usage is None
        and not first.raw_data
    )


def _turns(
    messages: Sequence[_Message], info: _Info, where: str, *, has_greeting: bool
) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    calls: dict[str | None, _ToolCall] = {}
    previous_us: int | None = None
    for ix, message in enumerate(messages):
        at_us = microseconds(message.timestamp)
        # The messages carry no durations; queueing is therefore included.
        latency_ms = None if at_us is None or previous_us is None else (at_us - previous_us) / 1000
        previous_us = at_us
        text = plain_text(message.content)
        if message.role in ("assistant", "user"):
            calls.update({call.id: call for call in message.tool_calls or ()})
            turn = _model_turn(message, text, info, at_us, latency_ms)
            is_greeting = has_greeting and ix == 0
            turns.append(turn.output if is_greeting and turn.output else turn)
        elif message.role == "tool" and message.id in calls:
            call = calls[message.id]
            turns.append(
                ToolTurn(
                    name=call.name,
                    args=call.arguments or {},
                    call_id=call.id,
                    actor=_actor(message.requestor),
                    result=text,
                    error=(text or "error") if message.error else None,
                    at_us=at_us,
                    latency_ms=latency_ms,
                )
            )
        else:
            raise TraceFormatError(
                f"a message of role {message.role!r} that answers nothing (id {message.id!r})",
                where=f"{where}.messages[{ix}]",
                hint="The file is not as tau2 wrote it. Nothing was imported.",
            )
    return tuple(turns)


def _model_turn(
    message: _Message,
    text: str | None,
    info: _Info,
    at_us: int | None,
    latency_ms: float | None,
) -> ModelTurn:
    usage = message.usage or _Usage()
    finish = (message.raw_data or {}).get("finish_reason")
    actor = _actor(message.role)
    return ModelTurn(
        output=Message(
            message.role,
            text,
            tuple(request(call.id, call.name, call.arguments) for call in message.tool_calls or ()),
        ),
        actor=actor,
        model=(info.agent_info if actor is Actor.AGENT else info.user_info).llm,
        at_us=at_us,
        latency_ms=latency_ms,
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        # Without usage no price was worked out either; the field then holds a filler.
        cost_usd=finite(message.cost) if message.usage else None,
        finish_reason=finish if isinstance(finish, str) else None,
    )


def _actor(role: str | None) -> Actor:
    return Actor.USER if role == "user" else Actor.AGENT
