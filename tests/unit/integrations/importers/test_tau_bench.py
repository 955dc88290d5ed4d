from __future__ import annotations

from typing import Any

import pytest

from flightlog.errors import TraceFormatError
from flightlog.trace.events import Evaluation, ModelCall, RunStarted, RunStopped
from flightlog.trace.vocab import Actor, Outcome, StopReason


@pytest.fixture
def airline(tau_bench_results: Any, write_json: Any, imported: Any) -> Any:
    return imported("tau-bench", write_json(tau_bench_results, "gpt-4o-airline.json"))


def test_file_name_gives_model_and_suite(airline: Any) -> None:
    [start] = airline.of(RunStarted)
    assert (start.model, start.suite, start.source) == (
        "gpt-4o",
        "airline",
        "tau-bench/gpt-4o-airline",
    )
    assert (start.task_id, start.trial, start.source_run_id) == ("7", 0, "airline/7/0")
    assert start.origin == "imported"


def test_another_file_name_leaves_model_and_suite_unknown(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    found = imported("tau-bench", write_json(tau_bench_results, "results.json"))
    [start] = found.of(RunStarted)
    assert (start.model, start.suite) == (None, None)
    assert found.report.unknown["run_started.model"] == 2


def test_task_digest_follows_the_content_of_the_task(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    first = imported("tau-bench", write_json(tau_bench_results, "a.json"))
    tau_bench_results[0]["info"]["task"]["instruction"] = "Cancel R2."
    second = imported("tau-bench", write_json(tau_bench_results, "a.json"))
    before, after = first.of(RunStarted)[0], second.of(RunStarted)[0]
    assert before.task_digest != after.task_digest
    assert first.of(RunStarted, 1)[0].task_digest == second.of(RunStarted, 1)[0].task_digest


def test_user_turns_are_calls_of_the_user_without_usage(airline: Any) -> None:
    users = [call for call in airline.of(ModelCall) if call.actor is Actor.USER]
    assert len(users) == 2
    assert {(call.input_tokens, call.cost_usd, call.request_model) for call in users} == {
        (None, None, None)
    }
    labels = {label.key: label.value for label in airline.of(RunStarted)[0].labels}
    assert labels == {"user_cost_usd": "0.25"}


def test_agent_sees_system_user_and_tool_messages(airline: Any) -> None:
    assert airline.prompts() == [
        ["Be kind.", "Cancel R1, please."],
        ["Be kind.", "Cancel R1, please.", "assistant", '{"id": "R1"}'],
    ]


def test_observation_that_starts_with_error_is_a_failed_call(airline: Any) -> None:
    [call] = airline.tools(0)
    assert (call.outcome, call.error, call.result) == (Outcome.OK, None, '{"id": "R1"}')
    first, second = airline.tools(1)
    assert first.outcome is second.outcome is Outcome.FAILED
    assert first.error == "Error: no seats"


def test_repeated_call_ids_are_told_apart_by_order(airline: Any) -> None:
    first, second = airline.tools(1)
    assert (first.args, second.args) == ('{"n":1}', '{"n":2}')
    assert (first.step, second.step) == (1, 2)


@pytest.mark.parametrize(
    ("change", "reason", "word"),
    [
        ({}, StopReason.OK, "user_stop"),
        ({"reward_info": None}, StopReason.MAX_STEPS, "max_steps"),
    ],
)
def test_stop_reason_is_derived(
    tau_bench_results: Any,
    write_json: Any,
    imported: Any,
    change: dict[str, Any],
    reason: StopReason,
    word: str,
) -> None:
    tau_bench_results[0]["info"] |= change
    [stop] = imported("tau-bench", write_json(tau_bench_results, "a.json")).of(RunStopped)
    assert (stop.stop_reason, stop.source_stop_reason) == (reason, word)


def test_transfer_to_a_human_is_an_orderly_stop(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    asked = tau_bench_results[0]["traj"][2]["tool_calls"][0]["function"]
    asked["name"] = "transfer_to_human_agents"
    [stop] = imported("tau-bench", write_json(tau_bench_results, "a.json")).of(RunStopped)
    assert (stop.stop_reason, stop.source_stop_reason) == (StopReason.OK, "agent_transfer")


def test_an_end_that_nothing_explains_is_unknown(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    tau_bench_results[0]["traj"].pop()
    [stop] = imported("tau-bench", write_json(tau_bench_results, "a.json")).of(RunStopped)
    assert (stop.stop_reason, stop.source_stop_reason) == (None, None)


def test_reward_of_one_is_success(airline: Any) -> None:
    judged = [airline.of(Evaluation, run)[0] for run in (0, 1)]
    assert [(one.passed, one.score) for one in judged] == [(True, 1.0), (False, 0.0)]


def test_answer_is_the_last_text_of_the_agent(airline: Any) -> None:
    assert airline.of(RunStopped, 0)[0].answer == "It is cancelled."
    assert airline.of(RunStopped, 1)[0].answer is None


def test_file_of_the_same_name_with_other_runs_gives_other_run_ids(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    first = imported("tau-bench", write_json(tau_bench_results, "a.json"))
    tau_bench_results[0]["traj"][1]["content"] = "Cancel R1 now."
    second = imported("tau-bench", write_json(tau_bench_results, "a.json"))
    assert first.of(RunStarted)[0].run_id != second.of(RunStarted)[0].run_id
    assert first.of(RunStarted, 1)[0].run_id == second.of(RunStarted, 1)[0].run_id


def test_content_as_blocks_is_read_as_text(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    tau_bench_results[0]["traj"][1]["content"] = [{"type": "text", "text": "Cancel R1, please."}]
    found = imported("tau-bench", write_json(tau_bench_results, "a.json"))
    assert found.prompts()[0] == ["Be kind.", "Cancel R1, please."]


def test_tool_answer_that_nobody_asked_for_is_refused(
    tau_bench_results: Any, write_json: Any, imported: Any
) -> None:
    tau_bench_results[1]["traj"][3]["tool_call_id"] = "c9"
    with pytest.raises(TraceFormatError, match=r"item 1, message 3: a tool answer to 'c9'"):
        imported("tau-bench", write_json(tau_bench_results, "a.json"))


def test_unknown_role_is_refused(tau_bench_results: Any, write_json: Any, imported: Any) -> None:
    tau_bench_results[0]["traj"][1]["role"] = "critic"
    with pytest.raises(TraceFormatError, match=r"item 0, message 1: unknown message role 'critic'"):
        imported("tau-bench", write_json(tau_bench_results, "a.json"))
