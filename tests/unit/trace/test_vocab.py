"""The closed sets and what their members mean."""

from __future__ import annotations

import pytest

from flightlog.trace.vocab import (
    Effect,
    FinishReason,
    Outcome,
    RunStatus,
    StopReason,
    finish_reason_of,
    stop_text,
)


def test_unknown_effect_counts_as_a_write():
    assert [effect for effect in Effect if effect.is_write] == [Effect.WRITE, Effect.UNKNOWN]


def test_calls_that_were_made_are_no_refusals():
    made = {outcome for outcome in Outcome if not outcome.is_refusal}
    assert made == {Outcome.OK, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INVALID_OUTPUT}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALL),
        ("tool-calls", FinishReason.TOOL_CALL),
        ("tool_use", FinishReason.TOOL_CALL),
        ("function_call", FinishReason.TOOL_CALL),
        ("content-filter", FinishReason.CONTENT_FILTER),
        ("something new", None),
        (None, None),
    ],
)
def test_finish_reason_is_normalised_over_providers(raw, reason):
    assert finish_reason_of(raw) is reason


@pytest.mark.parametrize("reason", FinishReason)
def test_normalised_finish_reason_is_its_own_name(reason):
    assert finish_reason_of(reason.value) is reason


def test_every_stop_reason_has_a_status_and_only_ok_completes():
    statuses = {reason: reason.status for reason in StopReason}
    completed = [reason for reason, status in statuses.items() if status is RunStatus.COMPLETED]
    assert completed == [StopReason.OK]
    assert statuses[StopReason.MAX_TOOL_CALLS] is RunStatus.STOPPED
    assert statuses[StopReason.MODEL_ERROR] is RunStatus.FAILED


def test_stop_text_joins_reason_and_tool():
    assert stop_text(StopReason.REPLAY_MISS, "get_order") == "replay_miss:get_order"
    assert stop_text(StopReason.OK, None) == "ok"
