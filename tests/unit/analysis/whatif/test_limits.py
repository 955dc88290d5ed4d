"""History under other limits: each saves exactly what comes after the call that it stops."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flightlog.analysis.whatif import (
    Breaker,
    History,
    Limits,
    Quota,
    Saved,
    history_of,
    rerun,
)
from flightlog.analysis.whatif.limits import wilson
from flightlog.analysis.window import Scope, open_window
from tests.unit.analysis.made_events import Run, traces_of_runs


def history(*runs: Run) -> History:
    traces = traces_of_runs(*runs)
    return history_of(open_window(traces, Scope()))


def saved(limits: Limits, *runs: Run) -> Saved:
    return rerun(history(*runs), limits)


def four_calls(run_id: str = "r", **more: float) -> Run:
    """Model 0.1, tool, model 0.2, tool, model 0.4, tool, tool, end: $0.7."""
    run = Run(run_id, **more)  # type: ignore[arg-type]
    run.model(step=1, usd=0.1, input_tokens=10, output_tokens=1).tool("t", step=1)
    run.model(step=2, usd=0.2, input_tokens=20, output_tokens=2).tool("t", step=2)
    run.model(step=3, usd=0.4, input_tokens=40, output_tokens=4)
    return run.tool("u", "failed", step=3).tool("u", step=3, attempt=2).stop()


@pytest.mark.parametrize(
    ("limits", "tool_calls", "usd"),
    [
        (Limits(), 0, 0.0),
        (Limits(max_tool_calls=4), 0, 0.0),
        (Limits(max_tool_calls=3), 1, 0.0),
        (Limits(max_tool_calls=1), 3, 0.4),
        (Limits(max_tool_calls=0), 4, 0.6),
        (Limits(max_steps=2), 2, 0.4),
        (Limits(max_usd=0.3), 3, 0.4),
        (Limits(max_usd=0.31), 2, 0.0),
        (Limits(max_tokens=33), 3, 0.4),
        (Limits(max_seconds=4.0), 2, 0.4),
        (Limits(max_tool_calls=3, max_steps=2), 2, 0.4),
    ],
)
def test_a_limit_saves_what_comes_after_the_call_that_it_stops(
    limits: Limits, tool_calls: int, usd: float
) -> None:
    found = saved(limits, four_calls())
    assert found.tool_calls == tool_calls
    assert found.usd == pytest.approx(usd)
    assert found.usd_total == pytest.approx(0.7)
    assert found.runs_cut == bool(tool_calls or usd)
    assert found.is_exact


def test_each_run_has_limits_of_its_own() -> None:
    found = saved(Limits(max_tool_calls=2), four_calls("a"), four_calls("b", s=100.0))
    assert (found.runs, found.runs_cut, found.tool_calls) == (2, 2, 4)
    assert found.first_cut == 5


def test_a_refused_call_counts_as_an_attempt_and_saves_no_call() -> None:
    run = Run("r").tool("t", "denied").tool("t", "denied").tool("t").stop()
    assert saved(Limits(max_tool_calls=1), run).tool_calls == 1


def test_a_success_is_lost_only_where_the_run_is_cut() -> None:
    long, short = four_calls("long"), Run("short", s=50.0).tool("t").stop()
    failed = four_calls("failed", s=100.0).judged(passed=False)
    found = saved(Limits(max_tool_calls=2), long, short, failed)
    assert (found.successes, found.successes_lost) == (2, 1)
    assert found.lost_share == 0.5


def test_steps_that_tell_nothing_new_are_no_progress() -> None:
    run = Run("r")
    for step in range(1, 9):
        run.model(step=step, usd=1.0).tool("t", step=step, args="same", told="same")
    found = saved(Limits(stalled_steps=3), run.stop())
    # Step 1 tells something; 2, 3 and 4 do not; from step 5 on all is saved.
    assert (found.tool_calls, found.usd) == (4, 4.0)


def test_a_new_answer_is_progress() -> None:
    run = Run("r")
    for step in range(1, 9):
        run.tool("t", step=step, args="same", told=step)
    assert saved(Limits(stalled_steps=2), run.stop()).tool_calls == 0


def test_a_repeated_read_is_answered_from_the_first_until_something_is_written() -> None:
    run = Run("r").tool("read", args=1, told="x").tool("read", args=1, told="x")
    run.tool("write", effect="write").tool("read", args=1, told="x").stop()
    found = saved(Limits(dedupe=True), run)
    assert (found.tool_calls, found.runs_cut, found.is_exact) == (1, 0, False)


def test_the_calls_of_one_tool_beyond_its_budget_are_refused_and_the_run_goes_on() -> None:
    found = saved(Limits(per_tool={"u": 1}), four_calls())
    assert (found.tool_calls, found.usd, found.runs_cut) == (1, 0.0, 0)
    assert saved(Limits(per_tool={"*": 1}), four_calls()).tool_calls == 3


def test_a_tool_that_is_switched_off_ends_the_next_run_that_calls_it() -> None:
    made = history(four_calls("a"), four_calls("b", s=100.0))
    found = rerun(made, Limits(off_from={"u": made.s[0] + 50}))
    assert (found.runs_cut, found.tool_calls) == (1, 2)


def test_a_tenant_beyond_its_quota_ends_until_the_window_has_slid_on() -> None:
    runs = [four_calls(f"r{number}", s=100.0 * number) for number in range(4)]
    for run in runs:
        run.events[0]["tenant"] = "acme"
    quota = Quota(max_tool_calls=6, window_seconds=150.0)
    found = saved(Limits(per_tenant={"acme": quota}), *runs)
    # r0 4; r1 2 of 4; r2 begins as those of r0 have slid out: 4; r3 2 of 4.
    assert (found.runs_cut, found.tool_calls) == (2, 4)
    assert saved(Limits(per_tenant={"other": quota}), *runs).tool_calls == 0


def failing(run_id: str, s: float, outcomes: str) -> Run:
    run = Run(run_id, s=s)
    for outcome in outcomes:
        run.tool("t", "ok" if outcome == "." else "failed")
    return run.stop()


def test_a_breaker_opens_over_all_runs_and_lets_a_probe_through() -> None:
    breaker = Breaker(failure_rate=0.5, min_calls=4, window_seconds=60, open_seconds=10)
    # Opens at the 4th call (s 4), refuses 5 to 13; the probe at 14 fails; the next at 24 is ok.
    found = saved(Limits(breakers={"t": breaker}), failing("r", 0.0, "x" * 22 + "." * 10))
    assert found.tool_calls == 9 + 9
    assert found.runs_cut == 0
    assert not found.is_exact


def test_a_breaker_stays_closed_where_few_calls_fail() -> None:
    found = saved(Limits(breakers={"*": Breaker()}), failing("r", 0.0, "...x" * 20))
    assert found.tool_calls == 0


def test_limits_agree_with_a_run_by_run_loop() -> None:
    """Against a plain loop over each run, for random runs and limits."""
    rng = random.Random(3)
    for _ in range(40):
        runs = []
        for number in range(rng.randint(1, 6)):
            run = Run(f"r{number}", s=1_000.0 * number)
            for step in range(1, rng.randint(1, 8)):
                run.model(
                    step=step, usd=rng.choice([0.0, 0.5, 1.0]), input_tokens=rng.randint(0, 9)
                )
                for _ in range(rng.randint(0, 3)):
                    run.tool("t", rng.choice(["ok", "failed", "denied"]), step=step)
            runs.append(run.stop())
        limits = Limits(
            max_tool_calls=rng.choice([None, 0, 2, 5]),
            max_usd=rng.choice([None, 0.5, 2.0]),
            max_steps=rng.choice([None, 1, 3]),
            max_tokens=rng.choice([None, 5, 20]),
        )
        found = saved(limits, *runs)
        calls = usd = 0.0
        for run in runs:
            over, tools, spent, tokens = False, 0, 0.0, 0
            for event in run.events:
                if event["kind"] not in ("tool_call", "model_call"):
                    continue
                is_tool = event["kind"] == "tool_call"
                over |= limits.max_steps is not None and event["step"] > limits.max_steps
                over |= limits.max_usd is not None and spent >= limits.max_usd
                over |= limits.max_tokens is not None and tokens >= limits.max_tokens
                over |= (
                    is_tool
                    and limits.max_tool_calls is not None
                    and tools + 1 > limits.max_tool_calls
                )
                tools += is_tool
                spent += event.get("cost_usd") or 0.0
                tokens += event.get("input_tokens") or 0
                if over:
                    calls += is_tool and event["outcome"] != "denied"
                    usd += event.get("cost_usd") or 0.0
        assert found.tool_calls == calls
        assert found.usd == pytest.approx(usd)


def test_the_error_of_the_saved_money_is_that_of_a_sample_of_runs() -> None:
    """Against resampling the runs."""
    rng = random.Random(9)
    runs = []
    for number in range(300):
        run = Run(f"r{number:03d}", s=100.0 * number)
        for step in range(1, rng.randint(2, 12)):
            run.model(step=step, usd=1.0).tool("t", step=step)
        runs.append(run.stop())
    made = history(*runs)
    found = rerun(made, Limits(max_steps=6))
    spent = np.add.reduceat(made.usd, made.first)
    kept = np.minimum(spent, 6.0)
    draws = np.random.default_rng(1).integers(0, 300, (4_000, 300))
    shares = 1 - kept[draws].sum(axis=1) / spent[draws].sum(axis=1)
    error = 1.96 * shares.std() * found.usd_total
    assert found.usd_error == pytest.approx(error, rel=0.1)


def test_an_empty_history_saves_nothing() -> None:
    found = saved(Limits(max_steps=1, stalled_steps=2, dedupe=True))
    assert (found.runs, found.tool_calls, found.usd, found.first_cut) == (0, 0, 0.0, None)


def test_a_share_of_none_is_anything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(0, 100)
    assert low == 0.0
    assert high == pytest.approx(0.0370, abs=1e-4)
