from __future__ import annotations

from typing import Any

import pytest

from flightlog.errors import TraceFormatError
from flightlog.trace.events import Evaluation, ModelCall, RunStarted, RunStopped
from flightlog.trace.vocab import Actor, FinishReason, Outcome, RunStatus, StopReason

START_US = 1_754_042_400_000_000  # 2025-08-01T10:00:00Z


@pytest.fixture
def telecom(tau2_simulations: Any, write_json: Any, imported: Any) -> Any:
    return imported("tau2", write_json(tau2_simulations, "telecom_run.json"))


def test_run_carries_what_the_file_says_of_it(telecom: Any) -> None:
    [start] = telecom.of(RunStarted)
    assert (start.agent, start.variant, start.model) == ("llm_agent", "llm_agent", "model-a")
    assert (start.suite, start.task_id, start.trial) == ("telecom", "13", 0)
    assert (start.source, start.source_run_id) == ("tau2/telecom_run", "sim-1")
    assert start.task_digest is not None
    assert start.task_digest != telecom.of(RunStarted, 1)[0].task_digest


def test_what_has_no_column_is_a_label(telecom: Any) -> None:
    labels = {label.key: label.value for label in telecom.of(RunStarted)[0].labels}
    assert labels == {
        "git_commit": "abc",
        "greeting": "canned",
        "seed": "300",
        "source_cost_usd": "0.05",
        "user_cost_usd": "0.03",
        "user_model": "model-u",
    }


def test_canned_greeting_is_a_message_and_no_call(telecom: Any) -> None:
    calls = [call for call in telecom.of(ModelCall) if call.actor is Actor.AGENT]
    assert len(calls) == 2
    assert telecom.prompts()[0] == ["Hi! How can I help?", "No signal."]


def test_first_words_of_a_model_are_a_call(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    first = tau2_simulations["simulations"][0]["messages"][0]
    first["usage"] = {"prompt_tokens": 50, "completion_tokens": 5}
    found = imported("tau2", write_json(tau2_simulations, "a.json"))
    assert len([call for call in found.of(ModelCall) if call.actor is Actor.AGENT]) == 3
    assert "greeting" not in {label.key for label in found.of(RunStarted)[0].labels}


def test_users_own_tool_calls_are_the_users(telecom: Any) -> None:
    assert [(call.tool_name, call.actor) for call in telecom.tools()] == [
        ("get_line", Actor.AGENT),
        ("reboot", Actor.USER),
    ]


def test_agent_does_not_see_the_users_tools(telecom: Any) -> None:
    assert telecom.prompts()[1] == [
        "Hi! How can I help?",
        "No signal.",
        "assistant",
        "Error: no line L1",
    ]


def test_latency_is_the_time_since_the_message_before(telecom: Any) -> None:
    assert [call.latency_ms for call in telecom.of(ModelCall)] == [
        2000.0,
        3000.0,
        2000.0,
        1000.0,
        2000.0,
    ]
    assert [call.latency_ms for call in telecom.tools()] == [1000.0, 1000.0]


def test_times_are_those_of_the_source(telecom: Any) -> None:
    [start], [stop] = telecom.of(RunStarted), telecom.of(RunStopped)
    assert (start.at, stop.at) == (START_US, START_US + 13_000_000)
    assert (start.elapsed_ms, stop.elapsed_ms, stop.duration_ms) == (0.0, 13_000.0, 13_000.0)
    assert [call.elapsed_ms for call in telecom.tools()] == [6500.0, 10500.0]


def test_usage_cost_and_finish_reason_are_kept(telecom: Any) -> None:
    call = telecom.of(ModelCall)[1]
    assert (call.input_tokens, call.output_tokens, call.cost_usd) == (200, 20, 0.02)
    assert (call.finish_reason, call.tool_requests) == (FinishReason.TOOL_CALL, 1)
    assert call.request_model == "model-a"


def test_error_flag_is_a_failed_call(telecom: Any) -> None:
    agent, user = telecom.tools()
    assert (agent.outcome, agent.error) == (Outcome.FAILED, "Error: no line L1")
    assert user.outcome is Outcome.OK


def test_cost_of_zero_is_unknown_and_counted(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    for message in tau2_simulations["simulations"][0]["messages"]:
        if message["role"] == "assistant":
            message["cost"] = 0.0
    tau2_simulations["simulations"][0]["agent_cost"] = 0.0
    found = imported("tau2", write_json(tau2_simulations, "a.json"))
    agent = [call for call in found.of(ModelCall) if call.actor is Actor.AGENT]
    assert [call.cost_usd for call in agent] == [None, None]
    assert found.of(RunStopped)[0].total_cost_usd is None
    assert found.report.zeros == {"model_call.cost_usd": 2}
    assert found.report.unknown["model_call.cost_usd"] == 2
    # What the source says is not lost.
    labels = {label.key: label.value for label in found.of(RunStarted)[0].labels}
    assert labels["source_cost_usd"] == "0.0"


def test_total_counts_where_no_call_has_a_cost(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    for message in tau2_simulations["simulations"][0]["messages"]:
        message["usage"] = None
    found = imported("tau2", write_json(tau2_simulations, "a.json"))
    assert found.of(RunStopped)[0].total_cost_usd == 0.05


def test_run_without_a_reward_is_not_judged(telecom: Any) -> None:
    assert telecom.of(Evaluation, 0)[0].passed is True
    [judged], [stop] = telecom.of(Evaluation, 1), telecom.of(RunStopped, 1)
    assert (judged.passed, judged.score) == (None, None)
    assert (stop.stop_reason, stop.source_stop_reason, stop.status) == (
        StopReason.CRASHED,
        "infrastructure_error",
        RunStatus.FAILED,
    )


def test_report_counts_what_the_source_leaves_out(telecom: Any) -> None:
    assert telecom.report.runs == 2
    assert telecom.report.events == len(telecom.sink.events)
    assert telecom.report.unknown == {"evaluation.passed": 1, "evaluation.score": 1}


def test_time_that_is_none_is_refused(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    tau2_simulations["simulations"][0]["messages"][1]["timestamp"] = "yesterday"
    with pytest.raises(TraceFormatError, match=r"simulations\[0\]: a time that is not ISO 8601"):
        imported("tau2", write_json(tau2_simulations, "a.json"))


def test_tool_answer_that_nobody_asked_for_is_refused(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    tau2_simulations["simulations"][0]["messages"][3]["id"] = "t9"
    with pytest.raises(TraceFormatError, match=r"messages\[3\]: .*\(id 't9'\)"):
        imported("tau2", write_json(tau2_simulations, "a.json"))


def test_wrong_type_is_refused_with_its_place(
    tau2_simulations: Any, write_json: Any, imported: Any
) -> None:
    tau2_simulations["simulations"][0]["messages"][1]["usage"]["prompt_tokens"] = "many"
    with pytest.raises(TraceFormatError, match=r"\$\.simulations\[0\]\.messages\[1\]\.usage"):
        imported("tau2", write_json(tau2_simulations, "a.json"))
