"""Reads trajectories of SWE-agent (`.traj`) and mini-swe-agent (`.traj.json`).

Source: SWE-agent, "Trajectory files" (1.x); mini-swe-agent, `save_traj` (1.x, 2.x).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from flightlog.integrations.importers.documents import (
    Item,
    count_at,
    items_at,
    not_of_format,
    number_at,
    text_at,
    time_at,
)
from flightlog.integrations.importers.foreign_run import ForeignRun, ModelTurn, ToolTurn, Turn
from flightlog.integrations.importers.json_input import read_document
from flightlog.integrations.messages import messages_of, text_of
from flightlog.runtime.task import Task
from flightlog.trace.canonical import digest_of
from flightlog.trace.messages import Message, ToolRequest

FORMAT: Final = "swe-agent"
LOOKS_LIKE: Final = (
    "a trajectory of SWE-agent (trajectory, info) or mini-swe-agent (messages, or a list of them)"
)
_COMMAND: Final = re.compile(r"```(?:mswea_bash_command|bash|sh)\s*\n(.*?)\n?```", re.DOTALL)
_TOOL: Final = re.compile(r"\s*([A-Za-z_][\w.-]{0,63})")
_RETURN_CODE: Final = re.compile(r"<returncode>(-?\d+)</returncode>")
_NAME: Final = re.compile(r"(.+?)(\.traj)?(\.json)?")


def read(path: Path) -> list[ForeignRun]:
    """The run of a trajectory file, or the runs of a list of trajectories.

    Raises:
        TraceFormatError: it is no trajectory of either.
    """
    document = read_document(path, Any, looks_like=LOOKS_LIKE)
    several: list[Any] = document if isinstance(document, list) else []
    try:
        if several and all(_is_trajectory(one) for one in several):
            return [_run(one, path, f"{path}: item {ix}") for ix, one in enumerate(several)]
        return [_run(document, path, str(path))]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise not_of_format(f"{type(error).__name__}: {error}", str(path), LOOKS_LIKE) from error


def _is_trajectory(value: Any) -> bool:
    has_steps = isinstance(value, Mapping) and ("messages" in value or "trajectory" in value)
    return has_steps and isinstance(value.get("info"), Mapping)


def _run(document: Any, path: Path, where: str) -> ForeignRun:
    if isinstance(document, list) and all("role" in one for one in items_at({"": document}, "")):
        document = {"messages": document, "info": {}}  # as older versions of mini-swe-agent wrote
    if not _is_trajectory(document):
        raise not_of_format(f"a {type(document).__name__} without steps", where, LOOKS_LIKE)
    info = document.get("info")
    model = text_at(info, "config", "model", "model_name")
    messages, steps = items_at(document, "messages"), items_at(document, "trajectory")
    if not messages and not steps:
        raise not_of_format("no steps", where, LOOKS_LIKE)
    is_mini = bool(messages)
    turns = tuple(_of_messages(messages, model) if is_mini else _of_steps(document, steps))
    system, turns = _without_system(turns)
    asked = next((one.text for one in turns if isinstance(one, Message)), None)
    agent = "mini-swe-agent" if is_mini else "swe-agent"
    found = _NAME.fullmatch(path.name)
    task_id = text_at(document, "instance_id") or (found[1] if found else path.name)
    status = text_at(info, "exit_status")
    times = [at for one in messages if (at := time_at(one, "extra", "timestamp")) is not None]
    return ForeignRun(
        format=FORMAT,
        source=agent,
        source_run_id=task_id,
        content_digest=digest_of(text_of([*messages, *steps]) or ""),
        where=where,
        turns=turns,
        system=system,
        task=Task(task_id, asked or "").message.cleaned,
        started={
            "agent": agent,
            "agent_version": text_at(info, "mini_version") or text_at(info, "swe_agent_version"),
            "model": model,
            "task_id": task_id,
        },
        started_us=min(times, default=None),
        ended_us=max(times, default=None),
        duration_ms=(max(times) - min(times)) / 1000 if len(times) > 1 else None,
        stop_reason=_stop_word(status, info),
        source_cost_usd=number_at(info, "model_stats", "instance_cost"),
        labels=_labels(info, status),
        is_judged=False,
    )


def _labels(info: Any, status: str | None) -> dict[str, str]:
    labels = {} if status is None else {"exit_status": status}
    for name in ("tokens_sent", "tokens_received", "api_calls"):
        if (count := count_at(info, "model_stats", name)) is not None:
            labels[name] = str(count)
    return labels


def _stop_word(status: str | None, info: Any) -> str | None:
    """The exit status; a limit that mini-swe-agent does not name is told by what was spent."""
    if status != "LimitsExceeded":
        return status
    spent = number_at(info, "model_stats", "instance_cost")
    limit = number_at(info, "config", "agent", "cost_limit")
    return "exit_cost" if spent is not None and limit and spent >= limit else "max_steps"


def _without_system(turns: Sequence[Turn]) -> tuple[Message | None, tuple[Turn, ...]]:
    first = turns[0] if turns else None
    if isinstance(first, Message) and first.role == "system":
        return first.cleaned, tuple(turns[1:])
    return None, tuple(turns)


def _of_messages(messages: Sequence[Item], model: str | None) -> Iterator[Turn]:
    """mini-swe-agent: the answer's command block, or its tool calls, and what came of them."""
    waiting: list[tuple[ToolRequest, Item]] = []
    for message in messages:
        at_us = time_at(message, "extra", "timestamp")
        if message.get("role") == "assistant":
            output, requests = _asked(message)
            waiting = [(request, message) for request in requests]
            yield _model_turn(message, output, model, at_us)
            continue
        for one in messages_of(message):
            place = next((p for p in waiting if one.tool_call_id in (None, p[0].id)), None)
            if place is None or one.role == "system":
                yield one
                continue
            waiting.remove(place)
            yield _observed(place[0], one.text, at_us)


def _asked(message: Item) -> tuple[Message, tuple[ToolRequest, ...]]:
    [said] = messages_of(message, role="assistant") or [Message("assistant", "")]
    if said.tool_requests:
        return said, said.tool_requests
    command = _COMMAND.search(said.text or "")
    if command is None:
        return said, ()
    # A command in the answer's text is the call that the agent makes of it.
    made = ToolRequest("", "bash", text_of({"command": command[1]}) or "")
    return said, (made,)


def _model_turn(message: Item, output: Message, model: str | None, at_us: int | None) -> ModelTurn:
    response = message.get("extra", {}).get("response") if "extra" in message else None
    usage = response.get("usage") if isinstance(response, Mapping) else None
    return ModelTurn(
        output,
        model=text_at(response, "model") or model,
        at_us=at_us,
        input_tokens=count_at(usage, "prompt_tokens") or count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "completion_tokens") or count_at(usage, "output_tokens"),
        cost_usd=number_at(message, "extra", "cost"),
        finish_reason="tool_calls" if output.tool_requests else None,
        more={"response_id": text_at(response, "id")},
    )


def _observed(request: ToolRequest, text: str | None, at_us: int | None) -> ToolTurn:
    code = _RETURN_CODE.search(text or "")
    is_failed = code is not None and code[1] != "0"
    return ToolTurn(
        name=request.name,
        args=request.arguments,
        call_id=request.id or None,
        result=text,
        error=f"exit code {code[1]}" if is_failed and code else None,
        at_us=at_us,
    )


def _of_steps(document: Item, steps: Sequence[Item]) -> Iterator[Turn]:
    """SWE-agent: one action a step; tools are the commands that it names."""
    for message in items_at(document, "history"):
        if message.get("role") == "assistant":
            break
        yield from messages_of(message)
    for ix, step in enumerate(steps):
        action = text_at(step, "action") or ""
        tool = _TOOL.match(action)
        args = text_of({"command": action}) or ""
        requests = (ToolRequest(f"s{ix}", tool[1], args),) if tool else ()
        said = text_at(step, "response") or text_at(step, "thought")
        yield ModelTurn(Message("assistant", said, requests))
        if tool is None:
            if (told := text_at(step, "observation")) is not None:
                yield Message("user", told)
            continue
        seconds = number_at(step, "execution_time")
        yield ToolTurn(
            name=tool[1],
            args=args,
            call_id=f"s{ix}",
            result=text_of(step.get("observation")),
            error=None,
            latency_ms=None if seconds is None else seconds * 1000,
        )
