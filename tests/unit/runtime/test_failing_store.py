"""A store that fails under a run: what cannot be booked is not done, all else goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import flightlog
from flightlog import Recorder
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.window_budget import WindowBudget
from flightlog.runtime.agent import Agent
from flightlog.runtime.approvers import queue_approver
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.task import Task
from flightlog.testing import FakeTool, asking
from flightlog.trace.vocab import Effect

STEPS = [*(asking(("look", {"n": n})) for n in range(5)), ModelResponse("done")]


def garble(store: Path) -> None:
    (store / "control").mkdir(exist_ok=True)
    for name in ("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"):
        (store / "control" / name).write_bytes(b"no database, " * 1000)


def replace_by_a_file(store: Path) -> None:
    shutil.rmtree(store / "control", ignore_errors=True)
    (store / "control").write_text("in the way")


def play(store: Path, fail: Callable[[Path], None], **policy: object) -> tuple[RunResult, FakeTool]:
    """Five calls that all fail; the first of them takes the state of the store with it."""

    def look(n: int) -> str:
        if n == 0:
            fail(store)
        raise ValueError("down")

    tool = FakeTool("look", look)
    agent = Agent("a", ScriptedModel("m", STEPS), [tool], policy=Policy(("*",), **policy))
    with Recorder(store) as recorder:
        result = run(agent, Task("t", "go"), sink=recorder, context=RunContext(tenant="acme"))
    return result, tool


FAILURES = pytest.mark.parametrize("fail", [garble, replace_by_a_file])


@FAILURES
def test_tenants_budget_that_cannot_be_booked_ends_the_run_and_says_why(tmp_path, fail):
    window = {"acme": WindowBudget(3600, max_tool_calls=100)}
    result, tool = play(tmp_path / "store", fail, tenant_budgets=window)
    assert (result.stop, len(tool.calls)) == ("max_tool_calls", 1)
    assert "of tenant 'acme' per 3600 s cannot be kept: the tenant's window cannot be booked: " in (
        result.stop_detail or ""
    )


@FAILURES
def test_breaker_that_cannot_be_kept_does_not_take_the_run_down(tmp_path, fail):
    result, tool = play(tmp_path / "store", fail, breakers={"look": BreakerPolicy(min_calls=2)})
    assert (result.stop, len(tool.calls)) == ("ok", 5)


def test_breaker_and_budget_of_a_store_that_was_deleted_begin_anew(tmp_path):
    """As after moving away a damaged state: what was counted before is gone with it."""
    window = {"acme": WindowBudget(3600, max_tool_calls=4)}
    result, tool = play(tmp_path / "store", shutil.rmtree, tenant_budgets=window)
    assert (result.stop, len(tool.calls)) == ("ok", 5)
    breakers = {"look": BreakerPolicy(min_calls=2)}
    result, tool = play(tmp_path / "other", shutil.rmtree, breakers=breakers)
    assert (result.stop, len(tool.calls)) == ("ok", 2)


def test_write_whose_approval_cannot_be_asked_is_denied_and_the_model_is_told(tmp_path):
    store = tmp_path / "store"
    replaced = store / "control"
    store.mkdir()
    replaced.write_text("in the way")
    tool = FakeTool("pay", effect=Effect.WRITE)
    model = ScriptedModel("m", [asking(("pay", {})), ModelResponse("done")])
    policy = Policy(("pay",), approver=queue_approver(store))
    result = run(Agent("a", model, [tool], policy=policy), Task("t", "go"))
    assert (result.stop, tool.calls) == ("ok", [])
    told = model.requests[1].messages[-1].text or ""
    assert "approval_denied" in told
    assert "StoreError" in told


FULL_DISK = """
import resource, signal, sys
from flightlog import Agent, Policy, Recorder, Task, run
from flightlog.testing import FakeTool, ScriptedModel, asking, saying
from flightlog.trace.vocab import Effect

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def fill(*_, **__):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    return True

at = sys.argv[2]
look = FakeTool("look", fill if at == "read" else "page")
pay = FakeTool("pay", effect=Effect.WRITE)
approver = fill if at == "approval" else (lambda request: True)
script = [asking(("look", {})), asking(("pay", {})), saying("done")]
agent = Agent(
    "a", ScriptedModel("m", script), [look, pay], policy=Policy(["*"], approver=approver)
)
recorder = Recorder(sys.argv[1])
result = run(agent, Task("t", "go"), sink=recorder)
sys.stdout.write(f"{result.stop} {len(look.calls)} {len(pay.calls)}")
sys.stdout.flush()
"""


@pytest.mark.parametrize("at", ["read", "approval"])
def test_disk_that_is_full_before_a_write_or_in_its_approval_leaves_it_undone(tmp_path, at):
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "store"), at]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout == "recorder_failed 1 0", done.stderr
    with Recorder(tmp_path / "store"):
        pass  # closing it seals what dead writers left
    with flightlog.open(tmp_path / "store") as traces:
        assert traces.sql("select stop_reason from runs").fetchall() == [("crashed",)]
