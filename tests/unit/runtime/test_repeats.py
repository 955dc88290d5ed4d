"""The rules of idempotency: keys, repeated writes, and reads answered from the run itself."""

from __future__ import annotations

import json

import pytest

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.window_budget import WindowBudget
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.policy import Decision, Policy, approve_all
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeTool, asking
from flightlog.trace.vocab import Effect, Outcome

PAY = {"to": "A", "amount": 5}
DONE = ModelResponse("x")
STEADY = RetryPolicy(max_attempts=3, initial_s=1, multiplier=2, jitter=0)


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


# Approvals, stale reads, and writes in doubt over several tries


def both_keyed():
    return [
        FakeTool(name, effect=Effect.WRITE, input_schema=KEYED) for name in ("pay", "delete_all")
    ]


def test_approval_of_one_tool_is_none_for_another_that_gets_the_same_key(play, rows):
    asked = []

    def only_pay(request):
        asked.append(request.tool)
        return request.tool == "pay"

    args = {"idempotency_key": "k", "amount": 1}
    policy = Policy(("*",), approver=only_pay)
    play([asking(("pay", args), ("delete_all", args)), DONE], both_keyed(), policy=policy)
    assert asked == ["pay", "delete_all"]
    assert outcomes(rows) == ["approval_denied", "ok"]


def test_approval_holds_for_the_arguments_and_not_for_the_key_alone(play, rows):
    asked = []
    policy = Policy(("*",), approver=lambda request: asked.append(request.args["amount"]) or True)
    tool = FakeTool("pay", [ValueError("x"), "ok"], effect=Effect.WRITE, input_schema=KEYED)
    script = [asking(("pay", {"idempotency_key": "k", "amount": amount})) for amount in (1, 1000)]
    play([*script, DONE], [tool], policy=policy)
    assert asked == [1, 1000]


def test_read_under_way_during_a_write_is_not_reused(play, rows):
    tools = [
        FakeTool("browse", ["before", "after"], reuse_result=True),
        FakeTool("pay", effect=Effect.WRITE),
    ]
    read = ("browse", {})
    play([asking(read, ("pay", PAY)), asking(read), DONE], tools)
    assert [row.result for row in rows("tool_call") if row.tool_name == "browse"] == [
        "before",
        "after",
    ]


def test_read_that_ends_after_the_write_of_its_step_is_not_reused(play, rows):
    """A read that is tried again ends in a later round than the write beside it."""
    tools = [
        FakeTool("browse", [ValueError("x"), "during", "after"], reuse_result=True),
        FakeTool("pay", effect=Effect.WRITE),
    ]
    read = ("browse", {})
    policy = Policy(("*",), retries={"browse": STEADY}, approver=approve_all)
    play([asking(read, ("pay", PAY)), asking(read), DONE], tools, policy=policy)
    results = [row.result for row in rows("tool_call") if row.tool_name == "browse"]
    assert results == [None, "during", "after"]


def late_keyed(clock):
    """A write with a key of the model; its first try times out, the others answer."""
    made = []

    def pay(**_arguments):
        made.append(1)
        if len(made) == 1:
            clock.advance_ms(5000)
        return "receipt"

    return Tool("pay", pay, effect=Effect.WRITE, timeout_s=1, input_schema=KEYED)


ONE, OTHER = ({"idempotency_key": "k", "amount": amount} for amount in (1, 2))
OPENS_AT_ONCE = {"pay": BreakerPolicy(min_calls=1)}


def test_write_in_doubt_keeps_its_key_where_its_second_try_is_refused(play, rows, clock):
    """What timed out may have happened, whatever the refusal of the next try says."""
    policy = Policy(("pay",), retries={"pay": STEADY}, breakers=OPENS_AT_ONCE, approver=approve_all)
    play([asking(("pay", ONE)), asking(("pay", OTHER)), DONE], [late_keyed(clock)], policy=policy)
    assert outcomes(rows) == ["timed_out", "circuit_open", "invalid_input"]
    assert rows("tool_call")[-1].error_type == "idempotency_conflict"


def test_write_in_doubt_keeps_its_key_where_its_repeat_is_refused(play, rows, clock):
    policy = Policy(("pay",), breakers=OPENS_AT_ONCE, approver=approve_all)
    script = [asking(("pay", args)) for args in (ONE, ONE, OTHER)]
    play([*script, DONE], [late_keyed(clock)], policy=policy)
    assert outcomes(rows) == ["timed_out", "circuit_open", "invalid_input"]


def test_repeat_waits_for_all_tries_of_the_first_and_gets_what_they_come_to(play, rows):
    tool = FakeTool("pay", [ValueError("x"), "receipt"], effect=Effect.WRITE, is_idempotent=True)
    policy = Policy(("pay",), retries={"pay": STEADY}, approver=approve_all)
    play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=policy)
    assert [(row.call_ix, row.attempt, row.outcome.value) for row in rows("tool_call")] == [
        (0, 1, "failed"),
        (0, 2, "ok"),
        (1, 1, "deduplicated"),
    ]
    assert (rows("tool_call")[-1].result, len(tool.calls)) == ("receipt", 2)


def test_repeat_of_a_write_whose_second_try_is_refused_gets_what_the_first_came_to(play, rows):
    tool = FakeTool("pay", [ValueError("no funds")], effect=Effect.WRITE, is_idempotent=True)
    policy = Policy(("pay",), retries={"pay": STEADY}, breakers=OPENS_AT_ONCE, approver=approve_all)
    result = play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=policy)
    assert outcomes(rows) == ["failed", "circuit_open", "deduplicated"]
    assert (rows("tool_call")[-1].error, result.stop) == ("no funds", "ok")


def test_write_whose_approval_is_pending_and_its_repeat_are_both_pending(play, rows):
    asked, tool = [], FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=lambda one: asked.append(one) or Decision.PENDING)
    result = play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=policy)
    assert [row.error_type for row in rows("tool_call")] == ["approval_pending"] * 2
    assert (result.stop, tool.calls) == ("approval_pending:pay", [])


def test_repeat_of_a_refused_write_is_made_where_it_is_allowed(play, rows):
    """A refusal is no effect: nothing is remembered of it."""
    answers, tool = iter([False, True]), FakeTool("pay", effect=Effect.WRITE)
    policy = Policy(("pay",), approver=lambda one: next(answers))
    play([asking(("pay", PAY), ("pay", PAY)), DONE], [tool], policy=policy)
    by_place = sorted(rows("tool_call"), key=lambda row: row.call_ix)
    assert [row.outcome.value for row in by_place] == ["approval_denied", "ok"]


def test_every_try_reserves_its_cost_once_and_a_refused_one_gets_it_back(play, rows):
    tool = FakeTool("look", [ValueError("x"), "page"], cost_usd=1.0)
    policy = Policy(
        ("look",),
        Budget(max_usd=10),
        tool_budgets={"look": ToolBudget(max_usd=5)},
        tenant_budgets={"*": WindowBudget(60, max_usd=100)},
        retries={"look": STEADY},
        breakers={"look": BreakerPolicy(min_calls=1)},
    )
    free = PriceTable({"m": Price(0.0, 0.0)}, use_public=False)
    looks = [asking(("look", {"n": n}), usage=Usage(1, 1)) for n in range(2)]
    done = ModelResponse("x", usage=Usage(1, 1))
    result = play([*looks, done], [tool], policy=policy, prices=free)
    assert outcomes(rows) == ["failed", "circuit_open", "circuit_open"]
    assert (result.usage.tool_calls, result.usage.usd) == (3, 1.0)
    scoped = json.loads(rows("run_stopped")[0].scoped_budgets)
    assert {(one["scope"], one["used"]) for one in scoped} == {("tool:look", 1.0), ("tenant:", 1.0)}
