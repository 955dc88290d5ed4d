"""Replay on 200 real runs: never a wrong observation, and a judge that agrees with the benchmark.

The truth of a served observation is known: up to the first miss, the candidate
(another trial) made its calls in the world of the benchmark and recorded what
it saw there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from examples.tau_bench.agent import (
    PURE_FUNCTIONS,
    STORE_VARIABLE,
    another_trial,
    scripted_agent,
)
from flightlog.golden.judging.judge import accepted_writes, judged_calls, successful_writes
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Trial, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.calls import PendingCall
from flightlog.runtime.tools import Tool
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Origin, Outcome, ServedHow
from tests.replay_real.conftest import TOOLS_FILE, Airline, is_solved

PAIRS = 546


def _pairs(airline: Airline) -> Iterator[tuple[Recording, Recording]]:
    """All ordered pairs of trials of one task whose candidate calls a tool."""
    for runs in airline.trials.values():
        yield from (pair for pair in permutations(runs, 2) if pair[1].tool_calls)


def _executor(airline: Airline, *recordings: Recording) -> StateAwareExecutor:
    return StateAwareExecutor(Cassette(recordings, Rules(airline.tools.values())), golden="g")


def _first_event(
    executor: StateAwareExecutor, calls: Sequence[ToolCall], tools: dict[str, Tool]
) -> str:
    """`ok` when all calls are served as they really were answered, else `miss` or `WRONG`."""
    for call in calls:
        request = ToolRequest("x", call.tool_name, call.args or "")
        pending = PendingCall.of(request, tools.get(call.tool_name), step=call.step or 1, call_ix=0)
        served = executor.resolve(pending)
        if served.outcome is Outcome.REPLAY_MISS:
            return "miss"
        if (served.outcome, served.result) != (call.outcome, call.result):
            return "WRONG"
    return "ok"


def test_no_pair_of_trials_is_ever_served_a_wrong_observation(airline: Airline) -> None:
    found = Counter(
        _first_event(_executor(airline, one), other.tool_calls, airline.tools)
        for one, other in _pairs(airline)
    )
    assert found.total() == PAIRS
    assert found["WRONG"] == 0
    assert found["ok"] / PAIRS > 0.25


def test_executed_pure_tools_and_pooled_recordings_serve_more_and_nothing_wrong(
    airline: Airline,
) -> None:
    tools = {n: replace(t, fn=PURE_FUNCTIONS.get(n)) for n, t in airline.tools.items()}
    pure = Counter(
        _first_event(_executor(airline, one), other.tool_calls, tools)
        for one, other in _pairs(airline)
    )
    pooled = Counter(
        _first_event(
            _executor(airline, *(one for one in runs if one is not other)), other.tool_calls, tools
        )
        for runs in airline.trials.values()
        for other in runs
        if other.tool_calls
    )
    assert pure["WRONG"] == pooled["WRONG"] == 0
    assert pure["ok"] / pure.total() > 0.30
    assert pooled["ok"] / pooled.total() > 0.50


def test_a_recording_serves_itself_whole_and_also_with_each_read_asked_twice_or_dropped(
    airline: Airline,
) -> None:
    for run in airline.runs:
        calls = run.tool_calls
        reads = [c for c in calls if airline.tools[c.tool_name].effect == "read"]
        twice = [copy for call in calls for copy in ([call, call] if call in reads else [call])]
        assert _first_event(_executor(airline, run), calls, airline.tools) == "ok"
        assert _first_event(_executor(airline, run), twice, airline.tools) == "ok"
        for read in reads[:3]:
            thinner = [call for call in calls if call is not read]
            assert _first_event(_executor(airline, run), thinner, airline.tools) == "ok"


def test_declared_scopes_leave_no_conflict_between_trials(airline: Airline) -> None:
    rules = Rules(airline.tools.values())
    assert [c for runs in airline.trials.values() for c in Cassette(runs, rules).conflicts()] == []


def test_the_judge_of_writes_agrees_with_the_benchmarks_reward(airline: Airline) -> None:
    rules = Rules(airline.tools.values())
    agree: Counter[tuple[bool, bool]] = Counter()
    for runs in airline.trials.values():
        for golden, candidate in permutations(runs, 2):
            if is_solved(golden):
                mine = successful_writes(judged_calls(candidate.tool_calls, rules))
                is_same = mine in accepted_writes(Cassette([golden], rules))
                agree[(is_same, is_solved(candidate))] += 1
    assert agree.total() == 252
    assert agree[(False, True)] == 0  # no correct run is called wrong
    assert (agree[(True, True)] + agree[(False, False)]) / agree.total() >= 0.95


@pytest.fixture(scope="module")
def goldens(airline: Airline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One solved trial of each task that was solved at all."""
    first = [
        next((run for run in runs if is_solved(run)), None) for runs in airline.trials.values()
    ]
    folder = tmp_path_factory.mktemp("goldens") / "goldens"
    run_ids = [run.run_id for run in first if run]
    report = pin_runs(Store.open(airline.store), run_ids, folder, tools_file=TOOLS_FILE)
    assert report.undeclared_tools == ()
    assert report.notes == ()
    return folder


def test_each_golden_replays_its_own_recording_and_passes(
    airline: Airline, goldens: Path, tmp_path: Path
) -> None:
    def itself(trial: Trial) -> Agent:
        # Without functions: also the pure tools must come from the recording.
        agent = scripted_agent(trial.recordings[0], trial.tools)
        return replace(agent, tools=trial.tools)

    with Recorder(tmp_path / "replays") as recorder:
        report = replay_suite(goldens, itself, recorder=recorder, variant="itself", trials=1)
    assert report.passed == len(report.trials) > 30
    assert (report.coverage, report.misses, report.live_tool_calls) == (1.0, 0, 0)
    assert set(report.served) == {ServedHow.RECORDED}
    assert all(trial.divergence is None for trial in report.trials)


def test_other_trials_replay_as_candidates_without_one_live_call(
    airline: Airline, goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(airline.store))
    with Recorder(tmp_path / "replays") as recorder:
        report = replay_suite(goldens, another_trial, recorder=recorder, trials=3)
    assert len(report.trials) == 3 * len(list(goldens.glob("*/task.yaml")))
    assert report.live_tool_calls == 0
    assert report.passed > 20
    assert report.coverage is not None
    assert report.coverage > 0.7
    runs = read_recordings(Store.open(tmp_path / "replays"))
    assert len(runs) == len(report.trials)
    assert {run.started.origin for run in runs if run.started} == {Origin.REPLAY}
    seen = {trial.run_id: trial.passed for trial in report.trials}
    assert {run.run_id: _judged(run) for run in runs} == seen


def _judged(run: Recording) -> bool | None:
    passed: bool | None = run.events[-1].passed  # type: ignore[attr-defined]
    return passed
