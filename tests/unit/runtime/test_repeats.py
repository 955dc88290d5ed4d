"""The rules of idempotency: keys, repeated writes, and reads answered from the run itself."""

from __future__ import annotations

import pytest

from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, asking
from flightlog.trace.vocab import Effect, Outcome

PAY = {"to": "A", "amount": 5}
DONE = ModelResponse("x")


def outcomes(rows):
    return [row.outcome.value for row in rows("tool_call")]


def test_repeated_write_of_a_step_runs_once_and_both_get_its_result(play, rows, sink):
    tool = FakeTool("pay", ["receipt 1", "receipt 2"], effect=Effect.WRITE)
    assert play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool]).stop == "ok"
    assert len(tool.calls) == 1
    first, second = sorted(rows("tool_call"), key=lambda row: row.call_ix)
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.DEDUPLICATED)
    assert first.result == second.result == "receipt 1"
    assert first.idempotency_key == second.idempotency_key is not None
    assert len(rows("tool_intent")) == 1


def test_write_repeated_at_a_later_step_is_another_write(play, rows):
    tool = FakeTool("pay", ["1", "2"], effect=Effect.WRITE)
    play([asking(("pay", PAY)), asking(("pay", PAY)), DONE], [tool])
    assert outcomes(rows) == ["ok", "ok"]
    assert len({row.idempotency_key for row in rows("tool_call")}) == 2


def test_write_deduplicated_over_the_run_is_made_once(play, rows):
    tool = FakeTool("pay", ["1", "2"], effect=Effect.WRITE, dedupe_writes="run")
    play([asking(("pay", PAY)), asking(("pay", PAY)), DONE], [tool])
    assert outcomes(rows) == ["ok", "deduplicated"]
    assert len(tool.calls) == 1


def test_write_with_other_arguments_is_another_write(play, rows):
    tool = FakeTool("pay", effect=Effect.WRITE, dedupe_writes="run")
    play([asking(("pay", PAY), ("pay", {**PAY, "amount": 6})), DONE], [tool])
    assert outcomes(rows) == ["ok", "ok"]


def test_order_of_the_arguments_does_not_make_another_write(play, rows):
    tool = FakeTool("pay", effect=Effect.WRITE)
    turned = dict(reversed(PAY.items()))
    play([asking(("pay", PAY), ("pay", turned)), DONE], [tool])
    assert len(tool.calls) == 1


def test_failed_write_can_be_made_again(play, rows):
    tool = FakeTool("pay", [ValueError("x"), "ok"], effect=Effect.WRITE, dedupe_writes="run")
    play([asking(("pay", PAY)), asking(("pay", PAY)), DONE], [tool])
    assert outcomes(rows) == ["failed", "ok"]


def slow(clock, **declared):
    def pay(**_arguments):
        clock.advance_ms(5000)
        return "late"

    return Tool("pay", pay, effect=Effect.WRITE, timeout_s=1, dedupe_writes="run", **declared)


def test_write_of_unknown_outcome_is_not_made_again(play, rows, clock):
    play([asking(("pay", PAY)), asking(("pay", PAY)), DONE], [slow(clock)])
    assert outcomes(rows) == ["timed_out", "deduplicated"]
    assert rows("tool_call")[1].error_type == "in_doubt"


def test_idempotent_write_of_unknown_outcome_may_be_made_again(play, rows, clock):
    play([asking(("pay", PAY)), asking(("pay", PAY)), DONE], [slow(clock, is_idempotent=True)])
    assert outcomes(rows) == ["timed_out", "timed_out"]
    assert len({row.idempotency_key for row in rows("tool_call")}) == 1


KEYED = {
    "type": "object",
    "properties": {"idempotency_key": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["idempotency_key", "amount"],
}


def keyed():
    return FakeTool("pay", ["1", "2", "3"], effect=Effect.WRITE, input_schema=KEYED)


def test_key_that_the_model_gives_counts_over_the_run(play, rows):
    tool, args = keyed(), {"idempotency_key": "k", "amount": 1}
    play([asking(("pay", args)), asking(("pay", args)), DONE], [tool])
    assert outcomes(rows) == ["ok", "deduplicated"]
    assert rows("tool_call")[0].idempotency_key == "k"


def test_key_used_again_with_other_arguments_is_refused(play, rows):
    tool = keyed()
    one, two = ({"idempotency_key": "k", "amount": amount} for amount in (1, 2))
    play([asking(("pay", one)), asking(("pay", two)), asking(("pay", one)), DONE], [tool])
    assert outcomes(rows) == ["ok", "invalid_input", "deduplicated"]
    assert rows("tool_call")[1].error_type == "idempotency_conflict"
    assert len(tool.calls) == 1


def test_conflicting_key_within_a_step_leaves_the_first_call_alone(play, rows):
    tool = keyed()
    one, two = ({"idempotency_key": "k", "amount": amount} for amount in (1, 2))
    play([asking(("pay", one), ("pay", two), ("pay", one)), DONE], [tool])
    by_place = sorted(rows("tool_call"), key=lambda row: row.call_ix)
    assert [row.outcome.value for row in by_place] == ["ok", "invalid_input", "deduplicated"]


def test_result_of_a_repeated_failure_is_the_failure(play, rows, sink):
    tool = FakeTool("pay", [ValueError("no funds")], effect=Effect.WRITE)
    play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool])
    second = max(rows("tool_call"), key=lambda row: row.call_ix)
    assert (second.outcome, second.error) == (Outcome.DEDUPLICATED, "no funds")


def test_repeat_of_a_write_that_was_refused_is_not_made_either(play, rows):
    tool = FakeTool("pay", effect=Effect.WRITE)
    refusing = Policy(("pay",), approver=lambda request: False)
    play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=refusing)
    assert outcomes(rows) == ["approval_denied", "approval_denied"]


def test_repeated_write_is_approved_once(play):
    asked, tool = [], FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=lambda request: asked.append(request) or True)
    play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=policy)
    assert len(asked) == 1
    assert asked[0].idempotency_key


# Reads


def test_reads_are_made_each_time_unless_the_tool_says_otherwise(play, rows):
    tool = FakeTool("browse", ["a", "b"])
    play([asking(("browse", {})), asking(("browse", {})), DONE], [tool])
    assert outcomes(rows) == ["ok", "ok"]


def test_read_is_answered_from_the_runs_own_earlier_result(play, rows):
    tool = FakeTool("browse", ["page", "other"], reuse_result=True)
    result = play([asking(("browse", {})), asking(("browse", {}), ("browse", {})), DONE], [tool])
    assert outcomes(rows) == ["ok", "deduplicated", "deduplicated"]
    assert {row.result for row in rows("tool_call")} == {"page"}
    assert (len(tool.calls), result.usage.tool_calls) == (1, 3)


def test_equal_reads_of_one_step_are_made_once(play, rows):
    tool = FakeTool("browse", ["page", "other"], reuse_result=True)
    play([asking(*[("browse", {})] * 4), DONE], [tool])
    assert sorted(outcomes(rows)) == ["deduplicated"] * 3 + ["ok"]


def test_failed_read_is_made_again(play, rows):
    tool = FakeTool("browse", [ValueError("x"), "page"], reuse_result=True)
    play([asking(("browse", {})), asking(("browse", {})), DONE], [tool])
    assert outcomes(rows) == ["failed", "ok"]


@pytest.mark.parametrize("answer", ["ok", ValueError("x")])
def test_any_write_makes_reads_be_made_again(play, rows, answer):
    tools = [
        FakeTool("browse", ["before", "after"], reuse_result=True),
        FakeTool("pay", [answer], effect=Effect.WRITE),
    ]
    read = asking(("browse", {}))
    play([read, asking(("pay", PAY)), read, DONE], tools)
    assert [row.result for row in rows("tool_call") if row.tool_name == "browse"] == [
        "before",
        "after",
    ]


def test_consuming_read_is_never_answered_from_memory(play, rows):
    tool = FakeTool("next_job", ["1", "2"], reuse_result=True, is_consuming=True)
    play([asking(("next_job", {})), asking(("next_job", {})), DONE], [tool])
    assert [row.result for row in rows("tool_call")] == ["1", "2"]


def test_keys_differ_between_runs(play, rows):
    tool = FakeTool("pay", effect=Effect.WRITE)
    for _ in range(2):
        play([asking(("pay", PAY)), DONE], [tool], policy=Policy(("pay",), approver=approve_all))
    one, two = rows("tool_call")
    assert one.idempotency_key != two.idempotency_key
