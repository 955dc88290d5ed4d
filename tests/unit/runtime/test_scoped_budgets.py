"""The rules of a tool's own budget, and that every stop says what was allowed and spent."""

from __future__ import annotations

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flightlog
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import ConfigError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.ledger import Bound, Ledger
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel, Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.vocab import StopReason

DONE = ModelResponse("x")
OPEN = Budget(None, None, None)
PRICES = PriceTable({"m": Price(1.0, 1.0)}, use_public=False)


def policy(budget=OPEN, **by_tool):
    tools = {name: ToolBudget(**limits) for name, limits in by_tool.items()}
    return Policy(("*",), budget, tool_budgets=tools, approver=approve_all)


def asks(*names):
    return [*(asking((name, {"n": n})) for n, name in enumerate(names)), DONE]


def outcomes(rows, tool):
    return [row.outcome.value for row in rows("tool_call") if row.tool_name == tool]


def test_tool_that_used_up_its_calls_is_refused_and_the_run_goes_on(play, rows):
    tools = [FakeTool("a"), FakeTool("b")]
    result = play(asks("a", "a", "a", "b"), tools, policy=policy(a={"max_calls": 2}))
    assert result.stop == "ok"
    assert (outcomes(rows, "a"), outcomes(rows, "b")) == (["ok", "ok", "budget"], ["ok"])
    assert "budget max_calls=2 of tool 'a' used up" in rows("tool_call")[2].error


def test_refused_attempts_of_a_tool_still_spend_the_runs_budget(play):
    own = policy(Budget(max_tool_calls=5), a={"max_calls": 1})
    result = play(asks(*["a"] * 9), [FakeTool("a")], policy=own)
    assert (result.stop, result.usage.tool_calls) == ("max_tool_calls", 5)


def test_seconds_of_a_tool_add_up_and_cut_its_last_call(play, rows, clock):
    tool = FakeTool("a", clock=clock, latency_ms=700)
    play(asks("a", "a", "a"), [tool], policy=policy(a={"max_seconds": 1}))
    assert outcomes(rows, "a") == ["ok", "timed_out", "budget"]
    assert "the tool's max_seconds" in rows("tool_call")[1].error


def test_usd_of_a_tool_is_its_declared_cost(play, rows):
    tool = FakeTool("a", cost_usd=0.4)
    play(asks("a", "a", "a"), [tool], policy=policy(a={"max_usd": 1.0}))
    assert outcomes(rows, "a") == ["ok", "ok", "budget"]


def test_cost_of_a_refused_call_is_given_back_to_tool_and_run(play):
    tool = FakeTool("a", cost_usd=0.4, input_schema={"type": "object", "required": ["x"]})
    own = policy(Budget(max_usd=100), a={"max_usd": 0.5})
    result = play(asks("a", "a", "a"), [tool], policy=own, prices=PRICES)
    assert (result.stop_reason, result.usage.usd) in (
        (StopReason.OK, 0.0),
        (StopReason.MAX_USD, None),
    )


def test_each_tool_that_a_glob_names_has_the_limit_for_itself(play, rows):
    tools = [FakeTool("http.get"), FakeTool("http.head")]
    names = ["http.get", "http.head"] * 2
    play(asks(*names), tools, policy=policy(**{"http.*": {"max_calls": 1}}))
    for name in ("http.get", "http.head"):
        assert outcomes(rows, name) == ["ok", "budget"]


def test_exact_name_wins_over_a_glob(play, rows):
    own = policy(**{"*": {"max_calls": 1}, "a": {"max_calls": 2}})
    play(asks("a", "a", "b", "b"), [FakeTool("a"), FakeTool("b")], policy=own)
    assert (outcomes(rows, "a"), outcomes(rows, "b")) == (["ok", "ok"], ["ok", "budget"])


@pytest.mark.parametrize(
    "wrong", [{"max_calls": -1}, {"max_calls": 1.5}, {"max_usd": float("nan")}]
)
def test_tool_budget_that_is_no_limit_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ToolBudget(**wrong)


def test_stop_event_and_sql_hold_what_tools_and_tenant_were_allowed_and_used(tmp_path):
    clock = FakeClock()
    own = Policy(
        ("*",),
        Budget(max_tool_calls=9),
        tool_budgets={"a": ToolBudget(max_calls=2, max_seconds=60)},
        tenant_budgets={"acme": WindowBudget(3600, max_tool_calls=100)},
    )
    with flightlog.Recorder(tmp_path / "store") as recorder:
        agent = Agent("x", ScriptedModel("m", asks("a", "a", "a")), [FakeTool("a")], policy=own)
        context = RunContext(tenant="acme")
        run(agent, Task("t", "go"), sink=recorder, clock=clock, context=context)
    with flightlog.open(tmp_path / "store") as traces:
        rows = traces.sql(
            "select scope, budget, unit, allowed, used, is_hit from budgets "
            "where scope <> 'run' or budget = 'max_tool_calls' order by 1, 2"
        ).fetchall()
    assert rows == [
        ("run", "max_tool_calls", "attempts", 9.0, 3.0, False),
        ("tenant:acme", "max_tool_calls", "attempts", 100.0, 2.0, False),
        ("tool:a", "max_seconds", "s", 60.0, 0.0, False),
        ("tool:a", "max_tool_calls", "attempts", 2.0, 2.0, False),
    ]


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"max_tool_calls": 1}, "max_tool_calls"), ({"max_tokens": 10}, "max_tokens")],
)
def test_sql_tells_the_tenant_s_limit_that_stopped_a_run_from_its_own(tmp_path, limit, reason):
    own = Policy(
        ("*",),
        Budget(max_tool_calls=9, max_tokens=900),
        tenant_budgets={"acme": WindowBudget(3600, **limit)},
    )
    told = [asking(("a", {"n": n}), usage=Usage(8, 8)) for n in range(3)]
    with flightlog.Recorder(tmp_path / "store") as recorder:
        agent = Agent("x", ScriptedModel("m", told), [FakeTool("a")], policy=own)
        context = RunContext(tenant="acme")
        stopped = run(agent, Task("t", "go"), sink=recorder, clock=FakeClock(), context=context)
    assert stopped.stop == reason
    with flightlog.open(tmp_path / "store") as traces:
        rows = traces.sql("select scope, budget from budgets where is_hit").fetchall()
    assert rows == [("tenant:acme", reason)]


def test_stop_event_is_silent_about_scopes_that_nobody_limits(play, rows):
    play(asks("a"), [FakeTool("a")])
    assert rows("run_stopped")[0].scoped_budgets is None


# Worst cases of model calls


class Stating(ScriptedModel):
    max_output_tokens = 50

    def count_tokens(self, request):
        return 100


def test_model_call_whose_worst_case_does_not_fit_is_not_made(play):
    script = [asking(("a", {"n": n}), usage=Usage(100, 30)) for n in range(9)]
    model = Stating("m", script)
    own = Policy(("a",), Budget(max_tokens=400))
    agent = Agent("x", model, [FakeTool("a")], policy=own)
    result = run(agent, Task("t", "go"), clock=FakeClock())
    assert (result.stop, result.usage.tokens, len(model.requests)) == ("max_tokens", 260, 2)
    assert result.stop_detail == (
        "budget max_tokens=400 does not allow the model call of step 3: 260 tokens spent, "
        "and it may take 150 tokens."
    )


def test_usd_is_bounded_by_the_price_of_the_worst_case():
    script = [asking(("a", {"n": n}), usage=Usage(100, 50)) for n in range(9)]
    own = Policy(("a",), Budget(max_usd=0.0004))
    agent = Agent("x", Stating("m", script), [FakeTool("a")], policy=own, prices=PRICES)
    result = run(agent, Task("t", "go"), clock=FakeClock())
    assert (result.stop, result.usage.usd) == ("max_usd", 0.0003)


def test_without_a_tokenizer_the_bytes_of_the_prompt_are_the_bound():
    class Plain(ScriptedModel):
        max_output_tokens = 10

    own = Policy(("a",), Budget(max_tokens=5_000))
    agent = Agent("x", Plain("m", [ModelResponse("x", usage=Usage(1, 1))]), policy=own)
    assert run(agent, Task("t", "x" * 10_000)).stop == "max_tokens"
    assert run(agent, Task("t", "x" * 1_000)).stop == "ok"


def test_failed_model_call_gives_its_reservation_back(play):
    ledger = Ledger(Budget(max_tokens=100), FakeClock())
    assert ledger.reserve_model_call(Bound(tokens=100)) is None
    ledger.release_model_call()
    assert ledger.reserve_model_call(Bound(tokens=100)) is None


@settings(max_examples=100, deadline=None)
@given(
    most=st.integers(0, 2_000),
    calls=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 100)), max_size=20),
)
def test_no_sequence_of_stated_worst_cases_passes_the_limit(most, calls):
    ledger = Ledger(Budget(None, None, None, max_tokens=most), FakeClock())
    for bound, spent in calls:
        if ledger.reserve_model_call(Bound(tokens=bound)) is None:
            ledger.spend_model_call(Usage(min(bound, spent), 0), 0.0)
    assert ledger.used().tokens <= most


@settings(max_examples=60, deadline=None)
@given(
    run_limit=st.integers(0, 15),
    tool_limits=st.lists(st.integers(0, 8), min_size=1, max_size=3),
    usd=st.integers(0, 20),
    threads=st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=4),
)
def test_no_schedule_of_threads_passes_any_limit(run_limit, tool_limits, usd, threads):
    budget = Budget(None, None, max_tool_calls=run_limit, max_usd=usd / 10)
    ledger, granted, lock = Ledger(budget, FakeClock()), [], threading.Lock()

    def work(wanted):
        for place in wanted:
            tool = place % len(tool_limits)
            own = ToolBudget(max_calls=tool_limits[tool])
            if ledger.reserve_tool_call(f"t{tool}", 0.1, own) is None:
                with lock:
                    granted.append(tool)

    workers = [threading.Thread(target=work, args=(wanted,)) for wanted in threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(granted) <= run_limit
    assert len(granted) <= usd
    assert all(granted.count(tool) <= limit for tool, limit in enumerate(tool_limits))
    assert ledger.used().tool_calls <= run_limit
    assert ledger.used().usd == pytest.approx(len(granted) / 10)


def test_scoped_budgets_are_json_of_one_form(play, rows):
    play(asks("a"), [FakeTool("a")], policy=policy(a={"max_calls": 2}))
    assert json.loads(rows("run_stopped")[0].scoped_budgets) == [
        {"scope": "tool:a", "budget": "max_tool_calls", "unit": "attempts", "allowed": 2, "used": 1}
    ]
