"""Reads AgentDojo's own logs: one JSON file per task, injection and attack.

Source: ethz-spylab/agentdojo, `logging.TraceLogger` (0.1.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flightlog.integrations.importers.documents import (
    DocumentFile,
    Item,
    items_at,
    number_at,
    text_at,
)
from flightlog.integrations.importers.foreign_run import (
    ForeignRun,
    Judgement,
    ModelTurn,
    ToolTurn,
    Turn,
    after,
    microseconds,
    plain_text,
    request,
    task_message,
)
from flightlog.trace.messages import Message

FORMAT: Final = "agentdojo"
LOOKS_LIKE: Final = (
    "a log of AgentDojo: an object with suite_name, pipeline_name, user_task_id, messages"
)
_CONTEXT: Final = ("context length", "context_length", "too long")


def read(path: Path) -> DocumentFile:
    """The runs of a log, a list of logs, or one a line."""
    return DocumentFile(path, _runs, looks_like=LOOKS_LIKE)


def _runs(log: Item, where: str) -> Iterator[ForeignRun]:
    suite, pipeline, task = log["suite_name"], log["pipeline_name"], log["user_task_id"]
    injection, attack = text_at(log, "injection_task_id"), text_at(log, "attack_type")
    task_id = "/".join(one for one in (task, injection) if one)
    started_us, seconds = _started(log), number_at(log, "duration")
    system, turns = _turns(items_at(log, "messages"), pipeline)
    error = text_at(log, "error")
    asked = next((one.text for one in turns if isinstance(one, Message)), None)
    duration_ms = None if seconds is None else seconds * 1000
    secure = log.get("security")
    yield ForeignRun(
        format=FORMAT,
        source="agentdojo",
        source_run_id="/".join((pipeline, suite, task, attack or "none", injection or "none")),
        where=where,
        turns=turns,
        system=system,
        task=task_message(task_id, suite, {"prompt": asked, "attack": attack}),
        started={
            "agent": pipeline,
            "model": pipeline,
            "suite": suite,
            "task_id": task_id,
            "variant": attack,
        },
        started_us=started_us,
        ended_us=after(started_us, duration_ms),
        duration_ms=duration_ms,
        stop_reason=_stop_word(turns, error),
        stop_detail=error,
        passed=log["utility"] if isinstance(log.get("utility"), bool) else None,
        labels={} if attack is None else {"attack_type": attack},
        judgements=(Judgement("security", secure),) if isinstance(secure, bool) else (),
    )


def _started(log: Item) -> int | None:
    told = text_at(log, "evaluation_timestamp")
    return None if told is None else microseconds(told)


def _stop_word(turns: tuple[Turn, ...], error: str | None) -> str | None:
    if error is not None:
        is_full = any(word in error.lower() for word in _CONTEXT)
        return "context_length_exceeded" if is_full else "provider_error"
    last = turns[-1] if turns else None
    if last is None:
        return "empty"
    is_answer = isinstance(last, ModelTurn) and last.output and not last.output.tool_requests
    return "answered" if is_answer else "max_iterations"


def _turns(messages: list[Item], model: str) -> tuple[Message | None, tuple[Turn, ...]]:
    system: Message | None = None
    turns: list[Turn] = []
    waiting: list[tuple[Item, str]] = []
    step = 0
    for message in messages:
        role, text = message["role"], plain_text(message.get("content"))
        if role == "system" and system is None:
            system = Message("system", text).cleaned
        elif role == "assistant":
            step += 1
            calls = items_at(message, "tool_calls")
            requests = tuple(
                request(_id(call, step, ix), str(call["function"]), _args(call))
                for ix, call in enumerate(calls)
            )
            output = Message("assistant", text, requests)
            turns.append(ModelTurn(output, model=model))
            ids = {id(call): one.id for call, one in zip(calls, requests, strict=True)}
            waiting = [(call, ids[id(call)]) for call in calls]
        elif role == "tool":
            call = message["tool_call"]
            ident = next((known for one, known in waiting if one == call), None)
            waiting = [(one, known) for one, known in waiting if known != ident]
            error = text_at(message, "error")
            turns.append(
                ToolTurn(str(call["function"]), _args(call), ident, result=text, error=error)
            )
        else:
            turns.append(Message("user" if role == "user" else "system", text))
    return system, tuple(turns)


def _id(call: Item, step: int, ix: int) -> str:
    """The call's id; some models give none."""
    return text_at(call, "id") or f"m{step}.c{ix}"


def _args(call: Item) -> dict[str, Any]:
    args = call.get("args")
    return dict(args) if isinstance(args, Mapping) else {}
