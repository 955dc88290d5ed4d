"""Real agents of the frameworks, offline, on their own loops: bounded, recorded and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.usage import UsageLimits

import flightlog
from flightlog.analysis.db import Traces
from flightlog.cli import run as flightlog_cli
from flightlog.golden.factory import Trial
from flightlog.integrations.own_loop import own_loop
from tests.unit.integrations.frameworks import (
    ANSWER,
    FRAMEWORKS,
    INPUT_TOKENS,
    desk,
    get_order,
    looked_up,
    pydantic_ai,
)


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_agent_of_a_framework_is_a_run(name: str, tmp_path: Path) -> None:
    with own_loop("desk", [get_order], store=tmp_path, task="Where is A1?") as run:
        assert FRAMEWORKS[name](run, ["A0", "A1"]) == ANSWER
    [found] = rows(tmp_path, "SELECT * FROM runs")
    assert (found["stop_reason"], found["steps"], found["tool_calls"]) == ("ok", 3, 2)
    wanted = 3 * INPUT_TOKENS.get(name, 100)
    assert (found["input_tokens"], found["answer"]) == (wanted, ANSWER)
    calls = rows(tmp_path, "SELECT * FROM model_calls ORDER BY seq")
    assert [one["prompt_messages"] for one in calls] == [2, 4, 6]
    assert {one["request_model"] for one in calls} == {"model-a"}
    assert [one["tool_requests"] for one in calls] == [1, 1, 0]
    tools = rows(tmp_path, "SELECT * FROM tool_calls ORDER BY seq")
    assert [(one["step"], one["args"], one["outcome"]) for one in tools] == [
        (1, '{"order_id":"A0"}', "failed"),
        (2, '{"order_id":"A1"}', "ok"),
    ]


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("bound", ["max_steps", "max_tool_calls"])
def test_a_budget_ends_an_agent_that_never_has_enough(
    name: str, bound: str, tmp_path: Path
) -> None:
    budget = flightlog.Budget(**{"max_steps": None, "max_tool_calls": None, bound: 4})
    policy = flightlog.Policy(allow=("get_order",), budget=budget)
    with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
        FRAMEWORKS[name](run, ["A0"] * 40)
        pytest.fail("it went on to its end")
    assert run.result is not None
    assert run.result.stop_reason == bound
    [found] = rows(tmp_path, "SELECT stop_reason FROM runs")
    assert found["stop_reason"] == bound


def test_a_limit_of_pydantic_ai_is_the_stop_reason_that_it_means(tmp_path: Path) -> None:
    limits = UsageLimits(request_limit=3)
    with (
        pytest.raises(UsageLimitExceeded),
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        pydantic_ai(run, ["A1"] * 9, usage_limits=limits)
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "max_steps"}]


@pytest.fixture(params=FRAMEWORKS)
def pinned(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Path]:
    """A framework, a store with a run of its agent, and the golden task made of it."""
    store, goldens = tmp_path / "store", tmp_path / "goldens"
    with flightlog.Recorder(store) as recorder:
        task = flightlog.Task("where-a1", "Where is A1?")
        result = flightlog.run(desk(request.param, ["A0", "A1"]), task, sink=recorder)
    assert (result.stop_reason, result.answer) == ("ok", ANSWER)
    given = ["golden", "pin", "last", "--store", str(store), "--goldens", str(goldens)]
    assert flightlog_cli(given) == 0
    return request.param, store, goldens


def as_recorded(trial: Trial) -> flightlog.Agent:
    return desk(trial.variant, ["A0", "A1"])


def asking_elsewhere(trial: Trial) -> flightlog.Agent:
    return desk(trial.variant, ["A0", "A7"])


def replayed(pinned: tuple[str, Path, Path], factory: str, *more: str) -> tuple[int, list[Any]]:
    """Exit code, and the trials."""
    name, store, goldens = pinned
    out = store.parent / "replay.json"
    agent = ["--agent", f"tests.unit.integrations.test_frameworks:{factory}", "--variant", name]
    where = [str(goldens), "--store", str(store), "-o", str(out)]
    code = flightlog_cli(["replay", *where, *agent, *more])
    return code, json.loads(out.read_text())["sides"][0]["trials"] if out.exists() else []


def test_an_agent_of_a_framework_is_replayed_as_a_candidate(
    pinned: tuple[str, Path, Path],
) -> None:
    looked_up.clear()
    code, trials = replayed(pinned, "as_recorded", "--trials", "2")
    assert code == 0, trials
    assert looked_up == []
    assert [one["verdict"] for one in trials] == ["passed", "passed"]
    kept = rows(pinned[1], "SELECT origin, steps, tool_calls, answer FROM runs ORDER BY run_id")
    assert [one["origin"] for one in kept] == ["live", "replay", "replay"]
    assert len({(one["steps"], one["tool_calls"], one["answer"]) for one in kept}) == 1


def test_a_candidate_of_a_framework_that_calls_otherwise_misses(
    pinned: tuple[str, Path, Path],
) -> None:
    looked_up.clear()
    code, [trial] = replayed(pinned, "asking_elsewhere")
    assert code != 0
    assert looked_up == []
    assert "A7" in json.dumps(trial)


@pytest.mark.parametrize(
    "change", [("--model", "recorded"), ("--system", "README.md")], ids=["model", "system"]
)
def test_what_the_loop_of_a_framework_would_ignore_is_refused(
    pinned: tuple[str, Path, Path],
    change: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = replayed(pinned, "as_recorded", *change)
    assert code == 64
    assert "a loop of its own" in " ".join(capsys.readouterr().err.split())
