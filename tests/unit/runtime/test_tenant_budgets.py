"""The rules of tenants' budgets: one window over all runs and processes, never overshot."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import pytest

from flightlog.control.control import Control
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import PriceError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel, Usage
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.sink import MemorySink

DONE = ModelResponse("x")
HOUR = 3600
PRICES = PriceTable({"m": Price(1.0, 1.0)}, use_public=False)
OPEN = Budget(None, None, None)


@pytest.fixture
def control():
    return Control.in_process()


@pytest.fixture
def clock():
    return FakeClock()


def play(control, clock, script, tools=(), *, tenant="acme", sink=None, **limits):
    budget = WindowBudget(HOUR, **limits)
    policy = Policy(("*",), OPEN, tenant_budgets={"acme": budget, "many-*": budget})
    model = ScriptedModel("m", script)
    agent = Agent("a", model, tools, policy=policy, prices=PRICES)
    context = RunContext(tenant=tenant)
    return run(agent, Task("t", "go"), sink=sink, clock=clock, control=control, context=context)


def calls(n):
    return [asking(("a", {"n": i})) for i in range(n)] + [DONE]


def test_attempts_of_all_runs_of_a_tenant_count_together(control, clock):
    tool = FakeTool("a")
    assert play(control, clock, calls(3), [tool], max_tool_calls=5).stop == "ok"
    result = play(control, clock, calls(3), [tool], max_tool_calls=5)
    assert (result.stop, len(tool.calls)) == ("max_tool_calls", 5)
    assert result.stop_detail == (
        "budget max_tool_calls=5 of tenant 'acme' per 3600 s used up (5 spent by all its runs)."
    )


def test_refusal_is_a_row_with_the_tenants_numbers(control, clock):
    sink = MemorySink()
    play(control, clock, calls(2), [FakeTool("a")], max_tool_calls=1, sink=sink)
    rows = [event for event in sink.events if event.__struct_config__.tag == "tool_call"]
    assert [row.outcome.value for row in rows] == ["ok", "budget"]
    assert "of tenant 'acme'" in rows[1].error


def test_window_slides(control, clock):
    tool = FakeTool("a")
    play(control, clock, calls(2), [tool], max_tool_calls=2)
    clock.advance_ms((HOUR - 1) * 1000)
    assert play(control, clock, calls(1), [tool], max_tool_calls=2).stop == "max_tool_calls"
    clock.advance_ms(2 * 1000)
    assert play(control, clock, calls(2), [tool], max_tool_calls=2).stop == "ok"


def test_tenants_do_not_spend_each_others_budget(control, clock):
    tool = FakeTool("a")
    for tenant in ("many-1", "many-2"):
        result = play(control, clock, calls(2), [tool], tenant=tenant, max_tool_calls=2)
        assert result.stop == "ok"
    assert play(control, clock, calls(9), [tool], tenant="free", max_tool_calls=2).stop == "ok"


def test_usd_of_model_calls_counts(control, clock):
    told = {"usage": Usage(100_000, 0), "latency_ms": 0.0}  # 0.10 USD
    script = [asking(("a", {"n": i}), **told) for i in range(9)]
    result = play(control, clock, script, [FakeTool("a")], max_usd=0.3)
    assert (result.stop, result.usage.steps) == ("max_usd", 3)


def test_tokens_count(control, clock):
    script = [asking(("a", {"n": i}), usage=Usage(40, 10)) for i in range(9)]
    assert play(control, clock, script, [FakeTool("a")], max_tokens=100).usage.tokens == 100


def test_model_that_states_its_most_never_overshoots(control, clock):
    class Bounded(ScriptedModel):
        max_output_tokens = 100

        def count_tokens(self, request):
            return 400

    for _ in range(3):
        script = [asking(("a", {"n": i}), usage=Usage(400, 90)) for i in range(9)]
        policy = Policy(("*",), OPEN, tenant_budgets={"acme": WindowBudget(HOUR, max_tokens=1_200)})
        agent = Agent("a", Bounded("m", script), [FakeTool("a")], policy=policy, prices=PRICES)
        context = RunContext(tenant="acme")
        result = run(agent, Task("t", "go"), clock=clock, control=control, context=context)
    now = clock.wall_us() / 1e6
    assert result.stop == "max_tokens"
    assert control.windows.used("acme", HOUR, now).tokens == 2 * 490


def test_cost_of_a_call_that_was_refused_later_is_given_back_and_the_attempt_not(control, clock):
    tool = FakeTool("a", cost_usd=0.1)
    play(control, clock, [asking(("a", "not json"), usage=Usage(0, 0)), DONE], [tool], max_usd=1)
    used = control.windows.used("acme", HOUR, clock.wall_us() / 1e6)
    assert (used.tool_calls, float(used.usd)) == (1, 0.0)


def test_unknown_cost_under_a_usd_budget_stops(control, clock):
    script = [asking(("a", {}), usage=Usage()), DONE]
    result = play(control, clock, script, [FakeTool("a")], max_usd=1)
    assert result.stop == "max_usd"
    assert "cannot be kept: the cost" in result.stop_detail


def test_usd_budget_of_a_tenant_without_a_price_is_an_error_before_the_run():
    policy = Policy(tenant_budgets={"*": WindowBudget(HOUR, max_usd=1)})
    agent = Agent(
        "a", ScriptedModel("unpriced", [DONE]), policy=policy, prices=PriceTable(use_public=False)
    )
    with pytest.raises(PriceError, match="per_tenant"):
        run(agent, Task("t", "go"))


def test_threads_racing_for_the_last_units_get_exactly_those(control, clock):
    tool, results = FakeTool("a"), []
    threads = [
        threading.Thread(
            target=lambda: results.append(play(control, clock, calls(4), [tool], max_tool_calls=10))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tool.calls) == 10
    assert sorted({result.stop for result in results}) in (
        ["max_tool_calls"],
        ["max_tool_calls", "ok"],
    )


CHILD = """
import sys
import flightlog
from flightlog.runtime import WindowBudget
from flightlog.testing import FakeTool, ScriptedModel, asking, saying

sys.stdin.readline()
tool = FakeTool("a")
script = [*(asking(("a", {"n": n})) for n in range(5)), saying("x")]
policy = flightlog.Policy(["a"], tenant_budgets={"acme": WindowBudget(3600, max_tool_calls=11)})
agent = flightlog.Agent("a", ScriptedModel("m", script), [tool], policy=policy)
with flightlog.Recorder(sys.argv[1], seal_on_close=False) as recorder:
    context = flightlog.RunContext(tenant="acme")
    flightlog.run(agent, flightlog.Task("t", "go"), sink=recorder, context=context)
print(len(tool.calls))
"""


def test_processes_on_a_store_share_the_window(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "store")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(4)]
    made = [int(child.communicate("go\n", timeout=60)[0]) for child in children]
    assert sum(made) == 11
