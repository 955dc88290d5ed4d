"""Spans become runs: whoever emitted them, in whatever order they come."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from flightlog.integrations.importers.foreign_run import (
    ForeignRun,
    ModelTurn,
    Tally,
    ToolTurn,
    write_run,
)
from flightlog.integrations.otlp.runs import NO_ROOT, Trace, run_id_of, runs_of
from flightlog.integrations.otlp.spans import spans_of_json
from flightlog.runtime.prices import Price, PriceTable
from flightlog.trace.events import Evaluation, ModelCall, RunStarted, RunStopped, ToolCall
from flightlog.trace.sink import MemorySink
from tests.unit.integrations.otlp.made_spans import agent_spans, export_request, span

TRACE = "c" * 32


def trace_of(*spans: dict[str, Any], scope: str = "made", **how: Any) -> Trace:
    request = json.dumps(export_request(list(spans), scope=scope)).encode()
    return runs_of(spans_of_json(request).spans, **how)


def run_of(*spans: dict[str, Any], scope: str = "made", **how: Any) -> ForeignRun:
    [run] = trace_of(*spans, scope=scope, **how).runs.values()
    return run


def events_of(run: ForeignRun) -> list[Any]:
    sink = MemorySink()
    write_run(run, sink, Tally())
    return sink.events


def chat(number: int, *, parent: int | None = None, start_ms: float = 0, **more: Any) -> Any:
    more = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "m", **more}
    return span(TRACE, number, "chat m", parent=parent, start_ms=start_ms, **more)


def tool(number: int, *, parent: int | None = None, start_ms: float = 0, **more: Any) -> Any:
    more = {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": "t", **more}
    return span(TRACE, number, "execute_tool t", parent=parent, start_ms=start_ms, **more)


def agent(number: int, name: str, *, parent: int | None = None, **more: Any) -> Any:
    more = {"gen_ai__operation__name": "invoke_agent", "gen_ai__agent__name": name, **more}
    return span(TRACE, number, f"invoke_agent {name}", parent=parent, ms=1_000, **more)


def test_a_run_of_the_current_convention_fills_its_columns() -> None:
    started, first, called, second, stopped = events_of(run_of(*agent_spans(TRACE, "R1")))
    assert isinstance(started, RunStarted)
    assert (started.agent, started.model, started.conversation_id) == ("desk", "model-a", "conv-1")
    assert started.system_digest is not None
    assert isinstance(first, ModelCall)
    assert (first.provider, first.request_model, first.response_model) == (
        "openai", "model-a", "model-a-2026",
    )  # fmt: skip
    assert (first.input_tokens, first.output_tokens, first.cache_read_tokens) == (120, 9, 100)
    assert (first.finish_reason, first.response_id, first.tool_requests) == ("tool_call", "r1", 1)
    assert (first.latency_ms, first.time_to_first_token_ms) == (500.0, 200.0)
    assert (first.prompt_messages, second.prompt_messages) == (2, 4)
    assert (second.prompt_kept, second.prompt_base_seq) == (2, 1)
    assert isinstance(called, ToolCall)
    assert (called.tool_name, called.tool_call_id, called.args) == (
        "get_order",
        "c1",
        '{"id":"R1"}',
    )
    assert (called.result, called.outcome, called.step, called.call_ix) == ("shipped", "ok", 1, 0)
    assert isinstance(stopped, RunStopped)
    assert (stopped.stop_reason, stopped.answer) == ("ok", "It is on its way.")
    assert stopped.duration_ms == 850.0


def test_a_failed_tool_is_a_failure_with_its_class() -> None:
    [called] = [
        e for e in events_of(run_of(*agent_spans(TRACE, "R", fails=True))) if type(e) is ToolCall
    ]
    assert (called.outcome, called.error, called.error_type, called.result) == (
        "failed", "the index is down", "IndexError", None,
    )  # fmt: skip


def test_the_order_in_which_spans_come_does_not_matter() -> None:
    spans = agent_spans(TRACE, "R1")
    wanted = events_of(run_of(*spans))
    for seed in range(5):
        random.Random(seed).shuffle(spans)
        assert events_of(run_of(*spans)) == wanted


def test_the_same_trace_is_the_same_run_wherever_it_is_read() -> None:
    run = run_of(*agent_spans(TRACE, "R1"))
    assert run.run_id == run_id_of(TRACE, f"{1:016x}")
    assert run.source_run_id == f"{TRACE}/{1:016x}"


def test_a_sub_agent_is_a_run_of_its_own_with_its_parent() -> None:
    trace = trace_of(
        agent(1, "boss"), chat(2, parent=1), tool(3, parent=1, start_ms=20),
        agent(4, "helper", parent=3), chat(5, parent=4, start_ms=25),
        chat(6, parent=1, start_ms=50),
    )  # fmt: skip
    boss, helper = (trace.runs[f"{number:016x}"] for number in (1, 4))
    assert [type(turn) for turn in boss.turns] == [ModelTurn, ToolTurn, ModelTurn]
    assert [type(turn) for turn in helper.turns] == [ModelTurn]
    assert helper.started["parent_run_id"] == boss.run_id
    assert (boss.started["agent"], helper.started["agent"]) == ("boss", "helper")
    assert boss.started["parent_run_id"] is None


def test_calls_without_an_agent_belong_to_the_top_of_their_trace() -> None:
    trace = trace_of(
        span(TRACE, 1, "POST /ask", ms=100), span(TRACE, 2, "handler", parent=1, ms=90),
        chat(3, parent=2), tool(4, parent=2, start_ms=20),
    )  # fmt: skip
    [(owner, run)] = trace.runs.items()
    assert owner == f"{1:016x}"
    assert len(run.turns) == 2
    assert trace.others == 2
    assert run.stop_reason == "completed"


def test_a_trace_without_agents_and_calls_is_no_run() -> None:
    trace = trace_of(span(TRACE, 1, "GET /health"), span(TRACE, 2, "sql", parent=1))
    assert (trace.runs, trace.others) == ({}, 2)


def test_spans_whose_top_is_missing_are_a_run_that_does_not_say_how_it_ended() -> None:
    trace = trace_of(chat(2, parent=1), tool(3, parent=1, start_ms=20))
    [(owner, run)] = trace.runs.items()
    assert owner == f"{1:016x}"
    assert run.labels["otlp"] == NO_ROOT
    stopped = events_of(run)[-1]
    assert (type(stopped), stopped.stop_reason) == (RunStopped, None)


def test_a_call_that_two_instrumentations_saw_is_one_call() -> None:
    trace = trace_of(
        agent(1, "a"),
        chat(2, parent=1, gen_ai__conversation__id="conv", gen_ai__usage__input_tokens=7),
        chat(3, parent=2, gen_ai__response__id="r", gen_ai__usage__output_tokens=3),
        tool(4, parent=1, start_ms=30, gen_ai__tool__call__arguments='{"q": 1}'),
        span(TRACE, 5, "tools/call t", parent=4, start_ms=31, mcp__method__name="tools/call",
             gen_ai__tool__call__result="found"),
    )  # fmt: skip
    [run] = trace.runs.values()
    model, called = run.turns
    assert isinstance(model, ModelTurn)
    assert (model.input_tokens, model.output_tokens, model.more["response_id"]) == (7, 3, "r")
    assert isinstance(called, ToolTurn)
    assert (called.args, called.result) == ({"q": 1}, "found")
    assert trace.merged == 2


def test_attempts_within_one_call_are_calls_of_their_own() -> None:
    trace = trace_of(
        agent(1, "a"), chat(2, parent=1), chat(3, parent=2, error__type="RateLimitError"),
        chat(4, parent=2, start_ms=20, http__request__resend_count=1),
    )  # fmt: skip
    [run] = trace.runs.values()
    events = [event for event in events_of(run) if type(event) is ModelCall]
    assert [(event.outcome, event.attempt) for event in events] == [("failed", 1), ("ok", 2)]
    assert "RateLimitError" in events[0].error


@pytest.mark.parametrize(
    ("error_type", "text", "reason"),
    [
        ("langgraph.errors.GraphRecursionError", "limit of 25", "max_steps"),
        ("agents.exceptions.MaxTurnsExceeded", "Max turns (10)", "max_steps"),
        (
            "pydantic_ai.exceptions.UsageLimitExceeded",
            "exceed the request_limit of 50",
            "max_steps",
        ),
        ("UsageLimitExceeded", "would exceed the tool_calls_limit of 1", "max_tool_calls"),
        ("UsageLimitExceeded", "Exceeded the total_tokens_limit of 9", "max_tokens"),
        ("openai.RateLimitError", "429", "model_error"),
        ("asyncio.exceptions.CancelledError", "", "cancelled"),
        ("ZeroDivisionError", "division by zero", "crashed"),
    ],
)
def test_the_stops_of_frameworks_are_ours(error_type: str, text: str, reason: str) -> None:
    raised = {
        "name": "exception",
        "attributes": {"exception.type": error_type, "exception.message": text},
    }
    run = run_of(
        span(TRACE, 1, "invoke_agent a", error=text, events=[raised],
             gen_ai__operation__name="invoke_agent"), chat(2, parent=1),
    )  # fmt: skip
    stopped = events_of(run)[-1]
    assert stopped.stop_reason == reason
    assert stopped.source_stop_reason is not None


def test_a_judgement_on_a_span_is_one_of_its_run() -> None:
    judged = {
        "name": "gen_ai.evaluation.result",
        "attributes": {
            "gen_ai.evaluation.name": "helpful", "gen_ai.evaluation.score.value": 0.75,
            "gen_ai.evaluation.score.label": "pass", "gen_ai.evaluation.explanation": "Short.",
        },
    }  # fmt: skip
    found = events_of(run_of(agent(1, "a", events=[judged]), chat(2, parent=1)))[-1]
    assert isinstance(found, Evaluation)
    assert (found.name, found.passed, found.score, found.detail) == (
        "helpful",
        True,
        0.75,
        "Short.",
    )


def test_a_call_without_a_cost_is_priced_by_its_model_and_one_with_a_cost_is_not() -> None:
    prices = PriceTable({"m": Price(10.0, 20.0, price_id="own")}, use_public=False)
    tokens = {"gen_ai__usage__input_tokens": 100_000, "gen_ai__usage__output_tokens": 50_000}
    run = run_of(
        agent(1, "a"), chat(2, parent=1, **tokens),
        chat(3, parent=1, start_ms=20, llm__cost__total=0.5, **tokens),
        chat(4, parent=1, start_ms=40, gen_ai__request__model="unheard-of", **tokens),
        prices=prices,
    )  # fmt: skip
    costs = [(e.cost_usd, e.price_id) for e in events_of(run) if type(e) is ModelCall]
    assert costs == [(2.0, "own"), (0.5, None), (None, None)]


def test_spans_that_come_later_find_their_run() -> None:
    spans = agent_spans(TRACE, "R1")
    first = trace_of(*spans[:2], spans[3])
    late = trace_of(spans[2], owners=first.owners)
    [(owner, run)] = late.runs.items()
    assert owner == f"{1:016x}"
    assert len(run.turns) == 1


def test_the_top_of_a_trace_that_comes_last_ends_its_run() -> None:
    spans = agent_spans(TRACE, "R1")
    first = trace_of(*spans[:3])
    late = trace_of(spans[3], owners=first.owners)
    assert set(first.runs) == set(late.runs) == {f"{1:016x}"}
    assert late.runs[f"{1:016x}"].stop_reason == "completed"


def test_spans_that_are_their_own_parents_are_read() -> None:
    trace = trace_of(chat(2, parent=3), chat(3, parent=2, start_ms=20), chat(4, parent=4))
    assert {run.source_run_id[-1]: len(run.turns) for run in trace.runs.values()} == {
        "2": 1, "4": 1,
    }  # fmt: skip
    assert trace.merged == 1


def test_a_clock_that_goes_back_gives_no_latency() -> None:
    broken = chat(2, parent=1, ms=-50)
    far = chat(3, parent=1, start_ms=365 * 86_400_000.0)
    turns = run_of(agent(1, "a"), broken, far).turns
    assert [turn.latency_ms for turn in turns if isinstance(turn, ModelTurn)] == [None, 10.0]
