"""The rules of the detectors: what is found, when it is told, and what that costs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import ConfigError
from flightlog.runtime import episodes
from flightlog.runtime.guards import (
    Guard,
    GuardAction,
    GuardFinding,
    GuardPolicy,
    Guards,
    StepCall,
)
from flightlog.trace.vocab import StopReason

Told = list[tuple[int, GuardFinding]]

small = st.integers(0, 3)
a_call = st.builds(
    lambda tool, args, observed, is_ok, is_write: StepCall(
        f"t{tool}", f"a{args}", f"o{observed}", is_ok, is_write
    ),
    small,
    small,
    small,
    st.booleans(),
    st.booleans(),
)
some_steps = st.lists(st.lists(a_call, min_size=1, max_size=4), max_size=60)
some_policies = st.builds(
    GuardPolicy,
    repeats=st.integers(2, 5),
    cycles=st.integers(2, 4),
    max_period=st.integers(2, 5),
    stalled_steps=st.integers(2, 6),
)


def call(
    tool: str, observed: str, *, args: str = "{}", is_ok: bool = True, is_write: bool = False
) -> StepCall:
    return StepCall(tool, args, observed, is_ok, is_write)


def told(steps: Iterable[list[StepCall]], policy: GuardPolicy | None = None) -> Told:
    guards = Guards(policy or GuardPolicy())
    return [
        (step, finding)
        for step, calls in enumerate(steps, 1)
        for finding in guards.after_tools(step, calls)
    ]


def steps_of(found: Told, guard: Guard, *, is_over: bool = False) -> list[int]:
    return [step for step, one in found if one.guard is guard and one.is_over == is_over]


def prompts(
    *sent: dict[str, Any], policy: GuardPolicy | None = None, guards: Guards | None = None
) -> Told:
    guards = guards or Guards(policy or GuardPolicy())
    usual = {
        "prompt_bytes": 1000,
        "prompt_messages": 3,
        "conversation_messages": 3,
        "context_limit": None,
        "is_truncated": False,
        "has_policy": True,
    }
    return [
        (step, finding)
        for step, changed in enumerate(sent, 1)
        for finding in guards.before_model(step, **(usual | changed))
    ]


# Repeated calls


@given(st.integers(2, 9), st.integers(1, 200))
def test_constant_sequence_is_found_at_exactly_the_threshold_and_its_doublings(repeats, length):
    found = told([[call("a", "x")]] * length, GuardPolicy(repeats=repeats))
    due = [repeats * 2**power for power in range(8) if repeats * 2**power <= length]
    assert steps_of(found, Guard.REPEATED_CALL) == due


def test_a_thousand_repeats_are_few_findings_with_their_numbers():
    found = told([[call("browse", "x")]] * 1000)
    details = [one.detail for _, one in found if one.guard is Guard.REPEATED_CALL]
    assert len(details) == 9
    assert details[0] == (
        "'browse' was called 3 times with the same arguments and result, at step 3"
    )
    assert "called 768 times" in details[-1]
    assert len(found) <= 2 * len(details)


def test_polled_job_whose_answer_changes_is_progress():
    assert told([[call("status", f"{percent} %")] for percent in range(100)]) == []


def test_polled_job_is_repeated_from_its_last_change_on():
    answers = ["1 %", "1 %", "2 %", "2 %", "3 %", "3 %", "3 %"]
    found = told([[call("status", answer)] for answer in answers])
    assert steps_of(found, Guard.REPEATED_CALL) == [7]


def test_other_arguments_are_another_call():
    found = told([[call("a", f"o{n}", args=str(n % 2))] for n in range(100)])
    assert found == []


def test_repeats_count_over_other_calls_in_between():
    found = told([[call("a", "x"), call("b", f"y{n}")] for n in range(3)])
    assert steps_of(found, Guard.REPEATED_CALL) == [3]


def test_repeats_within_one_step_count():
    found = told([[call("a", "x")] * 2, [call("a", "x")] * 2])
    assert [(step, "4 times" in one.detail) for step, one in found] == [(2, True)]


def test_errors_with_an_id_in_their_text_are_the_same_failure():
    failures = [[call("get", f"error 503, request {n}", is_ok=False)] for n in range(4)]
    found = told(failures)
    assert steps_of(found, Guard.REPEATED_CALL) == [3]
    assert "same arguments and no success" in found[0][1].detail


def test_success_after_failures_begins_anew():
    answers = [call("get", "e", is_ok=False), call("get", "e", is_ok=False), call("get", "e")]
    assert told([[one] for one in answers]) == []


def test_many_calls_that_repeat_are_few_findings():
    steps = [[call("browse", "down", args=str(n))] for n in range(500) for _ in range(6)]
    found = told(steps)
    assert len(steps_of(found, Guard.REPEATED_CALL)) == 18  # of 500: 1st, 2nd, 4th .. 256th; twice


def test_calls_that_alternate_around_the_threshold_do_not_flap():
    answers = "xxxyyy" * 200
    found = told([[call("a", answer)] for answer in answers])
    assert len(steps_of(found, Guard.REPEATED_CALL)) <= 9
    assert len(found) <= 40


def test_each_tool_has_its_first_finding():
    steps = [[call(tool, "x")] for tool in ("a", "b", "c", "d") for _ in range(3)]
    found = told(steps)
    assert [one.tool for _, one in found if one.guard is Guard.REPEATED_CALL] == list("abcd")


# Cycles


@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 5))
def test_cycle_is_found_when_its_last_step_is_complete(period, cycles, before):
    lead = [[call("lead", f"n{n}")] for n in range(before)]
    loop = [[call(f"t{place}", "same")] for place in range(period)] * cycles
    policy = GuardPolicy(cycles=cycles, max_period=4, repeats=100, stalled_steps=100)
    found = told([*lead, *loop], policy)
    assert [(step, one.guard) for step, one in found] == [(before + period * cycles, Guard.CYCLE)]
    assert f"{period} steps were repeated {cycles} times: 't0' -> 't1'" in found[0][1].detail


def test_cycle_is_told_at_doublings_and_its_end():
    loop = [[call("a", "x")], [call("b", "y")]] * 100
    found = told([*loop, [call("c", "new")], *loop])
    assert steps_of(found, Guard.CYCLE) == [6, 12, 24, 48, 96, 192, 207, 213, 225, 249, 297, 393]
    assert steps_of(found, Guard.CYCLE, is_over=True) == [201]
    [end] = [one for _, one in found if one.is_over and one.guard is Guard.CYCLE]
    assert end.detail == "no longer so at step 201; it was so from step 6 on"


def test_longer_cycle_than_looked_for_is_none():
    loop = [[call(f"t{place}", "x")] for place in range(5)] * 20
    assert steps_of(told(loop, GuardPolicy(max_period=4)), Guard.CYCLE) == []
    assert steps_of(told(loop, GuardPolicy(max_period=5)), Guard.CYCLE)[0] == 15


def test_the_same_step_again_and_again_is_no_cycle():
    assert steps_of(told([[call("a", "x"), call("b", "y")]] * 50), Guard.CYCLE) == []


def test_cycle_with_a_step_twice_in_it_is_found():
    loop = [[call(tool, "x")] for tool in "aab"] * 3
    assert steps_of(told(loop), Guard.CYCLE) == [9]


def test_cycle_in_which_an_answer_changes_is_none():
    steps = [[call("a", "x")], [call("poll", "0")]]
    changing = [[steps[0], [call("poll", str(n))]][n % 2] for n in range(40)]
    assert steps_of(told(changing), Guard.CYCLE) == []


# No progress


def test_steps_without_a_new_observation_are_found_and_their_end_is_told():
    stalled = [[call("a", "x")]] * 12
    found = told([*stalled, [call("a", "new")]])
    assert steps_of(found, Guard.NO_PROGRESS) == [6, 11]
    assert steps_of(found, Guard.NO_PROGRESS, is_over=True) == [13]


def test_failures_are_no_progress_however_they_differ():
    failures = [[call("a", f"e{n}", args=str(n), is_ok=False)] for n in range(5)]
    found = told(failures)
    assert [(step, one.guard) for step, one in found] == [(5, Guard.NO_PROGRESS)]
    assert found[0][1].detail == "5 steps in a row brought no new observation, at step 5"


def test_same_answer_to_other_questions_is_no_progress():
    steps = [[call("search", "no results", args=str(n))] for n in range(6)]
    assert steps_of(told(steps), Guard.NO_PROGRESS) == [6]


def test_different_writes_with_the_same_answer_are_progress():
    steps = [[call("send", "sent", args=str(n), is_write=True)] for n in range(50)]
    assert told(steps) == []


def test_the_same_write_again_is_no_progress():
    steps = [[call("send", "sent", is_write=True)]] * 6
    assert steps_of(told(steps), Guard.NO_PROGRESS) == [6]


def test_one_new_observation_of_many_is_progress():
    steps = [[*[call("a", "x")] * 4, call("b", f"new {n}")] for n in range(20)]
    assert steps_of(told(steps), Guard.NO_PROGRESS) == []


def test_new_words_of_the_user_begin_the_loops_anew():
    guards = Guards(GuardPolicy())
    calls = [call("orders", "A1: sent")]
    found = []
    for step in range(1, 11):
        found += guards.after_tools(step, calls)
        found += guards.after_user(step, f"question {step}")
    assert found == []


def test_a_user_who_repeats_himself_changes_nothing():
    guards = Guards(GuardPolicy())
    found = []
    for step in range(1, 11):
        found += guards.after_tools(step, [call("orders", "A1: sent")])
        found += guards.after_user(step, "and now?")
    assert {one.guard for one in found} == {Guard.REPEATED_CALL, Guard.NO_PROGRESS}


def test_new_words_of_the_user_end_what_was_found():
    guards = Guards(GuardPolicy())
    for step in range(1, 8):
        guards.after_tools(step, [call("a", "x")])
    [end] = guards.after_user(7, "something else, then")
    assert (end.guard, end.is_over, end.action) == (Guard.NO_PROGRESS, True, GuardAction.RECORD)


# All loops


@given(
    st.lists(st.lists(st.tuples(small, small, st.booleans()), min_size=1, max_size=4), max_size=50)
)
def test_nothing_is_found_while_every_observation_is_new(shape):
    number = iter(range(10_000))
    steps = [
        [call(f"t{tool}", f"o{next(number)}", args=f"a{args}", is_write=w) for tool, args, w in one]
        for one in shape
    ]
    assert told(steps, GuardPolicy(repeats=2, cycles=2, stalled_steps=2)) == []


@given(some_steps, some_policies, st.randoms(use_true_random=False))
def test_order_of_parallel_calls_does_not_matter(steps, policy, random):
    shuffled = [random.sample(calls, len(calls)) for calls in steps]
    assert told(shuffled, policy) == told(steps, policy)


@given(some_steps, some_policies)
def test_names_of_tools_do_not_matter(steps, policy):
    names = {"t0": "z", "t1": "m", "t2": "a", "t3": "k"}
    renamed = [
        [call(names[c.tool], c.observation_digest, args=c.args_digest, is_ok=c.is_ok,
              is_write=c.is_write) for c in calls]
        for calls in steps
    ]  # fmt: skip

    def shape(found: Told, names: dict[str, str]) -> list[tuple[Any, ...]]:
        return sorted(
            (step, one.guard, names.get(one.tool or "", ""), one.is_over) for step, one in found
        )

    identity = {name: name for name in names.values()}
    assert shape(told(renamed, policy), identity) == shape(told(steps, policy), names)


@given(some_steps, some_policies)
def test_beginning_and_end_alternate_and_an_end_was_begun(steps, policy):
    found = told(steps, policy)
    assert not steps_of(found, Guard.REPEATED_CALL, is_over=True)
    for guard in (Guard.CYCLE, Guard.NO_PROGRESS):
        marks = [one.is_over for _, one in found if one.guard is guard]
        assert marks[:1] != [True]
        assert (True, True) not in pairwise(marks)


@given(some_steps)
def test_same_steps_are_told_the_same(steps):
    assert told(steps) == told(steps)


@given(st.lists(st.booleans(), max_size=300))
def test_states_that_come_and_go_are_told_ever_more_seldom(pattern):
    sent = ({"has_policy": has_policy} for has_policy in pattern)
    found = prompts(*sent)
    comings = sum(a and not b for a, b in pairwise([True, *pattern]))
    starts = len(steps_of(found, Guard.POLICY_LOST))
    assert starts == comings.bit_length()
    assert len(found) <= 2 * starts


@pytest.mark.parametrize("guard", Guard)
def test_every_finding_carries_the_action_of_its_guard(guard):
    policy = GuardPolicy(actions={guard: GuardAction.STOP})
    found = told([[call("a", "x")]] * 9 + [[call(t, "y")] for t in "bc"] * 5, policy)
    found += prompts(
        {"is_truncated": True, "has_policy": False},
        {"prompt_bytes": 100_000, "context_limit": 2000},
        policy=policy,
    )
    begun = [one for _, one in found if not one.is_over]
    assert {one.guard for one in begun} == set(Guard)
    assert {one.guard for one in begun if one.action is GuardAction.STOP} == {guard}


def test_names_of_tools_are_shown_short_and_as_valid_text():
    found = told([[call("x" * 100_000 + "\ud800", "y")], [call("\ud800", "z")]] * 3)
    assert {len(one.detail) < 300 for _, one in found} == {True}
    for _, one in found:
        (one.detail + (one.tool or "")).encode()


# Prompts


def test_truncation_and_lost_policy_are_told_once_with_their_end():
    lost = {
        "is_truncated": True,
        "has_policy": False,
        "prompt_messages": 3,
        "conversation_messages": 9,
    }
    found = prompts({}, *[lost] * 20, {})
    for guard in (Guard.TRUNCATED, Guard.POLICY_LOST):
        assert steps_of(found, guard) == [2]
        assert steps_of(found, guard, is_over=True) == [22]
    assert found[0][1].detail == (
        "the prompt of 3 messages, 1000 bytes lacks messages of the conversation, which has 9, "
        "at step 2"
    )
    assert "lacks the system policy" in found[1][1].detail


def test_without_a_system_policy_none_is_lost():
    assert prompts({"has_policy": None}, {"has_policy": None}) == []


def test_prompt_growth_is_told_at_doublings_of_the_size():
    sizes = [10_000 * step for step in range(1, 101)]
    found = prompts(*({"prompt_bytes": size} for size in sizes))
    assert steps_of(found, Guard.PROMPT_GROWTH) == [10, 20, 40, 80]
    assert "100000 bytes is 10.0 times the first one" in found[0][1].detail


def test_small_prompts_may_grow():
    assert prompts({"prompt_bytes": 10}, {"prompt_bytes": 60_000}) == []
    assert prompts({"prompt_bytes": 0}, {"prompt_bytes": 70_000})


def test_context_limit_is_found_by_estimate_until_a_model_has_counted():
    found = prompts({"prompt_bytes": 3600, "context_limit": 1000})
    assert "900 of 1000 tokens of the context window (estimated)" in found[0][1].detail
    assert prompts({"prompt_bytes": 3599, "context_limit": 1000}) == []


def test_context_limit_follows_what_the_model_counted():
    guards = Guards(GuardPolicy())
    guards.after_model(input_tokens=700, prompt_bytes=1000)
    assert prompts({"prompt_bytes": 1000, "context_limit": 1000}, guards=guards) == []
    found = prompts({"prompt_bytes": 1800, "context_limit": 1000}, guards=guards)
    assert "900 of 1000 tokens" in found[0][1].detail


def test_tokens_of_tools_do_not_multiply_with_the_messages():
    guards = Guards(GuardPolicy())
    guards.after_model(input_tokens=5_025, prompt_bytes=100)  # 5,000 of them are schemas of tools
    assert prompts({"prompt_bytes": 40_000, "context_limit": 200_000}, guards=guards) == []


def test_shrunken_prompt_has_its_share_of_the_counted_tokens():
    guards = Guards(GuardPolicy())
    guards.after_model(input_tokens=100_000, prompt_bytes=300_000)
    assert prompts({"prompt_bytes": 30_000, "context_limit": 20_000}, guards=guards) == []


def test_unknown_count_and_unknown_limit_find_nothing():
    guards = Guards(GuardPolicy())
    guards.after_model(input_tokens=None, prompt_bytes=1000)
    assert prompts({"prompt_bytes": 10**5, "context_limit": None}, guards=guards) == []
    assert prompts({"prompt_bytes": 10**3, "context_limit": 1000}, guards=guards) == []


# Cost


def lines_of_a_step(guards: Guards, step: int, calls: list[StepCall]) -> int:
    """Lines of Python that one step executes: operations, not time."""
    lines = 0

    def count(frame: Any, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        guards.after_tools(step, calls)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("kind", ["new", "repeated", "cycle"])
def test_a_late_step_costs_no_more_than_an_early_one(kind):
    guards = Guards(GuardPolicy())

    def calls(step: int) -> list[StepCall]:
        observed = {"new": step, "repeated": 0, "cycle": step % 3}[kind]
        return [call("a", f"o{observed}", args=f"a{observed}")]

    early = [lines_of_a_step(guards, step, calls(step)) for step in range(1, 200)]
    for step in range(200, 20_000):
        guards.after_tools(step, calls(step))
    late = [lines_of_a_step(guards, step, calls(step)) for step in range(20_000, 20_100)]
    assert max(late) <= max(early) + 2
    assert max(late) < 150


def test_memory_is_bounded_and_what_is_in_use_is_kept():
    guards = Guards(GuardPolicy(stalled_steps=2))
    found = []
    for step in range(3 * episodes.MAX_KEPT):
        found += guards.after_tools(
            step, [call(f"t{step}", f"o{step}", args=f"a{step}"), call("poll", "same")]
        )
    held = [value for value in vars(guards).values() if hasattr(value, "__len__")]
    assert max(map(len, held)) <= episodes.MAX_KEPT
    numbers = [one.detail for one in found if one.guard is Guard.REPEATED_CALL]
    assert "called 24576 times" in numbers[-1]


# Policy


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ({"cycles": "stop"}, "unknown guard 'cycles'"),
        ({"cycle": "halt"}, "unknown action of a guard 'halt'"),
        ({5: "stop"}, "unknown guard 5"),
        ({"cycle": None}, "unknown action of a guard None"),
    ],
)
def test_unknown_guard_or_action_is_an_error_with_the_nearest_names(actions, says):
    with pytest.raises(ConfigError) as caught:
        GuardPolicy(actions=actions)
    assert caught.value.what == says
    assert ("cycle" in caught.value.hint) or ("stop" in caught.value.hint)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in ("repeats", "cycles", "max_period", "stalled_steps")
          for value in (1, 0, -1, 2.0, True, None, "3")),
        *({"growth_factor": value} for value in (1, 0, float("nan"), float("inf"), "2", None)),
        *({"growth_bytes": value} for value in (-1, 1.5, True, None)),
        *({"context_share": value} for value in (0, 1.01, -1, float("nan"), "0.5", True)),
    ],
)  # fmt: skip
def test_thresholds_that_mean_nothing_are_errors(wrong):
    [name] = wrong
    with pytest.raises(ConfigError, match=rf"guard {name}=") as caught:
        GuardPolicy(**wrong)
    assert caught.value.hint


def test_names_as_text_are_taken_and_what_is_not_named_only_records():
    policy = GuardPolicy(actions={"cycle": "stop", "policy_lost": "read_only"})  # type: ignore[dict-item]
    assert policy.actions == {
        Guard.CYCLE: GuardAction.STOP,
        Guard.POLICY_LOST: GuardAction.READ_ONLY,
    }
    assert policy.action_of(Guard.TRUNCATED) is GuardAction.RECORD


def test_loops_and_prompts_end_runs_with_reasons_of_their_own():
    loops = {guard for guard in Guard if guard.stop_reason is StopReason.LOOP_DETECTED}
    assert loops == {Guard.REPEATED_CALL, Guard.CYCLE, Guard.NO_PROGRESS}
    others = {guard.stop_reason for guard in Guard if guard not in loops}
    assert others == {StopReason.CONTEXT_OVERFLOW}


# The page


def table(heading: str) -> dict[str, list[str]]:
    """The cells of a table of the page, by the name in its first column."""
    page = (Path(__file__).parents[3] / "docs" / "guards.md").read_text(encoding="utf-8")
    lines = page.split(heading)[1].split("\n\n")
    rows = next(part for part in lines if part.startswith("|")).strip().splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first.strip("`"): rest for first, *rest in cells}


def test_page_names_every_guard_with_its_stop_reason():
    shown = {name: cells[-1].strip("`") for name, cells in table("does more than that").items()}
    assert shown == {guard.value: guard.stop_reason.value for guard in Guard}


def test_page_names_every_action():
    assert list(table("## What a finding leads to")) == [action.value for action in GuardAction]


def test_page_names_every_number_with_its_default():
    shown = {name: cells[0] for name, cells in table("## Numbers").items()}
    defaults = {one.name: str(one.default) for one in fields(GuardPolicy) if one.name != "actions"}
    assert shown == defaults
