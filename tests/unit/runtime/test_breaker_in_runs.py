"""The rules of degrade mode: what an open circuit breaker means for runs, and that all is told."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from flightlog.control.breaker_policy import BreakerPolicy, Fallback
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

DONE = ModelResponse("x")
DOWN = [ValueError("down")]


def breaker(fallback=Fallback.WITHOUT_TOOL, **more):
    return BreakerPolicy(min_calls=3, window_s=60, open_s=30, fallback=fallback, **more)


def policy(fallback=Fallback.WITHOUT_TOOL, **more):
    return Policy(
        ("*",),
        Budget(max_tool_calls=None, max_seconds=None),
        breakers={"browse": breaker(fallback)},
        approver=approve_all,
        **more,
    )


def changes(rows, subject):
    return [
        (row.tool_name, row.state_from, row.state_to)
        for row in rows("state_changed")
        if row.subject == subject
    ]


def browse(n):
    return asking(("browse", {"n": n}))


def test_breaker_opens_after_the_failures_and_refuses_further_calls(play, rows):
    tool = FakeTool("browse", DOWN)
    result = play([*map(browse, range(6)), DONE], [tool], policy=policy())
    assert result.stop == "ok"
    assert len(tool.calls) == 3
    assert [row.outcome for row in rows("tool_call")] == [Outcome.FAILED] * 3 + [
        Outcome.CIRCUIT_OPEN
    ] * 3
    assert changes(rows, "breaker") == [("browse", "closed", "open")]


def test_refusal_says_when_the_tool_is_tried_again(play, rows):
    play([*map(browse, range(4)), DONE], [FakeTool("browse", DOWN)], policy=policy())
    assert rows("tool_call")[-1].error == (
        "the circuit breaker of 'browse' is open after too many failures; it is tried again in 30 s"
    )


def test_run_goes_on_without_the_tool_and_the_model_is_not_offered_it(play, rows):
    tools = [FakeTool("browse", DOWN), FakeTool("search")]
    model = ScriptedModel("m", [*map(browse, range(3)), asking(("search", {})), DONE])
    sink = MemorySink()
    agent = Agent("a", model, tools, policy=policy())
    assert run(agent, Task("t", "go"), sink=sink, clock=FakeClock()).stop == "ok"
    offered = [[tool.name for tool in request.tools] for request in model.requests]
    assert offered == [["browse", "search"]] * 3 + [["search"]] * 2


def test_degrading_is_recorded_with_its_reason(play, rows):
    play([*map(browse, range(4)), DONE], [FakeTool("browse", DOWN)], policy=policy())
    assert changes(rows, "degrade") == [("browse", "normal", "without_tool")]


def test_read_only_fallback_refuses_writes_and_offers_none(play, rows):
    tools = [FakeTool("browse", DOWN), FakeTool("pay", effect=Effect.WRITE), FakeTool("search")]
    script = [*map(browse, range(3)), asking(("pay", {}), ("search", {})), DONE]
    result = play(script, tools, policy=policy(Fallback.READ_ONLY))
    assert result.stop == "ok"
    last = {row.tool_name: row for row in rows("tool_call")}
    assert (last["pay"].outcome, last["pay"].error_type) == (Outcome.DENIED, "read_only")
    assert last["search"].outcome is Outcome.OK
    assert tools[1].calls == []
    assert (None, "normal", "read_only") in changes(rows, "degrade")


def test_stop_fallback_stops_at_the_next_call(play, rows):
    result = play([*map(browse, range(9))], [FakeTool("browse", DOWN)], policy=policy("stop"))
    assert (result.stop, result.usage.steps) == ("circuit_open:browse", 4)


def test_half_open_breaker_lets_one_probe_through_and_success_closes_it(play, rows, clock):
    tool = FakeTool("browse", [*DOWN * 3, "page"])

    def waiting(request):
        if request.step == 4:
            clock.advance_ms(31_000)
        return browse(request.step) if request.step < 7 else DONE

    play(waiting, [tool], policy=policy())
    assert [row.outcome.value for row in rows("tool_call")] == ["failed"] * 3 + ["ok"] * 3
    assert changes(rows, "breaker") == [
        ("browse", "closed", "open"),
        ("browse", "open", "half_open"),
        ("browse", "half_open", "closed"),
    ]
    assert changes(rows, "degrade") == [
        ("browse", "normal", "without_tool"),
        ("browse", "without_tool", "normal"),
    ]


def test_failing_probe_opens_it_again(play, rows, clock):
    def waiting(request):
        if request.step == 4:
            clock.advance_ms(31_000)
        return browse(request.step) if request.step < 7 else DONE

    play(waiting, [FakeTool("browse", DOWN)], policy=policy())
    assert [row.outcome.value for row in rows("tool_call")] == ["failed"] * 4 + ["circuit_open"] * 2
    assert changes(rows, "breaker")[-1] == ("browse", "half_open", "open")


def test_breaker_cuts_retries_short(play, rows):
    retry = RetryPolicy(max_attempts=10, initial_s=0.1, jitter=0)
    play([browse(1), DONE], [FakeTool("browse", DOWN)], policy=policy(retries={"*": retry}))
    assert [row.outcome.value for row in rows("tool_call")] == ["failed"] * 3 + ["circuit_open"]


def test_runs_that_share_a_control_share_the_breaker():
    control, tool = Control.in_process(), FakeTool("browse", DOWN)
    clock = FakeClock()
    for _ in range(5):
        model = ScriptedModel("m", [browse(1), DONE])
        agent = Agent("a", model, [tool], policy=policy())
        run(agent, Task("t", "go"), clock=clock, control=control)
    assert len(tool.calls) == 3


def test_runs_without_a_store_share_nothing():
    tool = FakeTool("browse", DOWN)
    for _ in range(5):
        model = ScriptedModel("m", [browse(1), DONE])
        agent = Agent("a", model, [tool], policy=policy())
        run(agent, Task("t", "go"), clock=FakeClock())
    assert len(tool.calls) == 5


@pytest.mark.parametrize("outcome", ["invalid_input", "denied"])
def test_refusals_are_no_failures_of_the_tool(play, rows, outcome):
    args = "not json" if outcome == "invalid_input" else {}
    name = "browse" if outcome == "invalid_input" else "other"
    script = [asking((name, args))] * 5
    tool = FakeTool("browse", ["page"])
    play([*script, browse(1), DONE], [tool], policy=policy())
    assert len(tool.calls) == 1


def test_deadline_of_the_run_is_no_failure_of_the_tool(clock):
    control = Control.in_process()
    slow = FakeTool("browse", clock=clock, latency_ms=2000)
    own = Policy(("*",), Budget(max_seconds=1), breakers={"browse": breaker()})
    for _ in range(5):
        agent = Agent("a", ScriptedModel("m", [browse(1), DONE]), [slow], policy=own)
        result = run(agent, Task("t", "go"), clock=clock, control=control)
        assert result.stop == "max_seconds"
    assert len(slow.calls) == 5


# What a run finds when it starts, and what other runs do meanwhile


def offered_after(fallback, *, waited_s=0, opened_at_step=0):
    """The tools offered at each of three steps, where another run opens the breaker."""
    control, clock, sink = Control.in_process(), FakeClock(), MemorySink()

    def open_it():
        for n in range(3):
            model = ScriptedModel("m", [browse(n), DONE])
            agent = Agent("other", model, [FakeTool("browse", DOWN)], policy=policy(fallback))
            run(agent, Task("t", "go"), clock=clock, control=control)

    def answer(request):
        if request.step == opened_at_step:
            open_it()
        return DONE if request.step == 3 else asking(("search", {"n": request.step}))

    if opened_at_step == 0:
        open_it()
    clock.advance_ms(waited_s * 1000)
    tools = [FakeTool("browse"), FakeTool("search"), FakeTool("pay", effect=Effect.WRITE)]
    model = ScriptedModel("m", answer)
    agent = Agent("a", model, tools, policy=policy(fallback))
    assert run(agent, Task("t", "go"), sink=sink, clock=clock, control=control).stop == "ok"
    changed = [
        (event.step, event.tool_name, event.state_to)
        for event in sink.events
        if event.__struct_config__.tag == "state_changed"
    ]
    return [[tool.name for tool in request.tools] for request in model.requests], changed


ALL = ["browse", "search", "pay"]


@pytest.mark.parametrize(
    ("fallback", "offered", "changed"),
    [
        (Fallback.WITHOUT_TOOL, ["search", "pay"], [(1, "browse", "without_tool")]),
        (Fallback.READ_ONLY, ["search"], [(1, "browse", "without_tool"), (1, None, "read_only")]),
        (Fallback.STOP, ALL, []),
    ],
)
def test_breaker_that_is_open_at_the_start_counts_from_the_first_step(fallback, offered, changed):
    assert offered_after(fallback) == ([offered] * 3, changed)


@pytest.mark.parametrize("fallback", Fallback)
def test_breaker_whose_time_is_over_at_the_start_takes_nothing_away(fallback):
    assert offered_after(fallback, waited_s=31) == ([ALL] * 3, [])


def test_breaker_that_another_run_opens_counts_from_the_next_step():
    offered, changed = offered_after(Fallback.WITHOUT_TOOL, opened_at_step=1)
    assert offered == [ALL, ["search", "pay"], ["search", "pay"]]
    assert changed == [(2, "browse", "without_tool")]


def test_breaker_that_another_run_closes_gives_the_tool_back(clock):
    control, opened = Control.in_process(), policy()
    breakers, one = control.breakers, opened.breakers["browse"]

    def report(*, failed):
        got = breakers.admit("browse", one, clock.wall_us() / 1e6)
        probe = {"is_probe": got.is_probe, "probe_id": got.probe_id}
        breakers.report("browse", one, clock.wall_us() / 1e6, failed=failed, **probe)

    def answer(request):
        if request.step == 1:
            clock.advance_ms(31_000)
            report(failed=False)
        return asking(("search", {})) if request.step == 1 else DONE

    for _ in range(3):
        report(failed=True)
    model = ScriptedModel("m", answer)
    agent = Agent("a", model, [FakeTool("browse"), FakeTool("search")], policy=opened)
    run(agent, Task("t", "go"), clock=clock, control=control)
    offered = [[tool.name for tool in request.tools] for request in model.requests]
    assert offered == [["search"], ["browse", "search"]]


# A probe of a half-open breaker that comes to nothing makes room for another one


def half_open(clock):
    """A control whose breaker of `browse` waits for a probe."""
    control = Control.in_process()
    model = ScriptedModel("m", [*map(browse, range(3)), DONE])
    agent = Agent("a", model, [FakeTool("browse", DOWN)], policy=policy())
    run(agent, Task("t", "go"), clock=clock, control=control)
    clock.advance_ms(31_000)
    return control


def is_free(control, clock):
    """True when a probe is let through at this very moment."""
    return not control.breakers.admit("browse", breaker(), clock.wall_us() / 1e6).is_open


def probing(tool, budget=None, **more):
    own = Policy(
        ("*",),
        budget or Budget(max_seconds=None),
        breakers={"browse": breaker()},
        **{"approver": approve_all, **more},
    )
    return Agent("a", ScriptedModel("m", [browse(1), DONE]), [tool], policy=own)


def test_probe_that_is_under_way_lets_no_other_one_through(clock):
    control, seen = half_open(clock), []
    tool = FakeTool("browse", lambda n: seen.append(is_free(control, clock)) or "page")
    run(probing(tool), Task("t", "go"), clock=clock, control=control)
    assert seen == [False]


def test_probe_that_the_deadline_refuses_is_given_back(clock):
    control = half_open(clock)

    def approve_late(_request):
        clock.advance_ms(2000)
        return True

    tool = FakeTool("browse", effect=Effect.WRITE)
    agent = probing(tool, Budget(max_seconds=1), approver=approve_late)
    result = run(agent, Task("t", "go"), clock=clock, control=control)
    assert (result.stop, tool.calls, is_free(control, clock)) == ("max_seconds", [], True)


def test_probe_that_the_deadline_cuts_is_given_back(clock):
    control = half_open(clock)
    tool = FakeTool("browse", clock=clock, latency_ms=2000)
    result = run(
        probing(tool, Budget(max_seconds=1)), Task("t", "go"), clock=clock, control=control
    )
    assert (result.stop, is_free(control, clock)) == ("max_seconds", True)


def test_probe_that_the_kill_switch_stops_at_the_last_moment_is_given_back(clock):
    control = half_open(clock)

    class Killing(MemorySink):
        """Throws the kill switch once the intent is written."""

        def emit(self, event, *, messages=(), durable=False):
            if event.__struct_config__.tag == "tool_intent":
                control.kill_switch.turn_on(KillMode.STOP_ALL, who="ops", why="", at_us=0)
            return super().emit(event, messages=messages, durable=durable)

    tool = FakeTool("browse", effect=Effect.WRITE)
    result = run(probing(tool), Task("t", "go"), clock=clock, control=control, sink=Killing())
    assert (result.stop, tool.calls, is_free(control, clock)) == ("kill_switch", [], True)


def test_probe_whose_intent_cannot_be_written_is_given_back(clock):
    control = half_open(clock)

    class Full(MemorySink):
        def emit(self, event, *, messages=(), durable=False):
            return event.__struct_config__.tag != "tool_intent"

    tool = FakeTool("browse", effect=Effect.WRITE)
    result = run(probing(tool), Task("t", "go"), clock=clock, control=control, sink=Full())
    assert (result.stop, tool.calls, is_free(control, clock)) == ("recorder_failed", [], True)


@pytest.mark.parametrize("is_async", [False, True])
def test_probe_of_a_cancelled_run_is_given_back(clock, is_async):
    control, token, release = half_open(clock), CancelToken(), threading.Event()

    def give_up(n):
        token.cancel()
        release.wait(30)
        return "late"

    agent = probing(FakeTool("browse", give_up))
    around = {"clock": clock, "control": control, "cancel": token}
    try:
        if is_async:
            result = asyncio.run(run_async(agent, Task("t", "go"), **around))
        else:
            result = run(agent, Task("t", "go"), **around)
        assert (result.stop, is_free(control, clock)) == ("cancelled", True)
    finally:
        release.set()


def test_probe_of_an_interrupted_run_is_given_back(clock):
    control = half_open(clock)

    def interrupt(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(probing(FakeTool("browse", interrupt)), Task("t", "go"), clock=clock, control=control)
    assert is_free(control, clock)


def test_probe_of_a_killed_process_expires(tmp_path, clock):
    code = """
        import os, signal, sys
        from flightlog.control.breaker_policy import BreakerPolicy
        from flightlog.control.control import Control

        breakers, policy = Control.at(sys.argv[1]).breakers, BreakerPolicy(min_calls=1, open_s=30)
        breakers.report("browse", policy, 0.0, failed=True, is_probe=False)
        assert breakers.admit("browse", policy, 31.0).is_probe
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    breakers, one = Control.at(tmp_path).breakers, BreakerPolicy(min_calls=1, open_s=30)
    assert breakers.admit("browse", one, 32.0).is_open
    assert breakers.admit("browse", one, 61.5).is_probe
