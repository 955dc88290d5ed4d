"""Reads run lines: one JSON object per line and run, plain or gzipped, any number of runs.

The format is described in docs/import.md; it is what other tools convert to
when flightlog has no importer for theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    after,
    finite,
    microseconds,
    request,
)
from flightlog.integrations.importers.json_input import MAX_PARTS, LineFile, decode
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Actor

FORMAT = "run-lines"
LOOKS_LIKE = "one JSON object per line with source, run_id, task_id and events"
_SCRIPTED_USER = "user"
_UNNAMED_SIMULATOR = "user_simulator"
_AGENTDOJO = "agentdojo"


class RowEvent(msgspec.Struct):
    """One event of a run line, as docs/import.md describes it."""

    type: str
    name: str | None = None
    args: str | dict[str, Any] | None = None
    result: str | None = None
    calls: list[str] = []
    call_id: str | None = None
    requestor: str | None = None
    executed: bool = True
    canned: bool | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    ts: str | None = None
    finish_reason: str | None = None
    error: str | None = None


class _Totals(msgspec.Struct):
    agent_cost_usd: float | None = None
    user_cost_usd: float | None = None


class Row(msgspec.Struct):
    """One run line, as docs/import.md describes it."""

    source: str
    run_id: str
    task_id: str
    events: list[RowEvent]
    agent: str | None = None
    task_group: str | None = None
    task_digest: str | None = None
    model: str | None = None
    variant: str | None = None
    trial: Count | str | None = None
    success: bool | None = None
    score: float | None = None
    stop_reason: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: float | None = None
    run_error: str | None = None
    totals: _Totals | None = None
    seed: int | None = None
    attack_succeeded: bool | None = None
    suite_version: str | None = None
    system_prompt_sha1: str | None = None
    fail_type: str | None = None
    parse_note: str | None = None


class RunLines:
    """The runs of a file of run lines; each iteration reads the file anew, line by line.

    Args:
        path: the file.

    Raises:
        TraceFormatError: while iterating, at the first line that is not a run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = LineFile(path)
        self._decoder = msgspec.json.Decoder(Row)

    def __iter__(self) -> Iterator[ForeignRun]:
        for number, line in self._lines:
            where = f"{self._path}:{number}"
            try:
                if len(line) > MAX_PARTS:
                    raise msgspec.DecodeError
                row = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                # Again, slowly: either Python's JSON is read too, or the error gets a place.
                row = decode(line, Row, where=where, looks_like=LOOKS_LIKE)
            yield run_of_row(row, where)


def run_of_row(row: Row, where: str, *, format_name: str = FORMAT) -> ForeignRun:
    """The run that a line tells.

    Raises:
        TraceFormatError: a time in it is none.
    """
    trial = row.trial if isinstance(row.trial, int) else None
    duration = finite(row.duration_ms)
    try:
        started_us, ended_us = microseconds(row.started_at), microseconds(row.ended_at)
        return ForeignRun(
            format=format_name,
            source=row.source,
            source_run_id=row.run_id,
            where=where,
            turns=_turns(row, where),
            started={
                "agent": _agent(row),
                "model": row.model,
                "suite": row.task_group,
                "task_id": row.task_id,
                "task_digest": row.task_digest,
                "trial": trial,
                "variant": row.variant,
            },
            started_us=started_us,
            ended_us=after(started_us, duration) if ended_us is None else ended_us,
            duration_ms=duration,
            stop_reason=row.stop_reason,
            stop_detail=row.run_error,
            passed=row.success,
            score=finite(row.score),
            source_cost_usd=finite(row.totals.agent_cost_usd) if row.totals else None,
            labels=_labels(row),
        )
    except ValueError as error:
        raise TraceFormatError(
            f"a time that is not ISO 8601: {error}", where=where, hint="Nothing was imported."
        ) from error


def _agent(row: Row) -> str | None:
    if row.agent is None and row.source == _AGENTDOJO:
        # The folder of a run names the pipeline; `model` leaves its defence out.
        return row.run_id.split("/", 1)[0]
    return row.agent or row.variant


def _labels(row: Row) -> dict[str, str]:
    found = {
        "user_cost_usd": row.totals.user_cost_usd if row.totals else None,
        "source_trial": row.trial if isinstance(row.trial, str) else None,
        "seed": row.seed,
        "attack_succeeded": row.attack_succeeded,
        "suite_version": row.suite_version,
        "system_prompt_sha1": row.system_prompt_sha1,
        "fail_type": row.fail_type,
        "parse_note": row.parse_note,
        "greeting": "canned" if any(event.canned for event in row.events) else None,
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def _turns(row: Row, where: str) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    for ix, event in enumerate(row.events):
        if event.type == "tool":
            # A call that nobody carried out stays a request in the model's answer.
            if event.executed:
                turns.append(_tool_turn(event))
        elif event.type == "model":
            requests = _requests(row.events, ix)
            output = Message("assistant", event.result, requests)
            turns.append(output if event.canned else _model_turn(event, output, Actor.AGENT))
        elif event.type == "user":
            output = Message("user", event.result, _requests(row.events, ix))
            # A scripted user is a text in the prompt, not a model that answered.
            is_scripted = event.name in (None, _SCRIPTED_USER)
            turns.append(output if is_scripted else _model_turn(event, output, Actor.USER))
        else:
            raise TraceFormatError(
                f"unknown event type {event.type!r} in events[{ix}]",
                where=where,
                hint="Events are of type model, tool or user. Nothing was imported.",
            )
    return tuple(turns)


def _model_turn(event: RowEvent, output: Message, actor: Actor) -> ModelTurn:
    return ModelTurn(
        output=output,
        actor=actor,
        model=None if event.name == _UNNAMED_SIMULATOR else event.name,
        at_us=microseconds(event.ts),
        latency_ms=finite(event.latency_ms),
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        cost_usd=finite(event.cost_usd),
        finish_reason=event.finish_reason,
        error=event.error,
    )


def _tool_turn(event: RowEvent) -> ToolTurn:
    return ToolTurn(
        name=event.name or "",
        args={} if event.args is None else event.args,
        call_id=event.call_id,
        actor=Actor.USER if event.requestor == "user" else Actor.AGENT,
        # Some sources keep an empty text beside the error that the model saw.
        result=None if event.error is not None and not event.result else event.result,
        error=event.error,
        at_us=microseconds(event.ts),
        latency_ms=finite(event.latency_ms),
    )


def _requests(events: Sequence[RowEvent], ix: int) -> tuple[ToolRequest, ...]:
    """The calls that the model step at `ix` asked for, named by the tool events that follow it.

    Ids repeat within a run, so only events up to the next step are looked at;
    a request without an event keeps its id and has no name.
    """
    wanted = events[ix].calls
    if not wanted:
        return ()
    answers: dict[str | None, list[RowEvent]] = {}
    for event in events[ix + 1 :]:
        if event.type != "tool":
            break
        answers.setdefault(event.call_id, []).append(event)
    return tuple(_request(call_id, answers.get(call_id)) for call_id in wanted)


def _request(call_id: str, answers: list[RowEvent] | None) -> ToolRequest:
    if not answers:
        return ToolRequest(call_id, "", "")
    event = answers.pop(0)
    return request(call_id, event.name or "", event.args)
