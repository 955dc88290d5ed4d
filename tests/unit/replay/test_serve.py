"""Serving: what a candidate's call is answered with, and what a miss says."""

from __future__ import annotations

import re
from dataclasses import replace

from flightlog.replay.cassette import Recording
from flightlog.runtime.calls import Served
from flightlog.runtime.tools import Tool
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, ServedHow
from tests.unit.replay.world import TOOLS, Call, executor_over, pending, record, write_call

GET: Call = ("get", {"key": "a"})
PUT: Call = ("put", {"key": "a", "value": 5})


def _recording(*answers: tuple[Call, Served]) -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for step, (call, served) in enumerate(answers, 1):
        write_call(writer, *call, served, step=step)
    return Recording(tuple(sink.events))


def _with_function(name: str, fn: object) -> tuple[Tool, ...]:
    return tuple(replace(tool, fn=fn) if tool.name == name else tool for tool in TOOLS)


def test_an_answer_says_how_and_from_where_it_was_served() -> None:
    executor = executor_over(record([GET]))
    served = executor.resolve(pending(*GET))
    assert (served.outcome, served.result) == (Outcome.OK, "1")
    assert (served.served_how, served.served_from) == (ServedHow.RECORDED, "rec")
    assert served.state_key is not None
    version, _, key = served.state_key.rpartition(":")
    assert (version, len(key)) == ("canon/1", 32)
    assert executor.served == {ServedHow.RECORDED: 1}
    assert (executor.calls, executor.live_tool_calls) == (1, 0)


def test_errors_and_durations_are_served_as_recorded() -> None:
    failed = Served(Outcome.FAILED, error="down", error_type="OSError", latency_ms=120.0)
    served = executor_over(_recording((GET, failed))).resolve(pending(*GET))
    assert served.outcome is Outcome.FAILED
    assert (served.error, served.error_type, served.latency_ms) == ("down", "OSError", 120.0)


def test_a_call_recorded_without_a_duration_takes_the_median_of_its_tool() -> None:
    recording = _recording(
        (GET, Served(Outcome.OK, "1", latency_ms=40.0)),
        (("get", {"key": "b"}), Served(Outcome.OK, "2")),
    )
    assert executor_over(recording).resolve(pending("get", {"key": "b"})).latency_ms == 40.0


def test_a_read_that_failed_and_then_worked_does_so_again() -> None:
    recording = _recording(
        (GET, Served(Outcome.TIMED_OUT, error="slow")), (GET, Served(Outcome.OK, "1"))
    )
    executor = executor_over(recording)
    outcomes = [executor.resolve(pending(*GET)).outcome for _ in range(3)]
    assert outcomes == [Outcome.TIMED_OUT, Outcome.OK, Outcome.OK]


def test_a_read_answered_differently_in_one_state_gives_its_answers_in_order() -> None:
    answers = [(GET, Served(Outcome.OK, text)) for text in ("1", "2", "3")]
    executor = executor_over(_recording(*answers))
    assert [executor.resolve(pending(*GET)).result for _ in range(4)] == ["1", "2", "3", "3"]
    (conflict,) = executor.cassette.conflicts()
    assert len(conflict.answers) == 3


def test_a_write_that_failed_and_then_worked_does_so_again_and_no_more() -> None:
    recording = _recording(
        (PUT, Served(Outcome.FAILED, error="busy")), (PUT, Served(Outcome.OK, "1"))
    )
    executor = executor_over(recording)
    outcomes = [executor.resolve(pending(*PUT)).outcome for _ in range(3)]
    assert outcomes == [Outcome.FAILED, Outcome.OK, Outcome.REPLAY_MISS]


def test_a_failing_write_asked_once_more_than_recorded_is_a_miss_that_says_so() -> None:
    executor = executor_over(_recording((PUT, Served(Outcome.FAILED, error="busy"))))
    executor.resolve(pending(*PUT))
    served = executor.resolve(pending(*PUT))
    assert served.outcome is Outcome.REPLAY_MISS
    assert "made once in this state in the recordings" in (served.error or "")


def test_repeated_creates_are_told_apart_by_what_came_before() -> None:
    create: Call = ("make", {})
    tools = (Tool("make", effect=Effect.WRITE, scopes=("o:{result.id}",)),)
    recording = _recording(
        (create, Served(Outcome.OK, '{"id":1}')), (create, Served(Outcome.OK, '{"id":2}'))
    )
    executor = executor_over(recording, tools=tools)
    results = [executor.resolve(pending(*create, tools=tools)).result for _ in range(2)]
    assert results == ['{"id":1}', '{"id":2}']


def test_a_queue_gives_its_answers_in_order_also_to_other_arguments() -> None:
    tools = (Tool("next", effect=Effect.READ, scopes=("queue",), is_consuming=True),)
    one, two = ("next", {"n": 1}), ("next", {"n": 2})
    recording = _recording((one, Served(Outcome.OK, "a")), (two, Served(Outcome.OK, "bc")))
    executor = executor_over(recording, tools=tools)
    assert executor.resolve(pending(*two, tools=tools)).outcome is Outcome.REPLAY_MISS
    executor = executor_over(recording, tools=tools)
    assert executor.resolve(pending(*one, tools=tools)).result == "a"
    assert executor.resolve(pending(*two, tools=tools)).result == "bc"


def test_a_pure_tool_with_a_function_is_executed() -> None:
    tools = _with_function("add", lambda one, other: one + other)
    executor = executor_over(record([]), tools=tools)
    served = executor.resolve(pending("add", {"one": 2, "other": 3}, tools=tools))
    assert (served.result, served.served_how) == ("5", ServedHow.PURE)
    assert served.latency_ms == 0.0


def test_a_pure_tool_that_raises_gives_a_typed_error() -> None:
    tools = _with_function("add", lambda one, other: one / other)
    executor = executor_over(record([]), tools=tools)
    served = executor.resolve(pending("add", {"one": 2, "other": 0}, tools=tools))
    assert (served.outcome, served.error_type) == (Outcome.FAILED, "ZeroDivisionError")


def test_a_pure_tool_whose_result_has_no_json_form_is_invalid_output_as_it_is_live() -> None:
    tools = _with_function("add", lambda one, other: float("nan"))
    served = executor_over(record([]), tools=tools).resolve(
        pending("add", {"one": 2, "other": 0}, tools=tools)
    )
    assert (served.outcome, served.error_type) == (Outcome.INVALID_OUTPUT, "invalid_output")


def test_a_pure_tool_that_exits_is_only_a_failed_call() -> None:
    def leave(**_: object) -> None:
        raise SystemExit(3)

    tools = _with_function("add", leave)
    served = executor_over(record([]), tools=tools).resolve(
        pending("add", {"one": 2, "other": 0}, tools=tools)
    )
    assert (served.outcome, served.error_type) == (Outcome.FAILED, "SystemExit")


def test_a_pure_tool_without_a_function_is_served_from_the_recording() -> None:
    call: Call = ("add", {"one": 1, "other": 1})
    served = executor_over(record([call])).resolve(pending(*call))
    assert (served.result, served.served_how) == ("2", ServedHow.RECORDED)


def test_no_function_of_a_read_or_write_is_ever_called() -> None:
    def explode(**_: object) -> None:
        raise AssertionError("a replay ran a live tool")

    tools = tuple(replace(tool, fn=explode) for tool in TOOLS if tool.name != "add")
    executor = executor_over(record([GET, PUT]), tools=tools)
    for call in (GET, PUT, ("put", {"key": "new", "value": 1}), ("audit", {})):
        executor.resolve(pending(*call, tools=tools))
    assert executor.live_tool_calls == 0


def test_the_goldens_declaration_holds_against_a_candidate_that_calls_a_write_pure() -> None:
    mine = (Tool("put", fn=lambda **_: "ran", effect=Effect.PURE),)
    served = executor_over(record([])).resolve(pending(*PUT, tools=mine))
    assert served.outcome is Outcome.REPLAY_MISS


def test_a_write_that_the_candidates_timeout_cuts_makes_its_scope_unknown() -> None:
    tools = tuple(replace(t, timeout_s=0.1) if t.name == "put" else t for t in TOOLS)
    recording = _recording(
        (PUT, Served(Outcome.OK, "1", latency_ms=500.0)), (GET, Served(Outcome.OK, "5"))
    )
    executor = executor_over(recording)
    executor.resolve(pending(*PUT, tools=tools))
    assert executor.resolve(pending(*GET, tools=tools)).outcome is Outcome.REPLAY_MISS


def _miss(recording: Recording, *calls: Call, tools: tuple[Tool, ...] = TOOLS) -> str:
    executor = executor_over(recording, tools=tools)
    served = [executor.resolve(pending(*c, step=n, tools=tools)) for n, c in enumerate(calls, 4)]
    assert served[-1].outcome is Outcome.REPLAY_MISS
    assert served[-1].error is not None
    return served[-1].error


def test_a_miss_names_tool_step_golden_difference_and_command() -> None:
    text = _miss(record([GET]), ("get", {"key": "b"}))
    assert re.sub("[0-9a-f]{32}", "KEY", text) == (
        "tool call 'get' has no match at step 4 of golden task 'g': args.key is 'b', "
        "recorded 'a'; nearest recorded: step 1 (key canon/1:KEY). Pin it."
    )


def test_a_miss_of_a_tool_that_was_never_called_says_so() -> None:
    assert "was never called in the recordings" in _miss(record([GET]), ("list_items", {}))


def test_a_miss_in_another_state_names_the_scopes_that_changed() -> None:
    error = _miss(record([GET, PUT]), PUT, GET)
    assert "the same arguments are recorded at step 1, but in another state of item:a" in error


def test_a_miss_of_an_undeclared_tool_says_that_it_reads_everything() -> None:
    shake: Call = ("shake", {})
    error = _miss(record([shake]), shake, shake)
    assert "another state of everything (the tool declares no scopes)" in error


def test_a_miss_after_a_write_of_unknown_outcome_says_so() -> None:
    recording = _recording(
        (PUT, Served(Outcome.TIMED_OUT, error="slow")), (GET, Served(Outcome.OK, "1"))
    )
    assert "a write of unknown outcome" in _miss(recording, PUT, GET)


def test_the_nearest_recorded_call_is_the_one_with_the_fewest_differences() -> None:
    tools = (Tool("s", effect=Effect.READ, scopes=("x",)),)
    recording = _recording(
        (("s", {"a": 1, "b": 1, "c": 1}), Served(Outcome.OK, "1")),
        (("s", {"a": 2, "b": 2, "c": 3}), Served(Outcome.OK, "2")),
    )
    error = _miss(recording, ("s", {"a": 2, "b": 2, "c": 2}), tools=tools)
    assert "args.c is 2, recorded 3; nearest recorded: step 2" in error


def test_missing_and_added_arguments_are_named_and_long_values_cut() -> None:
    tools = (Tool("s", effect=Effect.READ, scopes=("x",)),)
    recording = _recording((("s", {"a": 1, "t": "x" * 500}), Served(Outcome.OK, "1")))
    error = _miss(recording, ("s", {"b": [1], "t": "y"}), tools=tools)
    assert "args.a is missing, recorded 1; args.b is [1], recorded without it" in error
    assert len(error) < 400


def test_a_write_that_missed_makes_its_scope_unknown_for_a_run_that_goes_on() -> None:
    executor = executor_over(record([GET]))
    assert executor.resolve(pending(*PUT)).outcome is Outcome.REPLAY_MISS
    assert executor.resolve(pending(*GET)).outcome is Outcome.REPLAY_MISS


def test_misses_are_kept_with_step_and_reason() -> None:
    executor = executor_over(record([]))
    executor.resolve(pending(*GET, step=7))
    (miss,) = executor.misses
    assert (miss.step, miss.tool_name, miss.args) == (7, "get", '{"key":"a"}')
    assert executor.calls == 1
