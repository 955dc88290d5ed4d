"""A run of a foreign trace between reading and recording: one form for all formats.

A reader turns its format into `ForeignRun`s and decides nothing else; what a
source's words and numbers mean for the store is decided here, once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

from msgspec import Meta

from flightlog.runtime.task import Task
from flightlog.trace.canonical import canonical_args, canonical_json, clean_text, digest_of
from flightlog.trace.events import Label
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import Sink
from flightlog.trace.stop_words import stop_of
from flightlog.trace.vocab import (
    Actor,
    Origin,
    Outcome,
    RunStatus,
    finish_reason_of,
)

_ID_VERSION: Final = "import/1"
_LAST_US: Final = 253_402_300_799_999_999  # the end of the year 9999
_ERROR_TYPE: Final = re.compile(r"([A-Za-z_]\w*(?:Error|Exception)): ")


@dataclass(frozen=True, slots=True)
class ModelTurn:
    """One answer of a model: the agent's, or the simulated user's.

    Attributes:
        prompt: what the model was sent, where the source tells it call by call; empty where it
            does not tell. None for what was said before in the run.
        more: further columns of the model call.
    """

    output: Message | None
    actor: Actor = Actor.AGENT
    model: str | None = None
    at_us: int | None = None
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    prompt: tuple[Message, ...] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """One tool call that was carried out, with what came back.

    Attributes:
        more: further columns of the tool call.
    """

    name: str
    args: str | Mapping[str, Any]
    call_id: str | None = None
    actor: Actor = Actor.AGENT
    result: str | None = None
    error: str | None = None
    at_us: int | None = None
    latency_ms: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody judged of a run, beside its success."""

    name: str
    passed: bool | None = None
    score: float | None = None
    detail: str | None = None


Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A number that a column of counts can hold."""

Turn: TypeAlias = Message | ModelTurn | ToolTurn
"""A bare message is one that the agent was shown and that no recorded call produced."""


@dataclass(frozen=True, slots=True)
class ForeignRun:
    """One run as its source tells it; None where the source is silent.

    Attributes:
        format: the format it was read from.
        source: name of the foreign trace.
        source_run_id: id of the run there.
        where: file and line or item, for messages.
        content_digest: tells runs apart whose format gives them no id of their own.
        started: further fields of `RunStarted`.
        system: the system prompt.
        task: the content of the task (`task_message`).
        labels: what has no column of its own.
        source_cost_usd: the source's own total for the agent.
        is_failed: True where it ended in an error, whatever its name.
        judgements: others than of its success.
        is_judged: False where the source is no benchmark: its success is then written only
            where it is known.
    """

    format: str
    source: str
    source_run_id: str
    where: str
    turns: tuple[Turn, ...]
    started: Mapping[str, Any]
    content_digest: str = ""
    system: Message | None = None
    task: Message | None = None
    started_us: int | None = None
    ended_us: int | None = None
    duration_ms: float | None = None
    stop_reason: str | None = None
    stop_detail: str | None = None
    passed: bool | None = None
    score: float | None = None
    source_cost_usd: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    is_failed: bool = False
    judgements: tuple[Judgement, ...] = ()
    is_judged: bool = True

    @property
    def run_id(self) -> str:
        """The same for the same run however often it is imported: 32 hex digits."""
        return digest_of(
            _ID_VERSION, self.format, self.source, self.source_run_id, self.content_digest
        )


@dataclass(slots=True)
class Tally:
    """What was written, and what the source did not say."""

    runs: int = 0
    events: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    zeros: Counter[str] = field(default_factory=Counter)

    def missing(self, kind: str, fields: Mapping[str, Any], *names: str) -> None:
        """Counts the named fields that are null."""
        for name in names:
            if fields.get(name) is None:
                self.unknown[f"{kind}.{name}"] += 1


def write_run(run: ForeignRun, sink: Sink, tally: Tally) -> None:
    """Records one foreign run.

    Args:
        run: the run; its times are in the past and are written as they are.
        sink: where its events go.
        tally: is added to.
    """
    writer = RunWriter(sink, run.run_id)
    _write_start(run, writer, tally)
    _write_turns(run, writer, tally)
    _write_end(run, writer, tally)
    tally.runs += 1


def write_late(
    run: ForeignRun, sink: Sink, tally: Tally, *, first_seq: int, steps: int, ends: bool
) -> None:
    """Records turns that came when their run was written already; they follow its other events.

    Args:
        run: with the late turns alone.
        sink: where its events go.
        tally: is added to.
        first_seq: events of the run that are recorded.
        steps: model calls of the agent among them.
        ends: True when its end came late too; it stands for the one that was written.
    """
    writer = RunWriter(sink, run.run_id, first_seq=first_seq)
    _write_turns(run, writer, tally, step=steps)
    if ends:
        _write_end(run, writer, tally)
    else:
        _write_judgements(run, writer, tally)


def steps_in(run: ForeignRun) -> int:
    """Model calls of the agent."""
    return sum(isinstance(turn, ModelTurn) and turn.actor is Actor.AGENT for turn in run.turns)


def _write_turns(run: ForeignRun, writer: RunWriter, tally: Tally, *, step: int = 0) -> None:
    prompt: list[Message] = [run.system] if run.system else []
    call_ix = 0
    for turn in run.turns:
        if isinstance(turn, Message):
            prompt.append(turn.cleaned)
            continue
        if isinstance(turn, ToolTurn):
            is_agent = turn.actor is Actor.AGENT
            _write_tool(
                run, turn, writer, tally, place=(step or None, call_ix if is_agent else None)
            )
            if is_agent:
                call_ix += 1
                prompt.append(_tool_message(turn))
            continue
        if turn.actor is Actor.AGENT:
            step, call_ix = step + 1, 0
        _write_model(run, turn, writer, tally, prompt=prompt, step=step or None)
        # The agent sees what the user says, not which tools the user calls.
        output = turn.output
        if output is not None and (turn.actor is Actor.AGENT or not output.tool_requests):
            prompt.append(output.cleaned)


def _write_start(run: ForeignRun, writer: RunWriter, tally: Tally) -> None:
    labels = dict(run.labels)
    if run.source_cost_usd is not None:
        labels["source_cost_usd"] = repr(run.source_cost_usd)
    fields = {
        "at": run.started_us,
        "elapsed_ms": None if run.started_us is None else 0.0,
        "origin": Origin.IMPORTED,
        "source": run.source,
        "source_run_id": run.source_run_id,
        "system_digest": run.system.digest if run.system else None,
        "task_digest": run.task.digest if run.task else None,
        "labels": tuple(Label(key, clean_text(text)) for key, text in sorted(labels.items())),
        **run.started,
    }
    bodies = [message for message in (run.system, run.task) if message is not None]
    writer.started(messages=bodies, **fields)
    tally.events += 1
    tally.missing("run_started", fields, "at", "agent", "model", "task_digest", "trial")


def _write_model(
    run: ForeignRun,
    turn: ModelTurn,
    writer: RunWriter,
    tally: Tally,
    *,
    prompt: list[Message],
    step: int | None,
) -> None:
    finish = finish_reason_of(turn.finish_reason)
    fields = {
        "at": turn.at_us,
        "elapsed_ms": _elapsed_ms(run, turn.at_us),
        "step": step,
        "actor": turn.actor,
        "request_model": turn.model,
        "input_tokens": _unless_zero(turn.input_tokens, "model_call.input_tokens", tally),
        "output_tokens": _unless_zero(turn.output_tokens, "model_call.output_tokens", tally),
        "cost_usd": _unless_zero(turn.cost_usd, "model_call.cost_usd", tally),
        "latency_ms": turn.latency_ms,
        "finish_reason": finish,
        "outcome": Outcome.OK if turn.error is None else Outcome.FAILED,
        "error": turn.error,
        **turn.more,
    }
    if turn.prompt is not None:
        prompt = [message.cleaned for message in turn.prompt]
    elif turn.actor is not Actor.AGENT:
        prompt = []  # what the user simulator was sent is not in any of those formats
    output = None if turn.output is None else turn.output.cleaned
    writer.model_call(prompt=prompt, output=output, **fields)
    tally.events += 1
    tally.missing(
        "model_call",
        fields,
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "latency_ms",
        "finish_reason",
    )


def _write_tool(
    run: ForeignRun,
    turn: ToolTurn,
    writer: RunWriter,
    tally: Tally,
    *,
    place: tuple[int | None, int | None],
) -> None:
    args = canonical_args(turn.args)
    error_type = _ERROR_TYPE.match(turn.error) if turn.error else None
    fields = {
        "at": turn.at_us,
        "elapsed_ms": _elapsed_ms(run, turn.at_us),
        "step": place[0],
        "call_ix": place[1],
        "actor": turn.actor,
        "tool_name": clean_text(turn.name),
        "tool_call_id": turn.call_id,
        "args": args.text,
        "args_digest": args.digest,
        "args_flag": args.flag,
        "outcome": Outcome.OK if turn.error is None else Outcome.FAILED,
        "error": None if turn.error is None else clean_text(turn.error),
        "error_type": error_type.group(1) if error_type else None,
        "latency_ms": turn.latency_ms,
        **turn.more,
    }
    result = None if turn.result is None else clean_text(turn.result)
    writer.tool_call(result=result, **fields)
    tally.events += 1
    tally.missing("tool_call", {**fields, "result": result}, "result", "latency_ms")


def _write_end(run: ForeignRun, writer: RunWriter, tally: Tally) -> None:
    reason = stop_of(run.stop_reason, is_error=run.is_failed)
    fields = {
        "at": run.ended_us,
        "elapsed_ms": _elapsed_ms(run, run.ended_us),
        "status": reason.status if reason else RunStatus.COMPLETED,
        "stop_reason": reason,
        "stop_detail": run.stop_detail,
        "source_stop_reason": run.stop_reason,
        "answer": _answer(run),
        "duration_ms": run.duration_ms,
        "total_cost_usd": _total_cost(run),
    }
    writer.stopped(**fields)
    tally.missing("run_stopped", fields, "stop_reason", "duration_ms")
    tally.events += 1
    verdict = {"passed": run.passed, "score": run.score}
    if run.is_judged or run.passed is not None or run.score is not None:
        writer.evaluation(at=run.ended_us, **verdict)
        tally.missing("evaluation", verdict, "passed", "score")
        tally.events += 1
    _write_judgements(run, writer, tally)


def _write_judgements(run: ForeignRun, writer: RunWriter, tally: Tally) -> None:
    for one in run.judgements:
        writer.evaluation(
            at=run.ended_us, name=one.name, passed=one.passed, score=one.score, detail=one.detail
        )
        tally.events += 1


def _answer(run: ForeignRun) -> str | None:
    for turn in reversed(run.turns):
        if isinstance(turn, ModelTurn) and turn.actor is Actor.AGENT:
            output = turn.output
            return None if output is None or output.tool_requests else output.cleaned.text
    return None


def _total_cost(run: ForeignRun) -> float | None:
    """The source's total where some call of the agent has no cost of its own, else None."""
    calls = [t for t in run.turns if isinstance(t, ModelTurn) and t.actor is Actor.AGENT]
    if not run.source_cost_usd or all(turn.cost_usd for turn in calls):
        return None
    # A total over calls that were partly free of charge by mistake is itself too low.
    return None if any(turn.cost_usd is not None for turn in calls) else run.source_cost_usd


def _unless_zero(value: Any, column: str, tally: Tally) -> Any:
    """The value, or None for a zero: no answer costs nothing, so zero means not recorded."""
    if value != 0:
        return value
    tally.zeros[column] += 1
    return None


def _tool_message(turn: ToolTurn) -> Message:
    return Message(
        role="tool",
        text=turn.error if turn.result is None else turn.result,
        tool_call_id=turn.call_id,
        name=turn.name,
    ).cleaned


def _elapsed_ms(run: ForeignRun, at_us: int | None) -> float | None:
    if at_us is None or run.started_us is None:
        return None
    return (at_us - run.started_us) / 1000


def microseconds(text: str | None) -> int | None:
    """An ISO 8601 time as microseconds since the epoch; one without a zone is taken as UTC.

    Raises:
        ValueError: not an ISO 8601 time.
    """
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def plain_text(content: Any) -> str | None:
    """The text of a message's content: a string, or a list of blocks that hold text."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [
            block if isinstance(block, str) else block.get("text") or block.get("content")
            for block in content
            if isinstance(block, (str, dict))
        ]
        return "\n".join(text for text in texts if isinstance(text, str)) if texts else None
    return canonical_json(content)


def request(call_id: str | None, name: str, arguments: Any) -> ToolRequest:
    """A tool request whose arguments are text as the model wrote it, or an object."""
    text = arguments if isinstance(arguments, str) else canonical_args(arguments or {}).text
    return ToolRequest(call_id or "", name, text)


def task_message(task_id: str, suite: str | None, content: Any) -> Message | None:
    """The content of a task as the trace keeps it; None where the source does not have it.

    The user simulator speaks first in these sources, so the prompt is empty.
    """
    if content is None:
        return None
    inputs = content if isinstance(content, dict) else {"task": content}
    try:
        return Task(task_id, "", suite=suite, inputs=inputs).message.cleaned
    except (ValueError, RecursionError):
        return None


def after(start_us: int | None, duration_ms: float | None) -> int | None:
    """The time so long after a start, in microseconds; None beyond what a calendar holds."""
    if start_us is None or duration_ms is None:
        return None
    end_us = start_us + duration_ms * 1000
    return round(end_us) if end_us <= _LAST_US else None


def finite(value: float | None) -> float | None:
    """The value; None for NaN and the infinities, which say nothing."""
    return value if value is not None and math.isfinite(value) else None
