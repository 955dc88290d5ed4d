from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.run_lines import RunLines
from flightlog.trace.events import Evaluation, ModelCall, RunStarted, RunStopped
from flightlog.trace.vocab import Actor, Outcome, RunStatus, StopReason


@pytest.fixture
def lines(run_rows: Any, write_lines: Any, imported: Any) -> Any:
    return imported("run-lines", write_lines(run_rows))


def test_run_carries_what_its_row_says(lines: Any) -> None:
    [start] = lines.of(RunStarted)
    assert (start.source, start.source_run_id) == ("elsewhere", "run-1")
    assert (start.suite, start.task_id, start.trial) == ("shop", "t1", 2)
    assert (start.model, start.variant, start.agent) == ("model-a", "plain", "plain")
    labels = {label.key: label.value for label in start.labels}
    assert labels == {"source_cost_usd": "0.3", "user_cost_usd": "0.1"}


def test_end_is_start_and_duration_where_no_end_is_given(lines: Any) -> None:
    [start], [stop] = lines.of(RunStarted), lines.of(RunStopped)
    assert stop.at - start.at == 1_500_000
    assert (stop.stop_reason, stop.source_stop_reason) == (StopReason.OK, "answered")
    assert lines.of(Evaluation)[0].score == 0.5


def test_scripted_user_is_a_message_and_no_call(lines: Any) -> None:
    assert [call.actor for call in lines.of(ModelCall)] == [Actor.AGENT, Actor.AGENT]
    assert lines.prompts()[0] == ["Find shoes."]


def test_simulated_user_is_a_call_of_the_user(
    run_rows: Any, write_lines: Any, imported: Any
) -> None:
    run_rows[0]["events"][0]["name"] = "model-u"
    call = imported("run-lines", write_lines(run_rows)).of(ModelCall)[0]
    assert (call.actor, call.request_model) == (Actor.USER, "model-u")


def test_requests_are_named_by_the_tool_events_that_follow(lines: Any) -> None:
    call = lines.of(ModelCall)[0]
    asked = lines.sink.messages[call.output_digest].tool_requests
    assert [(one.id, one.name, one.arguments) for one in asked] == [
        ("c0", "search", '{"q":"shoes"}'),
        ("c0", "stock", '{"id":1}'),
    ]


def test_request_that_was_never_answered_keeps_its_id(
    run_rows: Any, write_lines: Any, imported: Any
) -> None:
    run_rows[0]["events"][-1]["calls"] = ["c5"]
    found = imported("run-lines", write_lines(run_rows))
    call = found.of(ModelCall)[1]
    assert call.tool_requests == 1
    assert found.sink.messages[call.output_digest].tool_requests[0].id == "c5"
    assert found.of(RunStopped)[0].answer is None


def test_tool_error_keeps_its_type_and_what_the_model_saw(lines: Any) -> None:
    search, stock = lines.tools()
    assert (search.outcome, search.result) == (Outcome.OK, "a")
    assert (stock.outcome, stock.error_type, stock.result) == (Outcome.FAILED, "ValueError", None)
    assert (stock.step, stock.call_ix) == (1, 1)
    assert lines.prompts()[1] == ["Find shoes.", "assistant", "a", "ValueError: no such id"]


def test_call_that_was_not_carried_out_is_a_request_and_no_tool_call(lines: Any) -> None:
    [call] = lines.of(ModelCall, 1)
    assert call.tool_requests == 1
    assert lines.tools(1) == []


def test_zero_tokens_and_zero_cost_are_unknown(lines: Any) -> None:
    [call] = lines.of(ModelCall, 1)
    assert (call.input_tokens, call.output_tokens, call.cost_usd) == (None, None, None)
    assert lines.report.zeros == {
        "model_call.cost_usd": 1,
        "model_call.input_tokens": 1,
        "model_call.output_tokens": 1,
    }


def test_what_a_row_leaves_out_stays_unknown(lines: Any) -> None:
    [start], [stop] = lines.of(RunStarted, 1), lines.of(RunStopped, 1)
    assert (start.at, start.trial, start.suite, start.agent) == (None, None, None, None)
    assert (stop.stop_reason, stop.source_stop_reason, stop.duration_ms) == (None, None, None)
    assert stop.status is RunStatus.COMPLETED
    assert lines.of(Evaluation, 1)[0].passed is None
    assert lines.report.unknown["run_stopped.stop_reason"] == 1


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("user_stop", StopReason.OK),
        ("agent_stop", StopReason.OK),
        ("agent_transfer", StopReason.OK),
        ("answered", StopReason.OK),
        ("max_steps", StopReason.MAX_STEPS),
        ("max_iterations", StopReason.MAX_STEPS),
        ("context_length_exceeded", StopReason.CONTEXT_OVERFLOW),
        ("provider_error", StopReason.MODEL_ERROR),
        ("empty", StopReason.MODEL_ERROR),
        ("infrastructure_error", StopReason.CRASHED),
        ("too_many_errors", StopReason.TOOL_FAILED),
        ("a word of next year", None),
    ],
)
def test_each_word_of_a_source_has_one_stop_reason(
    run_rows: Any, write_lines: Any, imported: Any, word: str, reason: StopReason | None
) -> None:
    run_rows[0]["stop_reason"] = word
    [stop] = imported("run-lines", write_lines(run_rows)).of(RunStopped)
    assert (stop.stop_reason, stop.source_stop_reason) == (reason, word)
    assert stop.status is (reason.status if reason else RunStatus.COMPLETED)


def test_trial_that_is_no_number_is_a_label(run_rows: Any, write_lines: Any, imported: Any) -> None:
    run_rows[0]["trial"] = "2024-07-06"
    [start] = imported("run-lines", write_lines(run_rows)).of(RunStarted)
    assert start.trial is None
    assert {label.key: label.value for label in start.labels}["source_trial"] == "2024-07-06"


def test_agentdojo_pipeline_is_the_agent(run_rows: Any, write_lines: Any, imported: Any) -> None:
    run_rows[0] |= {"source": "agentdojo", "run_id": "gpt-4o-tool_filter/banking/user_task_0"}
    [start] = imported("run-lines", write_lines(run_rows)).of(RunStarted)
    assert (start.agent, start.variant) == ("gpt-4o-tool_filter", "plain")


def test_model_error_is_a_failed_call(run_rows: Any, write_lines: Any, imported: Any) -> None:
    run_rows[0]["events"][-1]["error"] = "overloaded"
    call = imported("run-lines", write_lines(run_rows)).of(ModelCall)[1]
    assert (call.outcome, call.error) == (Outcome.FAILED, "overloaded")


def test_blank_lines_are_no_runs(
    run_rows: Any, write_lines: Callable[..., Path], imported: Any
) -> None:
    path = write_lines(run_rows)
    path.write_text("\n" + path.read_text(encoding="utf-8").replace("\n", "\n\n"))
    assert imported("run-lines", path).report.runs == 2


def test_json_as_python_writes_it_is_read(run_rows: Any, tmp_path: Path, imported: Any) -> None:
    run_rows[0]["score"] = float("nan")
    run_rows[0]["events"][-1]["result"] = "cut \ud83d"
    run_rows[0]["task_id"] = "t\ud800"
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in run_rows), encoding="utf-8")
    found = imported("run-lines", path)
    assert found.of(Evaluation)[0].score is None
    assert found.of(RunStopped)[0].answer == "cut \ufffd\ufffd\ufffd"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", r":2: not the shape of this format: Expected `object`, got `array`"),
        ("7", r":2: not the shape of this format: Expected `object`, got `int`"),
        ('{"source": "x"}', r":2: not the shape of this format: .* missing required field"),
        ('{"source": "x", "run_', r":2: the JSON ends too early"),
        ("hi", r":2: not JSON: expecting value"),
        ("source: x", r":2: not JSON: expecting value"),
    ],
)
def test_bad_line_is_refused_with_its_number(
    run_rows: Any, write_lines: Any, imported: Any, line: str, message: str
) -> None:
    path = write_lines(run_rows[:1])
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(TraceFormatError, match=message):
        imported("run-lines", path)


def test_unknown_event_type_is_refused(run_rows: Any, write_lines: Any, imported: Any) -> None:
    run_rows[1]["events"][1]["type"] = "thought"
    with pytest.raises(TraceFormatError, match=r":2: unknown event type 'thought' in events\[1\]"):
        imported("run-lines", write_lines(run_rows))


def test_count_that_no_column_holds_is_refused(
    run_rows: Any, write_lines: Any, imported: Any
) -> None:
    run_rows[0]["events"][1]["input_tokens"] = -1
    with pytest.raises(TraceFormatError, match=r":1: .*input_tokens"):
        imported("run-lines", write_lines(run_rows))


def test_reading_needs_no_memory_of_the_files_size(
    run_rows: Any, write_lines: Callable[..., Path]
) -> None:
    path = write_lines(run_rows * 2000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in RunLines(path)) == 4000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10
