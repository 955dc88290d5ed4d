"""One span as one call: its columns, prompt and answer, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flightlog.integrations.importers.foreign_run import Judgement, ModelTurn, ToolTurn
from flightlog.integrations.importers.pricing import priced
from flightlog.integrations.messages import parsed, text_of
from flightlog.integrations.otlp.contents import output_of, prompt_of
from flightlog.integrations.otlp.reading import Reading, number_of
from flightlog.integrations.otlp.spans import Span
from flightlog.runtime.prices import PriceTable
from flightlog.trace.canonical import clean_text
from flightlog.trace.vocab import Outcome

_PASSING: Final = frozenset({"pass", "passed", "true", "correct", "yes", "success"})
_FAILING: Final = frozenset({"fail", "failed", "false", "incorrect", "no", "failure"})


def model_turn(reading: Reading, prices: PriceTable | None) -> ModelTurn:
    """The model call that a span is."""
    span, error = reading.span, reading.error
    model, served = reading.text("request_model"), reading.text("response_model")
    tokens = {
        name: reading.count(name)
        for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    }
    turn = ModelTurn(
        output=None if error else output_of(span),
        model=model or served,
        at_us=_at_us(span),
        latency_ms=span.latency_ms,
        input_tokens=reading.count("input_tokens"),
        output_tokens=reading.count("output_tokens"),
        cost_usd=reading.number("cost_usd"),
        finish_reason=reading.finish_reason,
        error=None if error is None else ": ".join(one for one in (error[1], error[0]) if one),
        prompt=prompt_of(span) or (),
        more={
            "provider": reading.text("provider"),
            "response_model": served,
            "response_id": reading.text("response_id"),
            "previous_response_id": reading.text("previous_response_id"),
            "time_to_first_token_ms": reading.time_to_first_token_ms,
            "attempt": reading.attempt,
            **tokens,
        },
    )
    return turn if prices is None else priced(turn, prices)


def tool_turn(reading: Reading) -> ToolTurn:
    """The tool call that a span is."""
    span, error = reading.span, reading.error
    args = parsed(reading.value("args"))
    if not isinstance(args, Mapping):
        args = "{}" if args is None else text_of(args) or ""
    name = reading.text("tool_name")
    if name is None:
        name = clean_text(span.name.removeprefix("execute_tool ").removeprefix("tools/call "))
    is_late = error is not None and error[1] in ("TimeoutError", "TimeoutException", "timeout")
    outcome = Outcome.TIMED_OUT if is_late else Outcome.FAILED if error else Outcome.OK
    return ToolTurn(
        name=name,
        args=args,
        call_id=reading.text("tool_call_id"),
        result=text_of(reading.value("result")),
        error=error[0] if error else None,
        at_us=_at_us(span),
        latency_ms=span.latency_ms,
        more={
            "outcome": outcome,
            "error_type": error[1] if error else None,
            "attempt": reading.attempt,
        },
    )


def judgement_of(has: Mapping[str, Any]) -> Judgement:
    """The judgement that an event `gen_ai.evaluation.result` is."""
    label = str(has.get("gen_ai.evaluation.score.label") or "").lower()
    explanation = has.get("gen_ai.evaluation.explanation")
    return Judgement(
        name=clean_text(str(has.get("gen_ai.evaluation.name") or "evaluation")),
        passed=True if label in _PASSING else False if label in _FAILING else None,
        score=number_of(has.get("gen_ai.evaluation.score.value")),
        detail=None if explanation is None else clean_text(str(explanation)),
    )


def _at_us(span: Span) -> int | None:
    """When a call was over, as events tell it; when it began where that is all there is."""
    at = span.end_ns if span.end_ns is not None else span.start_ns
    return None if at is None else at // 1000
