"""The turns of one sample of an Inspect log: from its events, or from its messages alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flightlog.integrations.importers.documents import (
    Item,
    count_at,
    items_at,
    number_at,
    text_at,
    time_at,
)
from flightlog.integrations.importers.foreign_run import ModelTurn, ToolTurn, Turn
from flightlog.integrations.messages import answer_of, messages_of, text_of
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Actor, Outcome

_SCORING: Final = frozenset({"scorers", "scorer"})


def turns_of(
    sample: Item, events: Sequence[Item], model: str | None
) -> tuple[Message | None, tuple[Turn, ...]]:
    """System prompt and turns of a sample."""
    calls = [one for one in events if one.get("event") in ("model", "tool")]
    if not any(one.get("event") == "model" for one in calls):
        return _of_messages(items_at(sample, "messages"), model)
    scoring = _scoring_spans(events)
    pool = items_at(sample, "message_pool")
    turns: list[Turn] = []
    system: Message | None = None
    for place, event in enumerate(calls):
        if event.get("event") == "tool":
            turns.append(_tool_turn(event))
            continue
        is_judge = event.get("span_id") in scoring or _is_scored(event, events)
        turn = _model_turn(event, pool, is_judge=is_judge)
        if place == 0 and turn.prompt and turn.prompt[0].role == "system":
            system = turn.prompt[0].cleaned
        turns.append(turn)
    return system, tuple(turns)


def _scoring_spans(events: Sequence[Item]) -> set[Any]:
    """Ids of the spans within scoring: what models say there is the judge's."""
    found: set[Any] = set()
    for one in events:
        is_scoring = text_at(one, "type") in _SCORING or one.get("parent_id") in found
        if one.get("event") == "span_begin" and is_scoring:
            found.add(one.get("id"))
    return found


def _is_scored(event: Item, events: Sequence[Item]) -> bool:
    """True within a scorer's step, as older logs have them."""
    depth = 0
    for one in events:
        if one is event:
            return depth > 0
        if one.get("event") == "step" and text_at(one, "type") == "scorer":
            depth += 1 if one.get("action") == "begin" else -1
    return False


def _model_turn(event: Item, pool: Sequence[Item], *, is_judge: bool) -> ModelTurn:
    output = event.get("output")
    choices = items_at(output, "choices")
    usage = output.get("usage") if isinstance(output, Mapping) else None
    seconds = number_at(output, "time") or number_at(event, "working_time")
    error = text_at(event, "error") or text_at(output, "error")
    read, written = (
        count_at(usage, "input_tokens_cache_read"),
        count_at(usage, "input_tokens_cache_write"),
    )
    retries = count_at(event, "retries") or 0
    return ModelTurn(
        output=answer_of(choices[0].get("message")) if choices and error is None else None,
        actor=Actor.JUDGE if is_judge else Actor.AGENT,
        model=text_at(event, "model"),
        at_us=time_at(event, "completed") or time_at(event, "timestamp"),
        latency_ms=None if seconds is None else seconds * 1000,
        input_tokens=_input_tokens(usage, read, written),
        output_tokens=count_at(usage, "output_tokens"),
        finish_reason=text_at(choices[0], "stop_reason") if choices else None,
        error=error,
        prompt=tuple(_prompt(event, pool)),
        more={
            "response_model": text_at(output, "model"),
            "cache_read_tokens": read,
            "cache_write_tokens": written,
            "reasoning_tokens": count_at(usage, "reasoning_tokens"),
            "attempt": 1 + min(retries, 1000),
        },
    )


def _input_tokens(usage: Any, read: int | None, written: int | None) -> int | None:
    """Cached tokens are in it for some providers and beside it for others; the total tells."""
    fresh, total = count_at(usage, "input_tokens"), count_at(usage, "total_tokens")
    answered, cached = count_at(usage, "output_tokens"), (read or 0) + (written or 0)
    if fresh is None or not cached or total is None or answered is None:
        return fresh
    return fresh + cached if total == fresh + cached + answered else fresh


def _prompt(event: Item, pool: Sequence[Item]) -> Iterator[Message]:
    for ref in event.get("input_refs") or ():
        start, end = ref
        yield from (one for plain in pool[start:end] for one in messages_of(plain))
    yield from messages_of(items_at(event, "input"))


def _tool_turn(event: Item) -> ToolTurn:
    args, error = event.get("arguments"), event.get("error")
    seconds = number_at(event, "working_time")
    is_late = text_at(error, "type") == "timeout"
    return ToolTurn(
        name=text_at(event, "function") or "",
        args=dict(args) if isinstance(args, Mapping) else text_of(args) or "{}",
        call_id=text_at(event, "id"),
        result=text_of(event.get("result")),
        error=_error_text(error),
        at_us=time_at(event, "completed") or time_at(event, "timestamp"),
        latency_ms=None if seconds is None else seconds * 1000,
        more={"outcome": Outcome.TIMED_OUT} if is_late else {},
    )


def _error_text(error: Any) -> str | None:
    if not isinstance(error, Mapping):
        return None
    return text_at(error, "message") or text_at(error, "type") or "the log says that it failed"


def _of_messages(
    messages: Sequence[Item], model: str | None
) -> tuple[Message | None, tuple[Turn, ...]]:
    """Where a log has no events: what was said, in its order."""
    system: Message | None = None
    turns: list[Turn] = []
    waiting: dict[str | None, ToolRequest] = {}
    for ix, plain in enumerate(messages):
        for message in messages_of(plain):
            if message.role == "assistant":
                turns.append(ModelTurn(message, model=text_at(plain, "model") or model))
                waiting |= {one.id: one for one in message.tool_requests}
            elif message.role == "tool":
                request = waiting.pop(message.tool_call_id, None)
                turns.append(
                    ToolTurn(
                        name=request.name if request else text_at(plain, "function") or "",
                        args=request.arguments if request else "{}",
                        call_id=message.tool_call_id,
                        result=message.text,
                        error=_error_text(plain.get("error")),
                    )
                )
            elif message.role == "system" and ix == 0:
                system = message.cleaned
            else:
                turns.append(message)
    return system, tuple(turns)
