"""The same conversation is read from every dialect that emitters speak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flightlog.integrations.importers.foreign_run import ModelTurn, ToolTurn
from flightlog.integrations.otlp.runs import runs_of
from flightlog.integrations.otlp.spans import Span, SpanEvent
from flightlog.trace.messages import Message, ToolRequest

NATIVE = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "native"
ASKS = Message(
    "assistant",
    "Absolutely! Let me check the weather for you.",
    (ToolRequest("1234", "get_weather", '{"location":"Paris"}'),),
)
PROMPT = (
    Message("user", "Weather in Paris?"),
    ASKS,
    Message("tool", "rainy, 57°F", tool_call_id="1234"),
)
ANSWER = Message("assistant", "The weather in Paris is currently rainy with a temperature of 57°F.")


def span_of(attributes: dict[str, Any], *events: SpanEvent, **more: Any) -> Span:
    return Span(
        "a" * 32, "b" * 16, "made", None, 10**18, 10**18 + 10**9, attributes, events, **more
    )


def turn_of(span: Span) -> Any:
    [run] = runs_of([span]).runs.values()
    [turn] = run.turns
    return turn


def native(name: str) -> Any:
    path = NATIVE / name
    if not path.exists():
        pytest.skip(f"the shared data is absent: {path}")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "name",
    [
        "openinference_client_span_input_output_only.json",
        "openinference_client_span_tool_calls.json",
        "otel_genai_client_span_tool_calls.json",
        "otel_genai_deprecated_client_span_tool_calls.json",
    ],
)
def test_captured_model_spans_tell_the_same(name: str) -> None:
    turn = turn_of(span_of(native(f"otel_genai/{name}")))
    assert isinstance(turn, ModelTurn)
    assert turn.prompt == PROMPT
    assert turn.output == ANSWER
    assert (turn.input_tokens, turn.output_tokens, turn.finish_reason) == (97, 52, "stop")
    assert turn.more["provider"] == "openai"
    assert turn.more["response_model"] == "gpt-4-0613"


def test_a_captured_tool_span_is_a_tool_call() -> None:
    turn = turn_of(span_of(native("otel_genai/otel_genai_tool_execution_span.json")))
    assert isinstance(turn, ToolTurn)
    assert (turn.name, turn.args, turn.call_id) == ("get_weather", {"city": "New York"}, "1234")
    assert turn.result is not None
    assert "sunny" in turn.result


def test_captured_spans_of_the_vercel_sdk_are_model_calls_and_runs() -> None:
    found: dict[str, Any] = {}
    for one in native("otel_vercel_v6/all-spans.json"):
        ids = one["spanContext"]
        begin, end = (a * 10**9 + b for a, b in (one["startTime"], one["endTime"]))
        span = Span(ids["traceId"], ids["spanId"], one["name"], None, begin, end, one["attributes"])
        for run in runs_of([span]).runs.values():
            found.setdefault(one["name"], []).append(run)
    assert set(found) == {
        f"ai.{verb}{kind}"
        for verb, kind in (
            ("generate", "Text"), ("generate", "Text.doGenerate"), ("stream", "Text"),
            ("stream", "Text.doStream"), ("generate", "Object"), ("generate", "Object.doGenerate"),
        )
    }  # fmt: skip
    [haiku, _] = found["ai.generateText.doGenerate"]
    [turn] = haiku.turns
    assert (turn.input_tokens, turn.output_tokens, turn.finish_reason) == (14, 20, "stop")
    assert turn.prompt == (Message("user", "Write a haiku about programming."),)
    assert turn.output.text.startswith("Lines of code align")
    assert turn.more["response_id"].startswith("resp_")


ASK = {"id": "1234", "type": "function",
       "function": {"name": "get_weather", "arguments": '{"location":"Paris"}'}}  # fmt: skip
DIALECTS = {
    "numbered attributes": (
        {
            "llm.request.type": "chat", "gen_ai.request.model": "m",
            "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Weather in Paris?",
            "gen_ai.prompt.1.role": "assistant", "gen_ai.prompt.1.content": ASKS.text,
            "gen_ai.prompt.1.tool_calls.0.id": "1234",
            "gen_ai.prompt.1.tool_calls.0.name": "get_weather",
            "gen_ai.prompt.1.tool_calls.0.arguments": '{"location":"Paris"}',
            "gen_ai.prompt.2.role": "tool", "gen_ai.prompt.2.content": "rainy, 57°F",
            "gen_ai.prompt.2.tool_call_id": "1234", "gen_ai.prompt.name": "weather",
            "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": ANSWER.text,
        },
        (),
    ),
    "events of the span": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        (
            SpanEvent("gen_ai.user.message", None, {"content": "Weather in Paris?"}),
            SpanEvent("gen_ai.assistant.message", None,
                      {"content": ASKS.text, "tool_calls": json.dumps([ASK])}),
            SpanEvent("gen_ai.tool.message", None, {"content": "rainy, 57°F", "id": "1234"}),
            SpanEvent("gen_ai.choice", None, {
                "index": 0, "finish_reason": "stop",
                "message": json.dumps({"role": "assistant", "content": ANSWER.text}),
            }),
        ),
    ),
    "events in an attribute": (
        {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
            "events": json.dumps([
                {"event.name": "gen_ai.user.message", "content": "Weather in Paris?",
                 "role": "user", "gen_ai.message.index": 0},
                {"event.name": "gen_ai.assistant.message", "role": "assistant",
                 "content": ASKS.text, "tool_calls": [ASK]},
                {"event.name": "gen_ai.tool.message", "role": "tool", "id": "1234",
                 "content": "rainy, 57°F"},
                {"event.name": "gen_ai.choice", "index": 0,
                 "message": {"role": "assistant", "content": ANSWER.text}},
            ]),
        },
        (),
    ),
    "content events": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        (
            SpanEvent("gen_ai.content.prompt", None, {"gen_ai.prompt": json.dumps([
                {"role": "user", "content": "Weather in Paris?"},
                {"role": "assistant", "content": ASKS.text, "tool_calls": [ASK]},
                {"role": "tool", "content": "rainy, 57°F", "tool_call_id": "1234"},
            ])}),
            SpanEvent("gen_ai.content.completion", None, {"gen_ai.completion": json.dumps(
                [{"role": "assistant", "content": ANSWER.text}]
            )}),
        ),
    ),
    "details event": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        (
            SpanEvent("gen_ai.client.inference.operation.details", None, {
                "gen_ai.input.messages": [
                    {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]},
                    {"role": "assistant", "parts": [
                        {"type": "text", "content": ASKS.text},
                        {"type": "tool_call", "id": "1234", "name": "get_weather",
                         "arguments": {"location": "Paris"}},
                    ]},
                    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1234",
                                                "response": "rainy, 57°F"}]},
                ],
                "gen_ai.output.messages": [
                    {"role": "assistant", "finish_reason": "stop",
                     "parts": [{"type": "reasoning", "content": "Hm."},
                               {"type": "text", "content": ANSWER.text}]},
                ],
            }),
        ),
    ),
    "blocks of Anthropic": (
        {
            "openinference.span.kind": "LLM", "llm.model_name": "m",
            "input.value": json.dumps({"model": "m", "messages": [
                {"role": "user", "content": "Weather in Paris?"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": ASKS.text},
                    {"type": "tool_use", "id": "1234", "name": "get_weather",
                     "input": {"location": "Paris"}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1234",
                                              "content": [{"type": "text",
                                                           "text": "rainy, 57°F"}]}]},
            ]}),
            "output.value": json.dumps({"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": ANSWER.text},
            ]}),
        },
        (),
    ),
    "parts of the Vercel SDK": (
        {
            "ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m",
            "ai.prompt.messages": json.dumps([
                {"role": "user", "content": [{"type": "text", "text": "Weather in Paris?"}]},
                {"role": "assistant", "content": [
                    {"type": "text", "text": ASKS.text},
                    {"type": "tool-call", "toolCallId": "1234", "toolName": "get_weather",
                     "input": {"location": "Paris"}},
                ]},
                {"role": "tool", "content": [
                    {"type": "tool-result", "toolCallId": "1234",
                     "output": {"type": "text", "value": "rainy, 57°F"}},
                ]},
            ]),
            "ai.response.text": ANSWER.text,
        },
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_prompt_and_answer_are_found_wherever_a_dialect_keeps_them(dialect: str) -> None:
    attributes, events = DIALECTS[dialect]
    turn = turn_of(span_of(attributes, *events))
    assert isinstance(turn, ModelTurn)
    assert turn.prompt == PROMPT
    assert turn.output == ANSWER
    assert turn.model == "m"


def test_cached_tokens_are_part_of_the_prompt_and_unknown_ones_are_not_zero() -> None:
    told = {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 107, "gen_ai.usage.cache_creation.input_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": "40", "gen_ai.usage.output_tokens": True,
    }  # fmt: skip
    turn = turn_of(span_of(told))
    assert (turn.input_tokens, turn.output_tokens) == (107, None)
    assert (turn.more["cache_read_tokens"], turn.more["cache_write_tokens"]) == (40, 7)


def test_a_loop_of_the_anthropic_sdk_that_just_ends_was_at_its_limit() -> None:
    run = {"gen_ai.operation.name": "invoke_agent"}
    chat = {"gen_ai.operation.name": "chat", "anthropic.message.stop_reason": "tool_use"}
    spans = [
        Span("a" * 32, "1" * 16, "r", None, 1, 9, run, scope="anthropic@2.12"),
        Span("a" * 32, "2" * 16, "c", "1" * 16, 2, 3, chat, scope="anthropic@2.12"),
    ]
    [found] = runs_of(spans).runs.values()
    assert found.stop_reason == "max_iterations"


@pytest.mark.parametrize(
    "value", ["{", "[1, 2", "null", "17", [], {}, [None], [[]], {"role": 7}, [{"parts": 3}], "\x00"]
)
def test_contents_of_any_shape_are_read_or_left_out(value: Any) -> None:
    for name in ("gen_ai.input.messages", "input.value", "ai.prompt.messages", "gen_ai.prompt"):
        turn = turn_of(span_of({"gen_ai.operation.name": "chat", name: value}))
        assert all(isinstance(message, Message) for message in turn.prompt)
