"""A run that is still going on, as far as the wire shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flightlog.integrations.dialects.dialect import Answered, Asked
from flightlog.integrations.proxy.conversations import Conversation
from flightlog.runtime.model import Usage
from flightlog.runtime.prices import PriceTable
from flightlog.trace.canonical import canonical_args
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.stop_words import stop_of
from flightlog.trace.vocab import (
    FinishReason,
    Outcome,
    RunStatus,
    ServedHow,
    StopReason,
    finish_reason_of,
)

MAX_THREADS: Final = 256
"""Answers of a run that a server-side thread can go on from."""
_FAILED_LOOK: Final = 64
_CONTEXT_WORDS: Final = (
    "context_length_exceeded",
    "prompt is too long",
    "maximum context length",
    "context window",
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that is being answered.

    Attributes:
        run: that it belongs to.
        asked: what is asked.
        prompt: all that the model is to see, a server-side thread included.
        said: what the request holds of the conversation.
        step: of the run, from 1.
        attempt: which try of the step it is, from 1.
        provider: of the model.
    """

    run: OpenRun
    asked: Asked
    prompt: tuple[Message, ...]
    said: Conversation
    step: int
    attempt: int
    provider: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an exchange ended.

    Attributes:
        answered: what came, as far as it came.
        outcome: of the call.
        error: what went wrong.
        latency_ms: from the request to the end of the answer.
        first_token_ms: to the first piece of its content.
        is_cancelled: the client went away.
    """

    answered: Answered
    outcome: Outcome = Outcome.OK
    error: str | None = None
    latency_ms: float | None = None
    first_token_ms: float | None = None
    is_cancelled: bool = False


@dataclass(slots=True)
class _Outstanding:
    request: ToolRequest
    step: int
    call_ix: int


@dataclass(slots=True)
class OpenRun:
    """A run, what is known of it, and what it waits for. For one thread at a time.

    Attributes:
        writer: writes its events.
        name: that requests give it.
        scope: of its caller.
        steps: so far.
        busy: requests that are being answered.
        touched_s: when something last happened, monotonic.
        threads: id of an answer or a thread -> all that was said up to its end.
        outstanding: tool calls that were asked for and not answered yet, by id.
        failed: prompts whose last try failed: key -> step and attempt.
        last: how the last exchange ended.
        served_from: recorded run that it was answered from last, in a replay.
        found_by: tables and keys that lead to it.
    """

    writer: RunWriter
    name: str | None
    scope: str
    steps: int = 0
    busy: int = 0
    touched_s: float = field(default_factory=time.monotonic)
    threads: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    outstanding: dict[str, _Outstanding] = field(default_factory=dict)
    failed: dict[str, tuple[int, int]] = field(default_factory=dict)
    last: Ending | None = None
    served_from: str | None = None
    found_by: list[tuple[dict[Any, OpenRun], Any]] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """Its id in the store."""
        return self.writer.run_id

    def place_of(self, key: str, retries: int) -> tuple[int, int]:
        """Step and attempt of a request: a prompt that failed before is tried again."""
        if (before := self.failed.pop(key, None)) is not None:
            return before[0], before[1] + 1
        self.steps += 1
        return self.steps, retries + 1

    def write_tool_calls(self, asked: Asked) -> None:
        """Records the tool calls whose results a request brings."""
        for message in asked.messages:
            found = self.outstanding.pop(message.tool_call_id or "", None)
            if message.role != "tool" or found is None:
                continue
            is_failed = found.request.id in asked.failed_calls
            args = canonical_args(found.request.arguments)
            self.writer.tool_call(
                step=found.step,
                call_ix=found.call_ix,
                tool_name=found.request.name,
                tool_call_id=found.request.id,
                args=args.text,
                args_digest=args.digest,
                args_flag=args.flag,
                result=message.text,
                outcome=Outcome.FAILED if is_failed else Outcome.OK,
                error=(message.text or "the request says so") if is_failed else None,
                served_how=ServedHow.LIVE,
            )

    def end(self, exchange: Exchange, ending: Ending, prices: PriceTable) -> bool:
        """Records how an exchange ended; False where the store took it not."""
        answered = ending.answered
        cost = _cost(exchange, answered, prices)
        usage = answered.usage
        written = self.writer.model_call(
            prompt=exchange.prompt,
            output=answered.output,
            step=exchange.step,
            attempt=exchange.attempt,
            outcome=ending.outcome,
            error=ending.error,
            provider=exchange.provider,
            request_model=exchange.asked.model,
            response_model=answered.model,
            response_id=answered.response_id,
            previous_response_id=exchange.asked.previous_id,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            latency_ms=ending.latency_ms,
            time_to_first_token_ms=ending.first_token_ms,
            finish_reason=finish_reason_of(answered.finish_reason),
            **cost,
        )
        self.last = ending
        if ending.outcome is Outcome.OK:
            self._answered(exchange, answered)
        elif not ending.is_cancelled:
            self.failed[exchange.said.key] = (exchange.step, exchange.attempt)
            while len(self.failed) > _FAILED_LOOK:
                del self.failed[next(iter(self.failed))]
        return written

    def _answered(self, exchange: Exchange, answered: Answered) -> None:
        output = answered.output
        if output is None:
            return
        for call_ix, request in enumerate(output.tool_requests):
            if request.id:
                self.outstanding[request.id] = _Outstanding(request, exchange.step, call_ix)
        for ident in (answered.response_id, exchange.asked.thread_id):
            if ident:
                self.threads.pop(ident, None)
                self.threads[ident] = (*exchange.prompt, output)
        while len(self.threads) > MAX_THREADS:
            del self.threads[next(iter(self.threads))]

    def stop(self, *, why: str, given: Mapping[str, Any]) -> bool:
        """Writes its end.

        Args:
            why: what made the proxy think that it is over.
            given: columns of the end that the caller states itself.
        """
        fields = self._end(why) | dict(given)
        reason = fields.get("stop_reason")
        fields["status"] = RunStatus.COMPLETED if reason is None else StopReason(reason).status
        return self.writer.stopped(**fields)

    def _end(self, why: str) -> dict[str, Any]:
        last = self.last
        if last is None:
            return {"stop_reason": StopReason.CANCELLED, "stop_detail": f"Nothing came; {why}."}
        if last.is_cancelled:
            return {"stop_reason": StopReason.CANCELLED, "stop_detail": last.error}
        if last.outcome is not Outcome.OK:
            return _after_error(last)
        output = last.answered.output
        finish = finish_reason_of(last.answered.finish_reason)
        if finish in (FinishReason.REFUSAL, FinishReason.CONTENT_FILTER):
            told = last.answered.finish_reason
            return {"stop_reason": StopReason.MODEL_REFUSED, "source_stop_reason": told}
        if output is not None and (finish is FinishReason.STOP or not output.tool_requests):
            return {"stop_reason": StopReason.OK, "answer": output.text}
        waiting = [one.request.name for one in self.outstanding.values()]
        names = ", ".join(sorted(set(waiting))[:5])
        detail = f"The results of {len(waiting)} tool calls ({names}) never came; {why}."
        return {"stop_detail": detail if waiting else f"No answer was read; {why}."}


def _after_error(last: Ending) -> dict[str, Any]:
    code, text = last.answered.error_code, last.error or ""
    lowered = f"{code} {text}".lower()
    reason = stop_of(code)
    if last.outcome is Outcome.REPLAY_MISS:
        reason = StopReason.REPLAY_MISS
    elif any(word in lowered for word in _CONTEXT_WORDS):
        reason = StopReason.CONTEXT_OVERFLOW
    return {
        "stop_reason": reason or StopReason.MODEL_ERROR,
        "stop_detail": text,
        "source_stop_reason": code,
    }


def _cost(exchange: Exchange, answered: Answered, prices: PriceTable) -> dict[str, Any]:
    names: Sequence[str | None] = (answered.model, exchange.asked.model)
    usage: Usage = answered.usage
    cost = prices.cost(usage, tuple(one for one in names if one), exchange.provider)
    return {} if cost is None else {"cost_usd": cost.usd, "price_id": cost.price_id}
