"""Declared write-through: reads that a write's own result answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flightlog.errors import ToolDefinitionError
from flightlog.replay.cassette import Recording
from flightlog.replay.matching import Rules, ToolRule
from flightlog.runtime.calls import Served
from flightlog.runtime.tools import Tool, tool
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, ServedHow
from tests.unit.replay.world import Call, executor_over, pending, write_call

GET: Call = ("get", {"id": "a"})
SET: Call = ("set", {"id": "a", "value": 2})
READ = Tool("get", effect=Effect.READ, scopes=("item:{id}",))
OLD, NEW = '{"id": "a", "value": 1}', '{"id": "a", "value": 2}'


def _tools(write_through: Any, **write: Any) -> tuple[Tool, ...]:
    declared: dict[str, Any] = {"effect": Effect.WRITE, "scopes": ("item:{id}",), **write}
    return (
        READ,
        Tool("set", write_through=write_through, **declared),
        Tool("touch", effect=Effect.WRITE, scopes=("item:{id}",)),
    )


SAME_ID = _tools({"get": {"id": "id"}})


def _recording(*answers: tuple[Call, str | Served]) -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for step, (call, answer) in enumerate(answers, 1):
        served = Served(Outcome.OK, answer) if isinstance(answer, str) else answer
        write_call(writer, *call, served, step=step)
    return Recording(tuple(sink.events))


def _served(recording: Recording, *calls: Call, tools: tuple[Tool, ...] = SAME_ID) -> list[Served]:
    executor = executor_over(recording, tools=tools)
    return [executor.resolve(pending(*call, tools=tools)) for call in calls]


def test_read_added_after_a_write_is_answered_by_the_writes_result() -> None:
    *_, read = _served(_recording((GET, OLD), (SET, NEW)), GET, SET, GET)
    assert (read.outcome, read.result) == (Outcome.OK, NEW)
    assert (read.served_how, read.served_from) == (ServedHow.DERIVED, "rec")


def test_recorded_answer_beats_the_derived_one() -> None:
    recording = _recording((SET, NEW), (GET, Served(Outcome.OK, NEW, latency_ms=40.0)))
    _, read = _served(recording, SET, GET)
    assert (read.served_how, read.latency_ms) == (ServedHow.RECORDED, 40.0)


def test_derived_answer_takes_the_reads_median_latency() -> None:
    recording = _recording((GET, Served(Outcome.OK, OLD, latency_ms=40.0)), (SET, NEW))
    assert _served(recording, GET, SET, GET)[-1].latency_ms == 40.0


def test_later_write_to_what_the_read_reads_makes_the_answer_unusable() -> None:
    touch: Call = ("touch", {"id": "a"})
    recording = _recording((SET, NEW), (touch, "touched"))
    assert _served(recording, SET, touch, GET)[-1].outcome is Outcome.REPLAY_MISS


def test_write_to_another_scope_leaves_the_answer_usable() -> None:
    touch: Call = ("touch", {"id": "b"})
    recording = _recording((SET, NEW), (touch, "touched"))
    assert _served(recording, SET, touch, GET)[-1].result == NEW


def test_read_with_other_arguments_is_not_answered() -> None:
    other: Call = ("get", {"id": "b"})
    assert _served(_recording((SET, NEW)), SET, other)[-1].outcome is Outcome.REPLAY_MISS


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_write_that_did_not_surely_work_answers_nothing(outcome: Outcome) -> None:
    recording = _recording((SET, Served(outcome, error="down")))
    assert _served(recording, SET, GET)[-1].outcome is Outcome.REPLAY_MISS


def test_argument_from_the_result_reads_what_was_created() -> None:
    tools = (
        READ,
        Tool(
            "create",
            effect=Effect.WRITE,
            scopes=("item:{result.id}",),
            write_through={"get": {"id": "result.id"}},
        ),
    )
    create: Call = ("create", {"value": 1})
    _, read = _served(
        _recording((create, '{"id":"n1"}')), create, ("get", {"id": "n1"}), tools=tools
    )
    assert read.result == '{"id":"n1"}'


@pytest.mark.parametrize("indent", [None, 2])
def test_part_of_the_result_is_written_as_the_tool_writes(indent: int | None) -> None:
    tools = _tools({"get": {"args": {"id": "id"}, "answer": "result.item"}})
    item = {"id": "a", "name": "Zoë"}
    recording = _recording((SET, json.dumps({"item": item}, indent=indent)))
    assert _served(recording, SET, GET, tools=tools)[-1].result == json.dumps(item, indent=indent)


def test_part_that_the_result_lacks_is_a_miss() -> None:
    tools = _tools({"get": {"args": {"id": "id"}, "answer": "result.item"}})
    assert _served(_recording((SET, NEW)), SET, GET, tools=tools)[-1].outcome is Outcome.REPLAY_MISS


def test_write_that_does_not_touch_what_the_read_reads_answers_nothing() -> None:
    tools = _tools({"get": {"id": "id"}}, scopes=("elsewhere",))
    assert _served(_recording((SET, NEW)), SET, GET, tools=tools)[-1].outcome is Outcome.REPLAY_MISS


def test_consuming_read_is_never_derived() -> None:
    tools = (
        Tool("get", effect=Effect.READ, scopes=("item:{id}",), is_consuming=True),
        SAME_ID[1],
    )
    assert _served(_recording((SET, NEW)), SET, GET, tools=tools)[-1].outcome is Outcome.REPLAY_MISS


@pytest.mark.parametrize(
    ("write_through", "told"),
    [
        ({"get": "id"}, "does not say where"),
        ({"get": {"id": "result["}}, "does not name an argument"),
        ({"get": {"id": 1}}, "does not name an argument"),
        ({"get": {"args": {"id": "id"}, "answer": "value"}}, "is not 'result'"),
        ({"get": {"args": {"id": "id"}, "anser": "result"}}, "unknown key 'anser'"),
    ],
)
def test_malformed_declaration_is_refused_by_name(write_through: Any, told: str) -> None:
    with pytest.raises(ToolDefinitionError, match=told) as raised:
        Rules(_tools(write_through))
    assert raised.value.where == "tool 'set'"
    assert "order_id: result.id" in raised.value.hint


def test_only_a_write_has_write_through() -> None:
    declared = Tool("look", effect=Effect.READ, write_through={"get": {"id": "id"}})
    with pytest.raises(ToolDefinitionError, match="effect is read"):
        ToolRule.of(declared)


def test_declaration_goes_through_decorator_and_recorded_toolset() -> None:
    @tool(effect="write", scopes=["item:{key}"], write_through={"get": {"id": "key"}})
    def put(key: str) -> str:
        return key

    again = Tool.from_declaration(json.loads(json.dumps(put.declaration())))
    assert again.write_through == {"get": {"id": "key"}}
