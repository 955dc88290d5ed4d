"""The rules of served calls: nothing bypasses the gateway, nothing runs, time is virtual."""

from __future__ import annotations

import pytest

from flightlog.runtime.budget import Budget
from flightlog.runtime.calls import Served
from flightlog.runtime.policy import Policy
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, asking
from flightlog.trace.vocab import Effect, Outcome, ServedHow


class Table:
    """Serves by tool name and keeps what it was asked, in order."""

    def __init__(self, **answers: Served | None) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    def resolve(self, call):
        self.asked.append((call.request.name, call.call_ix))
        return self.answers[call.request.name]


def ok(result="served", latency_ms=100.0, **more):
    return Served(Outcome.OK, result, latency_ms=latency_ms, served_how=ServedHow.RECORDED, **more)


def test_served_write_is_not_executed_and_leaves_no_intent(play, rows, done):
    pay = FakeTool("pay", effect=Effect.WRITE)
    result = play(
        [asking(("pay", {})), done], [pay], executor=Table(pay=ok(served_from="r1", state_key="k"))
    )
    (row,) = rows("tool_call")
    assert (result.stop, pay.calls, rows("tool_intent")) == ("ok", [], [])
    assert (row.served_how, row.served_from, row.state_key) == (ServedHow.RECORDED, "r1", "k")
    assert (row.result, row.latency_ms) == ("served", 100.0)


def test_tool_without_a_function_can_be_served(play, done):
    assert play([asking(("a", {})), done], [Tool("a")], executor=Table(a=ok())).stop == "ok"


def test_calls_are_resolved_in_call_order_before_anything_runs(play, rows, done):
    table = Table(a=None, b=ok(), c=None)
    order = []
    a = FakeTool("a", lambda: order.append(list(table.asked)) or "live")
    play(
        [asking(("c", {}), ("a", {}), ("b", {})), done],
        [a, FakeTool("b"), FakeTool("c")],
        executor=table,
    )
    assert order == [[("c", 0), ("a", 1), ("b", 2)]]
    assert {row.tool_name: row.served_how.value for row in rows("tool_call")} == {
        "a": "live",
        "b": "recorded",
        "c": "live",
    }


def test_refused_calls_never_reach_the_executor(play, rows, done):
    table = Table(a=ok(), pay=ok())
    tools = [Tool("a"), Tool("pay", effect=Effect.WRITE), Tool("hidden")]
    policy = Policy(("a", "pay"), Budget(max_tool_calls=3))
    script = [asking(("hidden", {}), ("pay", {}), ("a", "bad"), ("a", {}), ("a", {})), done]
    tools[0] = Tool("a", effect=Effect.READ)
    play(script, tools, executor=table, policy=policy)
    assert table.asked == [("a", 3)]
    assert sorted((row.call_ix, row.outcome.value) for row in rows("tool_call")) == [
        (0, "denied"),
        (1, "approval_denied"),
        (2, "invalid_input"),
        (3, "ok"),
        (4, "budget"),
    ]


def test_batch_advances_the_virtual_clock_by_its_longest_member(play, rows, done):
    table = Table(a=ok(latency_ms=300.0), b=ok(latency_ms=200.0))
    result = play(
        [asking(("a", {}), ("b", {}), latency_ms=50.0), done],
        [Tool("a"), Tool("b")],
        executor=table,
    )
    assert result.usage.seconds == 0.35
    assert [row.elapsed_ms for row in rows("tool_call")] == [350.0, 350.0]


def test_served_call_past_the_deadline_is_cut_at_exactly_the_deadline(play, rows):
    budget = Budget(max_seconds=1)
    table = Table(a=ok(latency_ms=700.0, served_from="r1"))
    result = play([asking(("a", {})), asking(("a", {}))], [Tool("a")], budget, executor=table)
    assert (result.stop, result.usage.seconds) == ("max_seconds", 1.0)
    first, second = rows("tool_call")
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.TIMED_OUT)
    assert (second.latency_ms, second.result, second.served_from) == (300.0, None, "r1")


def test_served_call_that_ends_at_the_deadline_counts_and_then_the_run_stops(play, rows):
    table = Table(a=ok(latency_ms=1000.0))
    result = play([asking(("a", {}))], [Tool("a")], Budget(max_seconds=1), executor=table)
    assert (result.stop, rows("tool_call")[0].outcome) == ("max_seconds", Outcome.OK)


def test_timeout_of_the_tool_cuts_a_served_call_that_took_longer(play, rows, done):
    table = Table(a=ok(latency_ms=700.0))
    result = play([asking(("a", {})), done], [Tool("a", timeout_s=0.5)], executor=table)
    assert (result.stop, result.usage.seconds) == ("ok", 0.5)
    assert rows("tool_call")[0].error_type == "timeout"


def test_recorded_timeout_is_served_as_it_was(play, rows, done):
    late = Served(Outcome.TIMED_OUT, error="slow", error_type="deadline", latency_ms=501.0)
    result = play([asking(("a", {})), done], [Tool("a", timeout_s=0.5)], executor=Table(a=late))
    assert result.stop == "ok"
    assert (rows("tool_call")[0].error, rows("tool_call")[0].latency_ms) == ("slow", 501.0)


def test_recorded_failure_shows_the_model_what_it_showed_then(play, sink, done):
    failed = Served(Outcome.FAILED, error="no seat", error_type="SoldOutError", latency_ms=1.0)
    quoted = Served(Outcome.FAILED, result="Error: no seat", error="no seat", latency_ms=1.0)
    play(
        [asking(("a", {}), ("b", {})), done],
        [Tool("a"), Tool("b")],
        executor=Table(a=failed, b=quoted),
    )
    shown = {
        message.name: message.text for message in sink.messages.values() if message.role == "tool"
    }
    assert shown == {
        "a": '{"error":{"message":"no seat","type":"SoldOutError"}}',
        "b": "Error: no seat",
    }


@pytest.mark.parametrize(("kind", "stop"), [("string", "ok"), ("object", "invalid_tool_output:a")])
def test_output_schema_applies_to_served_results(play, done, kind, stop):
    tool = Tool("a", output_schema={"type": kind})
    assert play([asking(("a", {})), done], [tool], executor=Table(a=ok("text"))).stop == stop


def test_loosened_output_schema_makes_a_recorded_invalid_output_valid(play, rows, done):
    invalid = Served(
        Outcome.INVALID_OUTPUT, "text", error="not an object", error_type="invalid_output"
    )
    play([asking(("a", {})), done], [Tool("a")], executor=Table(a=invalid))
    assert (rows("tool_call")[0].outcome, rows("tool_call")[0].error) == (Outcome.OK, None)


def test_miss_stops_the_run_with_the_reason_of_the_executor(play, rows):
    why = "tool call 'a' has no match at step 1 of golden task 'refund-17'"
    result = play(
        [asking(("a", {}))], [Tool("a")], executor=Table(a=Served(Outcome.REPLAY_MISS, error=why))
    )
    assert (result.stop, result.stop_detail) == ("replay_miss:a", f"{why}.")
    assert (rows("tool_call")[0].outcome, rows("tool_call")[0].cost_usd) == (
        Outcome.REPLAY_MISS,
        None,
    )


def test_first_stop_in_call_order_is_the_stop_reason_and_every_call_has_a_row(play, rows):
    table = Table(
        a=ok(), b=Served(Outcome.REPLAY_MISS, error="b"), c=Served(Outcome.REPLAY_MISS, error="c")
    )
    script = [asking(("a", {}), ("b", {}), ("c", {}))]
    result = play(script, [Tool("a"), Tool("b"), Tool("c")], executor=table)
    assert result.stop == "replay_miss:b"
    assert [row.outcome.value for row in rows("tool_call")] == ["ok", "replay_miss", "replay_miss"]


def test_executor_that_leaves_a_tool_without_a_function_fails_the_call(play, rows, done):
    play([asking(("a", {})), done], [Tool("a", effect=Effect.READ)], executor=Table(a=None))
    assert rows("tool_call")[0].error_type == "no_function"


def test_two_replays_give_the_same_events_to_the_byte(done):
    from flightlog.runtime.loop import RunContext
    from flightlog.testing import MemorySink, make_run
    from flightlog.trace.events import encode_event

    tables = []
    for _ in range(2):
        sink = MemorySink()
        make_run(sink, context=RunContext("same"))
        tables.append([encode_event(event) for event in sink.events])
    assert tables[0] == tables[1]
