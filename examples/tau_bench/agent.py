"""Candidates for the golden tasks of the tau-bench example: another trial's own decisions.

    flightlog import --format tau-bench gpt-4o-airline.json --store runs
    flightlog golden pin RUN... --store runs --goldens goldens --tools examples/tau_bench/tools.yaml
    FLIGHTLOG_EXAMPLE_STORE=runs flightlog replay goldens --store replays \\
        --agent examples.tau_bench.agent:another_trial --trials 3

The model answers what gpt-4o answered in another trial of the same task, and the
simulated user says what it said there; only the tools answer from the goldens.
"""

from __future__ import annotations

import ast
import operator
import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from flightlog.errors import AgentError
from flightlog.golden.suite import Trial
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Recording
from flightlog.replay.recordings import read_recordings
from flightlog.replay.scripted import scripted_model, scripted_user
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.tools import Tool

STORE_VARIABLE: Final = "FLIGHTLOG_EXAMPLE_STORE"
BUDGET: Final = Budget(max_steps=60, max_seconds=None, max_tool_calls=60)


def another_trial(trial: Trial) -> Agent:
    """An agent that decides as a trial did that is not among the golden's recordings.

    Raises:
        AgentError: the store is not named, or holds no other trial of the task.
    """
    store = os.environ.get(STORE_VARIABLE)
    if not store:
        raise AgentError(
            f"{STORE_VARIABLE} is not set",
            hint=f"Set it to the store that the trials were imported into: {STORE_VARIABLE}=DIR",
        )
    pinned = {recording.run_id for recording in trial.recordings}
    task = (trial.task.suite, trial.task.task_id)
    others = [r for r in _recordings_by_task(store).get(task, ()) if r.run_id not in pinned]
    if not others:
        raise AgentError(
            f"no other trial of task {trial.task.task_id!r} than the pinned ones",
            where=store,
            hint="Pin only some of its trials.",
        )
    return scripted_agent(others[trial.number % len(others)], trial.tools)


def scripted_agent(recording: Recording, tools: tuple[Tool, ...]) -> Agent:
    """An agent that decides as it did in a recording; its pure tools have their functions."""
    usable = tuple(replace(tool, fn=PURE_FUNCTIONS.get(tool.name)) for tool in tools)
    return Agent(
        "airline",
        model=scripted_model(recording),
        tools=usable,
        policy=Policy(
            allow=tuple(tool.name for tool in usable), budget=BUDGET, approver=approve_all
        ),
        user=scripted_user(recording),
    )


@lru_cache(maxsize=1)
def _recordings_by_task(store: str) -> dict[tuple[str | None, str], list[Recording]]:
    found: dict[tuple[str | None, str], list[Recording]] = {}
    for recording in read_recordings(Store.open(store)):
        started = recording.started
        if started is not None and started.task_id:
            found.setdefault((started.suite, started.task_id), []).append(recording)
    for trials in found.values():
        trials.sort(key=lambda r: (r.started.trial or 0) if r.started else 0)
    return found


_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def calculate(expression: str) -> str:
    """The airline's calculator: + - * / and brackets, rounded to cents."""
    if not all(char in "0123456789+-*/(). " for char in expression):
        return "Error: invalid characters in expression"
    try:
        return str(round(float(_value_of(ast.parse(expression, mode="eval").body)), 2))
    except (ValueError, SyntaxError, ZeroDivisionError, OverflowError, RecursionError) as error:
        return f"Error: {error}"


def _value_of(node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.left), _value_of(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value_of(node.operand))
    raise ValueError("not an arithmetic expression")


def think(thought: str) -> str:
    """Nothing comes of a thought."""
    return ""


def transfer_to_human_agents(summary: str = "") -> str:
    """Says the constant that the benchmark's tool says."""
    return "Transfer successful"


PURE_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "calculate": calculate,
    "think": think,
    "transfer_to_human_agents": transfer_to_human_agents,
}
