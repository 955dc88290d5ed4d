"""Reads trajectories in ATIF, the format of harbor and terminal-bench.

Source: harbor, "Agent Trajectory Interchange Format", versions 1.0 to 1.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.documents import (
    DocumentFile,
    Item,
    count_at,
    items_at,
    not_of_format,
    number_at,
    text_at,
    time_at,
)
from flightlog.integrations.importers.foreign_run import ForeignRun, ModelTurn, ToolTurn, Turn
from flightlog.integrations.messages import text_of
from flightlog.runtime.task import Task
from flightlog.trace.canonical import digest_of
from flightlog.trace.messages import Message, ToolRequest

FORMAT: Final = "atif"
LOOKS_LIKE: Final = "an ATIF trajectory: an object with schema_version ATIF-v1.x, agent, steps"
_VERSION: Final = "ATIF-v1."


def read(path: Path) -> DocumentFile:
    """The runs of a file of trajectories: one, a list, or one a line."""
    return DocumentFile(path, _runs, looks_like=LOOKS_LIKE)


def _runs(document: Item, where: str) -> Iterator[ForeignRun]:
    version = text_at(document, "schema_version")
    if version is None:
        raise not_of_format("no schema_version", where, LOOKS_LIKE)
    if not version.startswith(_VERSION):
        raise TraceFormatError(
            f"schema_version {version[:40]!r} is not known",
            where=where,
            hint=f"Versions {_VERSION}x are read. Nothing was imported.",
        )
    steps = items_at(document, "steps")
    agent, metrics = document.get("agent"), document.get("final_metrics")
    session = text_at(document, "session_id") or text_at(document, "trajectory_id") or ""
    asked = [text_of(one.get("message")) for one in steps if one.get("source") == "user"]
    first = asked[0] if asked else None
    times = [at for one in steps if (at := time_at(one, "timestamp")) is not None]
    yield ForeignRun(
        format=FORMAT,
        source=f"atif/{text_at(agent, 'name') or 'agent'}",
        source_run_id=session,
        # Sessions are not always told apart by their id.
        content_digest=digest_of(text_of(list(steps)) or ""),
        where=where,
        turns=tuple(_turns(steps, text_at(agent, "model_name"))),
        task=None if first is None else Task("", first).message.cleaned,
        started={
            "agent": text_at(agent, "name"),
            "agent_version": text_at(agent, "version"),
            "model": text_at(agent, "model_name"),
            "session_id": session or None,
        },
        started_us=min(times, default=None),
        ended_us=max(times, default=None),
        duration_ms=(max(times) - min(times)) / 1000 if len(times) > 1 else None,
        source_cost_usd=number_at(metrics, "total_cost_usd"),
        labels={"atif": version},
        is_judged=False,
    )


def _turns(steps: list[Item], model: str | None) -> Iterator[Turn]:
    for step in steps:
        at_us, text = time_at(step, "timestamp"), text_of(step.get("message"))
        if step.get("source") != "agent":
            role = "system" if step.get("source") == "system" else "user"
            yield Message(role, text)
            continue
        calls = items_at(step, "tool_calls")
        requests = tuple(_request(call) for call in calls)
        output = Message("assistant", text or None, requests)
        if step.get("is_copied_context") is True:
            yield output  # made, and paid for, in the trajectory that this one goes on from
            continue
        metrics = step.get("metrics")
        yield ModelTurn(
            output,
            model=text_at(step, "model_name") or model,
            at_us=at_us,
            input_tokens=count_at(metrics, "prompt_tokens"),
            output_tokens=count_at(metrics, "completion_tokens"),
            cost_usd=number_at(metrics, "cost_usd"),
            finish_reason="tool_calls" if requests else None,
            more={"cache_read_tokens": count_at(metrics, "cached_tokens")},
        )
        yield from _tool_turns(step, calls, at_us)


def _tool_turns(step: Item, calls: list[Item], at_us: int | None) -> Iterator[Turn]:
    results = items_at(step, "observation", "results")
    by_id = {text_at(one, "source_call_id"): one for one in results}
    for call in calls:
        ident = text_at(call, "tool_call_id")
        result = by_id.pop(ident, None)
        if result is None and len(calls) == len(results) == 1:
            result = results[0]
        yield ToolTurn(
            name=text_at(call, "function_name") or "",
            args=_args(call),
            call_id=ident,
            result=None if result is None else text_of(result.get("content")),
            error=None,
            at_us=at_us,
        )


def _request(call: Item) -> ToolRequest:
    args = _args(call)
    text = args if isinstance(args, str) else text_of(args) or "{}"
    return ToolRequest(
        text_at(call, "tool_call_id") or "", text_at(call, "function_name") or "", text
    )


def _args(call: Item) -> str | dict[str, Any]:
    args = call.get("arguments")
    return dict(args) if isinstance(args, Mapping) else text_of(args) or "{}"
