"""The rules of the gateway: default deny, order of the checks, every refusal a row."""

from __future__ import annotations

import json
import threading

import pytest

from flightlog.errors import ConfigError
from flightlog.runtime.budget import Budget
from flightlog.runtime.calls import PendingCall, Served
from flightlog.runtime.guards import GuardPolicy
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.policy import DEFAULT_STOP_ON, Decision, Policy, approve_all
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, MemorySink, asking
from flightlog.trace.events import RunStopped, ToolCall, ToolIntent
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect, Outcome, ServedHow


@pytest.fixture
def observe(play, rows, sink):
    """Plays one call and gives its row and what the model saw."""

    def observe_call(tools, name, args=None, **more):
        play([asking((name, {} if args is None else args)), ModelResponse("done")], tools, **more)
        (row,) = rows("tool_call")
        shown = [message.text for message in sink.messages.values() if message.role == "tool"]
        return row, shown[0] if shown else None

    return observe_call


def error_of(text):
    return json.loads(text)["error"]


def test_unknown_tool_is_denied_with_the_nearest_name(observe):
    row, shown = observe([FakeTool("search_orders")], "search_order")
    assert (row.outcome, row.error_type, row.served_how) == (Outcome.DENIED, "unknown_tool", None)
    assert error_of(shown) == {
        "type": "unknown_tool",
        "message": "there is no tool 'search_order'; nearest: search_orders",
    }


def test_tool_that_is_not_allowed_is_denied_and_not_called(observe):
    tool = FakeTool("drop_table")
    row, shown = observe([tool], "drop_table", policy=Policy(("search",)))
    assert (row.outcome, error_of(shown)["type"]) == (Outcome.DENIED, "tool_not_allowed")
    assert tool.calls == []


def test_empty_policy_denies_everything(observe):
    row, _ = observe([FakeTool("a")], "a", policy=Policy())
    assert row.outcome is Outcome.DENIED


def test_glob_counts_only_where_one_is_written():
    assert Policy(("get_*",)).allows("get_order")
    assert not Policy(("get_",)).allows("get_order")
    assert not Policy(("get_order",)).allows("GET_ORDER")
    assert not Policy(("get_*",)).allows("forget_all")


def test_denied_tool_stops_the_run_only_if_the_policy_says_so(play):
    script = [asking(("finds", {})), ModelResponse("done")]
    assert play(script, [FakeTool("find")]).stop == "ok"
    policy = Policy(("find",), stop_on=DEFAULT_STOP_ON | {Outcome.DENIED})
    result = play(script, [FakeTool("find")], policy=policy)
    assert result.stop == "tool_denied:finds"
    assert result.stop_detail == (
        "tool call 'finds' at step 1: there is no tool 'finds'; nearest: find."
    )


@pytest.mark.parametrize(
    ("args", "flag"),
    [
        ('{"x": ', "unparsable"),
        ('{"x": 1, "x": 2}', "duplicate_keys"),
        ('{"x": NaN}', "non_finite"),
        ("[1]", "not_an_object"),
        ('"x"', "not_an_object"),
    ],
)
def test_arguments_that_are_not_one_clean_object_are_invalid_input(observe, args, flag):
    tool = FakeTool("a")
    row, shown = observe([tool], "a", args)
    assert (row.outcome, row.args_flag, row.args) == (Outcome.INVALID_INPUT, flag, args)
    assert error_of(shown)["type"] == flag
    assert tool.calls == []


def test_arguments_against_the_schema_are_invalid_input_and_named(observe):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    tool = FakeTool("a", input_schema=schema)
    row, shown = observe([tool], "a", {"n": 0})
    assert row.outcome is Outcome.INVALID_INPUT
    assert error_of(shown)["message"] == "n: 0 is less than the minimum of 1"
    assert tool.calls == []


def test_no_arguments_at_all_are_an_empty_object(observe):
    tool = FakeTool("a")
    row, _ = observe([tool], "a", "")
    assert (row.outcome, tool.calls) == (Outcome.OK, [{}])


def test_function_gets_canonical_arguments_with_defaults_and_volatile_ones(observe):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "size": {"default": [5]}}}
    tool = FakeTool("a", input_schema=schema, volatile=("trace_id",))
    row, _ = observe([tool], "a", '{"trace_id": "t", "n": 3.0}')
    assert tool.calls == [{"n": 3, "size": [5], "trace_id": "t"}]
    assert row.args == '{"n":3,"size":[5]}'


def test_function_cannot_change_a_default_of_the_schema():
    schema = {"type": "object", "properties": {"ids": {"default": []}}}
    tool = Tool("a", input_schema=schema)
    call = PendingCall.of(ToolRequest("1", "a", "{}"), tool, step=1, call_ix=0)
    call.values()["ids"].append("x")
    assert call.values() == {"ids": []}
    assert schema["properties"]["ids"]["default"] == []


def test_write_without_an_approver_is_denied(observe):
    tool = FakeTool("pay", effect=Effect.WRITE)
    row, _ = observe([tool], "pay", policy=Policy(("pay",)))
    assert (row.outcome, tool.calls) == (Outcome.APPROVAL_DENIED, [])


def test_unknown_effect_counts_as_a_write(observe):
    row, _ = observe([FakeTool("a", effect=Effect.UNKNOWN)], "a", policy=Policy(("a",)))
    assert row.outcome is Outcome.APPROVAL_DENIED


@pytest.mark.parametrize("effect", [Effect.READ, Effect.PURE])
def test_reads_need_no_approval_and_leave_no_intent(observe, rows, effect):
    row, _ = observe([FakeTool("a", effect=effect)], "a", policy=Policy(("a",)))
    assert (row.outcome, rows("tool_intent")) == (Outcome.OK, [])


def test_approver_sees_the_arguments_and_its_answer_is_recorded(observe, rows):
    asked = []

    def approve(request):
        asked.append((request.tool, request.args, request.step))
        return True

    tool = FakeTool("pay", effect=Effect.WRITE)
    row, _ = observe([tool], "pay", {"usd": 5}, policy=Policy(("pay",), approver=approve))
    assert asked == [("pay", {"usd": 5}, 1)]
    assert row.outcome is Outcome.OK
    (change,) = rows("state_changed")
    assert (change.subject, change.tool_name, change.state_to) == ("approval", "pay", "approved")
    assert change.detail == f"arguments {row.args_digest}"


@pytest.mark.parametrize("answer", [False, None, 1, "yes", ["x"]])
def test_anything_but_true_is_a_no(observe, rows, answer):
    tool = FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=lambda request: answer)
    row, _ = observe([tool], "pay", policy=policy)
    assert (row.outcome, tool.calls) == (Outcome.APPROVAL_DENIED, [])
    assert rows("state_changed")[0].state_to == "denied"


def test_failing_approver_is_a_no(observe):
    def approve(request):
        raise ConnectionError("pager is down")

    tool = FakeTool("pay", effect=Effect.WRITE)
    row, _ = observe([tool], "pay", policy=Policy(("pay",), approver=approve))
    assert row.outcome is Outcome.APPROVAL_DENIED
    assert "pager is down" in row.error


def test_async_approver_is_refused():
    async def approve(request):
        return True

    with pytest.raises(ConfigError, match="async"):
        Policy(("pay",), approver=approve)


def test_writes_run_without_questions_where_no_approval_is_required(observe):
    row, _ = observe(
        [FakeTool("pay", effect=Effect.WRITE)],
        "pay",
        policy=Policy(("pay",), require_approval=False),
    )
    assert row.outcome is Outcome.OK


def test_intent_comes_before_the_write_and_names_it(observe, sink):
    seen = []

    def pay(usd):
        seen.append([type(event).__name__ for event in sink.events])
        return "paid"

    row, _ = observe([FakeTool("pay", pay, effect=Effect.WRITE)], "pay", {"usd": 5})
    assert seen[0][-1] == "ToolIntent"
    intent = next(event for event in sink.events if isinstance(event, ToolIntent))
    assert (intent.tool_name, intent.args, intent.args_digest) == ("pay", row.args, row.args_digest)
    assert (intent.step, intent.call_ix, intent.tool_call_id) == (1, 0, "call_0")


class NoDurableSink(MemorySink):
    """A disk that is full when it matters."""

    def emit(self, event, *, messages=(), durable=False):
        super().emit(event, messages=messages, durable=durable)
        return not isinstance(event, ToolIntent)


def test_write_whose_intent_cannot_be_made_durable_is_not_called():
    from flightlog.runtime.agent import Agent
    from flightlog.runtime.loop import run
    from flightlog.runtime.task import Task
    from flightlog.testing import ScriptedModel

    pay, read = FakeTool("pay", effect=Effect.WRITE), FakeTool("read")
    policy = Policy(("pay", "read"), approver=approve_all)
    model = ScriptedModel("m", [asking(("pay", {}), ("read", {})), ModelResponse("x")])
    sink = NoDurableSink()
    result = run(Agent("a", model, [pay, read], policy=policy), Task("t", "go"), sink=sink)
    assert (pay.calls, read.calls) == ([], [{}])
    assert (result.stop, result.status) == ("recorder_failed", "failed")
    rows = [event for event in sink.events if isinstance(event, ToolCall)]
    outcomes = {row.tool_name: row.outcome for row in rows}
    assert outcomes == {"pay": Outcome.FAILED, "read": Outcome.OK}
    assert isinstance(sink.events[-1], RunStopped)


@pytest.mark.parametrize("answer", [None, Served(Outcome.REPLAY_MISS, error="no match")])
def test_call_that_is_not_made_after_its_checks_gives_its_declared_cost_back(play, answer):
    class Executor:
        def resolve(self, call):
            return answer

    tool = Tool("a", effect=Effect.READ, cost_usd=0.5)
    script = [asking(("a", {}), usage=Usage(1, 1), cost_usd=0.25)]
    script.append(ModelResponse("x", usage=Usage(1, 1), cost_usd=0.0))
    result = play(script, [tool], executor=Executor())
    assert (result.usage.tool_calls, result.usage.usd) == (1, 0.25)


def test_dropped_events_do_not_take_a_reading_agent_down():
    class DeadSink(MemorySink):
        def emit(self, event, *, messages=(), durable=False):
            return False

    from flightlog.testing import make_run

    assert make_run(DeadSink()).stop == "ok"


def test_order_of_the_checks(play, rows):
    """Allowlist, then budget, then input, then approval: the first one answers."""
    pay = FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), Budget(max_tool_calls=2))
    play([asking(("no", "bad"), ("pay", "bad"), ("pay", {}), ("pay", "bad"))], [pay], policy=policy)
    assert [row.outcome.value for row in rows("tool_call")] == [
        "denied",
        "invalid_input",
        "approval_denied",
        "budget",
    ]


def test_failing_tool_is_a_typed_observation_and_the_run_goes_on(observe):
    row, shown = observe([FakeTool("a", [KeyError("order 7")])], "a")
    assert (row.outcome, row.error, row.error_type) == (Outcome.FAILED, "'order 7'", "KeyError")
    assert (row.result, row.served_how) == (None, ServedHow.LIVE)
    assert error_of(shown) == {"type": "KeyError", "message": "'order 7'"}


def test_exception_that_cannot_say_what_it_is_shows_its_class(observe):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("mute")

    row, shown = observe([FakeTool("a", [MuteError()])], "a")
    assert (row.outcome, row.error, row.error_type) == (Outcome.FAILED, "MuteError", "MuteError")
    assert error_of(shown)["message"] == "MuteError"


def test_long_text_of_an_exception_is_cut_for_model_and_trace(observe):
    row, shown = observe([FakeTool("a", [ValueError("x" * 1_000_000)])], "a")
    assert row.error.endswith("x... (1000000 characters)")
    assert len(shown) < 11_000


def test_tool_that_exits_is_only_a_failed_call(observe):
    def leave():
        raise SystemExit(3)

    row, _ = observe([FakeTool("a", leave)], "a")
    assert (row.outcome, row.error_type) == (Outcome.FAILED, "SystemExit")


def test_arguments_that_the_function_does_not_take_fail_the_call(observe):
    row, _ = observe([Tool("a", lambda x: x, effect=Effect.READ)], "a", {"y": 1})
    assert (row.outcome, row.error_type) == (Outcome.FAILED, "TypeError")


@pytest.mark.parametrize("result", [float("nan"), object(), {1: 2}, {"x": {1, 2}}, b"raw"])
def test_result_without_a_json_form_is_invalid_output_and_stops(play, rows, result):
    ended = play([asking(("a", {})), ModelResponse("x")], [FakeTool("a", [result])])
    assert rows("tool_call")[0].outcome is Outcome.INVALID_OUTPUT
    assert "has no JSON form" in rows("tool_call")[0].error
    assert ended.stop == "invalid_tool_output:a"


class Changing(dict[str, int]):
    """As a dictionary that another thread changes while it is read."""

    def items(self):
        raise RuntimeError("dictionary changed size during iteration")


def test_result_that_cannot_be_read_is_invalid_output_and_not_a_crash(play, rows):
    result = play([asking(("a", {}))], [FakeTool("a", [Changing(a=1)])])
    assert result.stop == "invalid_tool_output:a"
    (row,) = rows("tool_call")
    assert "dictionary changed size" in row.error


def test_arguments_nested_too_deeply_for_the_schema_are_invalid_input(observe):
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    deep = '{"child":' * 400 + "{}" + "}" * 400
    row, _ = observe([FakeTool("a", input_schema=schema)], "a", deep)
    assert (row.outcome, row.error) == (Outcome.INVALID_INPUT, "nested too deeply to be checked")


def test_result_against_the_output_schema_is_invalid_output_and_kept_in_the_row(play, rows):
    schema = {"type": "object", "required": ["id"]}
    ended = play([asking(("a", {}))], [FakeTool("a", [{"x": 1}], output_schema=schema)])
    (row,) = rows("tool_call")
    assert (row.outcome, row.result) == (Outcome.INVALID_OUTPUT, '{"x":1}')
    assert row.error == "'id' is a required property"
    assert ended.stop == "invalid_tool_output:a"
    assert ended.stop_detail == "tool call 'a' at step 1: 'id' is a required property."


def test_invalid_output_goes_to_the_model_as_an_error_where_it_does_not_stop(observe):
    tool = FakeTool("a", [{"x": 1}], output_schema={"type": "object", "required": ["id"]})
    _, shown = observe([tool], "a", policy=Policy(("a",), stop_on=frozenset()))
    assert error_of(shown)["type"] == "invalid_output"


def test_result_above_the_limit_is_invalid_output_and_not_kept(play, rows):
    policy = Policy(("a",), max_result_bytes=10)
    assert (
        play([asking(("a", {}))], [FakeTool("a", ["é" * 6])], policy=policy).stop
        == "invalid_tool_output:a"
    )
    (row,) = rows("tool_call")
    assert (row.result, row.error) == (None, "the result has 12 bytes, above max_result_bytes=10")


def test_lone_surrogates_become_valid_text(observe):
    row, shown = observe([FakeTool("a", ["x\ud800y"])], "a")
    shown.encode()
    assert row.outcome is Outcome.OK


def test_fifty_parallel_calls_all_run_and_keep_their_places(play, rows, sink):
    gate = threading.Barrier(50, timeout=20)

    def wait(n):
        gate.wait()  # passes only when all fifty run at the same time
        return n

    tool = FakeTool("a", wait)
    script = [asking(*[("a", {"n": n}) for n in range(50)]), ModelResponse("done")]
    result = play(script, [tool], Budget(max_tool_calls=50))
    assert (result.stop, result.usage.tool_calls) == ("ok", 50)
    assert {row.call_ix: row.result for row in rows("tool_call")} == {n: str(n) for n in range(50)}
    assert [event.seq for event in sink.events] == list(range(len(sink.events)))


# One call of a step stops the run: what becomes of the others, and whose reason it is


def test_other_calls_of_a_step_are_made_where_one_waits_for_an_approval(play, rows):
    def approve(request):
        return Decision.PENDING if request.tool == "pay" else True

    tools = [
        FakeTool("look"),
        FakeTool("pay", effect=Effect.WRITE),
        FakeTool("note", effect=Effect.WRITE),
    ]
    calls = asking(("look", {}), ("pay", {}), ("note", {}))
    result = play([calls], tools, policy=Policy(("*",), approver=approve))
    assert {row.tool_name: row.outcome for row in rows("tool_call")} == {
        "pay": Outcome.APPROVAL_DENIED,
        "look": Outcome.OK,
        "note": Outcome.OK,
    }
    assert (result.stop, [len(tool.calls) for tool in tools]) == ("approval_pending:pay", [1, 0, 1])


@pytest.mark.parametrize(
    ("order", "stop"),
    [
        (("pay", "broken", "look"), "approval_pending:pay"),
        (("broken", "pay", "look"), "tool_failed:broken"),
        (("look", "broken", "pay"), "tool_failed:broken"),
    ],
)
def test_first_stop_in_the_order_of_the_calls_is_the_reason(play, order, stop):
    """Not the first in time: what is refused is known before any tool of the step runs."""
    tools = [
        FakeTool("look"),
        FakeTool("pay", effect=Effect.WRITE),
        FakeTool("broken", [ValueError("down")]),
    ]
    policy = Policy(
        ("*",),
        approver=lambda request: Decision.PENDING,
        stop_on=DEFAULT_STOP_ON | {Outcome.FAILED},
    )
    assert play([asking(*((name, {}) for name in order))], tools, policy=policy).stop == stop


def test_stop_of_a_call_comes_before_what_a_guard_finds_in_the_same_step(play):
    guards = GuardPolicy(actions={"repeated_call": "stop"}, repeats=2)
    policy = Policy(("*",), stop_on=DEFAULT_STOP_ON | {Outcome.FAILED}, guards=guards)
    same = asking(("look", {}), ("look", {}), ("look", {}))
    assert play([same], [FakeTool("look", [ValueError("x")])], policy=policy).stop == (
        "tool_failed:look"
    )
