"""Forks on the whole path: recorded by our runtime, read from a store, forked, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.cli import run as run_command
from flightlog.errors import AgentError, GoldenError, NothingToCompareError
from flightlog.golden.factory import Trial
from flightlog.golden.forking import (
    ForkedRun,
    Forking,
    end_with,
    failures_of,
    fork_run,
    overlays_text,
)
from flightlog.golden.overrides import RECORDED, Overrides
from flightlog.golden.pin import pin_runs
from flightlog.recorder.store import Store
from flightlog.replay.minimise import minimise
from flightlog.replay.overlay import Action, Overlay
from flightlog.replay.overlay_files import read_overlays
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.model import ModelRequest, ModelResponse, ScriptedUser
from flightlog.testing import ScriptedModel, asking, saying
from flightlog.trace.vocab import Origin

CALLS: list[str] = []
"""Functions of tools that were really called."""


@flightlog.tool(effect="read", scopes=["orders"])
def search(query: str) -> list[str]:
    """Finds orders."""
    CALLS.append("search")
    return ["A1", "A2"]


@flightlog.tool(effect="write", scopes=["order:{order_id}"])
def refund(order_id: str, amount: int) -> str:
    """Refunds."""
    CALLS.append("refund")
    return f"refunded {amount}"


class Clerk:
    """Searches until it finds something, then refunds what it found first."""

    name = "clerk-1"

    def __init__(self, amount: int = 5) -> None:
        self.amount = amount

    def complete(self, request: ModelRequest) -> ModelResponse:
        results = [m.text or "" for m in request.messages if m.role == "tool"]
        found = [text for text in results if text.startswith('["')]
        if not found:
            return asking(("search", {"query": "shoes"}))
        if not any(text.startswith("refunded") for text in results):
            first = json.loads(found[-1])[0]
            return asking(("refund", {"order_id": first, "amount": self.amount}))
        return saying("Done.")


def make(trial: Trial | None = None, **changes: Any) -> flightlog.Agent:
    policy = flightlog.Policy(allow=["*"], approver=lambda request: True)
    model = Clerk(int(trial.model) if trial and (trial.model or "").isdecimal() else 5)
    agent = flightlog.Agent("clerk", model, [search, refund], policy=policy)
    return replace(agent, **changes)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[flightlog.Recorder]:
    with flightlog.Recorder(tmp_path / "store", seal_on_close=False) as made:
        yield made


@pytest.fixture
def run(recorder: flightlog.Recorder) -> ForkedRun:
    done = flightlog.run(make(), flightlog.Task("t", "Refund my shoes."), sink=recorder)
    CALLS.clear()
    return ForkedRun.of(read_recordings(Store.open(recorder.store_path), [done.run_id])[0])


def forked(run: ForkedRun, recorder: flightlog.Recorder, factory: Any = make, **how: Any) -> Any:
    report = fork_run(run, factory, 1, sink=recorder, how=Forking(**{"step": 1, **how}))
    return report.trials[0]


def test_a_fork_that_changes_nothing_does_what_was_recorded(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    report = fork_run(run, make, 2, sink=recorder, how=Forking(step=2))
    for trial in report.trials:
        assert replace(trial.facts, run_id=report.recorded.run_id, seconds=None) == replace(
            report.recorded, seconds=None
        )
        assert trial.divergence is None
        assert (trial.live_tool_calls, trial.is_counterfactual) == (0, False)
    assert CALLS == []
    assert report.exit_code == 0


def test_no_tool_of_a_fork_is_called(run: ForkedRun, recorder: flightlog.Recorder) -> None:
    assert forked(run, recorder).facts.writes == ('refund {"amount":5,"order_id":"A1"}',)
    assert CALLS == []


def test_a_fork_that_asks_for_what_no_recording_holds_is_undecided(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    other = lambda trial: make(model=Clerk(3900))  # noqa: E731
    report = fork_run(run, other, 1, sink=recorder, how=Forking(step=2))
    assert report.exit_code == 2
    assert report.trials[0].facts.stop == "replay_miss:refund"
    assert "args.amount is 3900, recorded 5" in report.trials[0].misses[0]


def test_a_budget_of_the_fork_binds(run: ForkedRun, recorder: flightlog.Recorder) -> None:
    trial = forked(run, recorder, budgets={"max_tool_calls": 1})
    assert trial.facts.stop == "max_tool_calls"


def test_another_result_leads_the_agent_elsewhere(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    other = Overlay(Action.REPLACE, tool="search", nth=1, value=["A9"])
    trial = forked(run, recorder, overlays=(other,))
    assert trial.misses[0].startswith("refund at step 2")
    assert (trial.is_counterfactual, trial.overlaid) == (True, 1)


def test_writes_are_off_from_the_step_of_the_overlay_on(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    off = Overlay(Action.DISABLE_WRITES, step=2)
    trial = forked(run, recorder, overlays=(off,), budgets={"max_steps": 4})
    assert trial.facts.writes == ()
    assert trial.facts.refused_calls >= 1
    late = Overlay(Action.DISABLE_WRITES, step=3)
    trial = forked(run, recorder, overlays=(late,))
    assert (len(trial.facts.writes), trial.facts.stop) == (1, "ok")


def test_a_context_is_cut_from_the_step_of_the_overlay_on(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    class Watching(Clerk):
        sizes: list[int] = []  # noqa: RUF012

        def complete(self, request: ModelRequest) -> ModelResponse:
            self.sizes.append(len(request.messages))
            return super().complete(request)

    cut = Overlay(Action.TRUNCATE_CONTEXT, step=3, value=1)
    trial = forked(run, recorder, lambda trial: make(model=Watching()), overlays=(cut,))
    assert Watching.sizes[:2] == [1, 3]
    assert Watching.sizes[2] < 5
    assert trial.overlaid >= 1


def test_recorded_answers_go_on_where_the_model_is_recorded(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    trial = forked(run, recorder, overrides=Overrides(model=RECORDED))
    assert (trial.facts.stop, trial.divergence) == ("ok", None)


@pytest.mark.parametrize("step", [4, 99])
def test_a_step_beyond_the_end_is_refused_and_the_end_is_not(
    run: ForkedRun, recorder: flightlog.Recorder, step: int
) -> None:
    if step == 4:
        assert forked(run, recorder, step=step).facts.stop == "ok"
    else:
        with pytest.raises(AgentError, match="a run of 3 steps"):
            forked(run, recorder, step=step)


def test_a_simulated_user_says_what_it_said_until_the_step_and_then_speaks_itself(
    recorder: flightlog.Recorder,
) -> None:
    def talking(user: list[str], *answers: str) -> flightlog.Agent:
        model = ScriptedModel("m", [saying(text) for text in answers])
        return make(model=model, user=ScriptedUser(user))

    task = flightlog.Task("talk", "Hello.")
    done = flightlog.run(talking(["one", "two"], "a", "b", "c"), task, sink=recorder)
    (recording,) = read_recordings(Store.open(recorder.store_path), [done.run_id])
    talk = ForkedRun.of(recording)
    factory = lambda trial: talking(["mine"], "x", "y", "z")  # noqa: E731
    trial = forked(talk, recorder, factory, step=2)
    (new,) = read_recordings(Store.open(recorder.store_path), [trial.facts.run_id])
    said = {m.text for m in new.messages.values() if m.role == "user"}
    assert said >= {"one", "mine"}
    assert "two" not in said


def test_no_comparison_counts_forks(run: ForkedRun, recorder: flightlog.Recorder) -> None:
    forked(run, recorder, variant="candidate")
    with flightlog.open(recorder.store_path) as traces:
        (row,) = traces.rows("select origin, labels from runs where variant = 'candidate'")
        assert row["origin"] == Origin.FORK
        labels = dict(row["labels"])
        assert labels == {"forked_from": run.recording.run_id, "fork_step": "1"}
        with pytest.raises(NothingToCompareError):
            flightlog.compare(traces, "agent=clerk", "candidate")


def test_a_fork_cannot_be_pinned(
    run: ForkedRun, recorder: flightlog.Recorder, tmp_path: Path
) -> None:
    trial = forked(run, recorder)
    with pytest.raises(GoldenError, match="is a fork"):
        pin_runs(Store.open(recorder.store_path), [trial.facts.run_id], tmp_path / "goldens")


# --- minimise


class Flaky:
    """A search that is down for its first calls."""

    def __init__(self, failures: int) -> None:
        self.left = failures

    def __call__(self, query: str) -> list[str]:
        if self.left:
            self.left -= 1
            raise ConnectionError("down")
        return ["A1", "A2"]


def incident(
    good: ForkedRun, recorder: flightlog.Recorder, *, failures: int, most_calls: int
) -> ForkedRun:
    tool = replace(search, fn=Flaky(failures))
    budget = flightlog.Budget(max_tool_calls=most_calls)
    policy = flightlog.Policy(allow=["*"], approver=lambda request: True, budget=budget)
    agent = make(tools=[tool, refund], policy=policy)
    done = flightlog.run(agent, flightlog.Task("t", "Refund my shoes."), sink=recorder)
    (recording,) = read_recordings(Store.open(recorder.store_path), [done.run_id])
    return ForkedRun.of(recording, others=[good.recording])


def test_the_failures_of_an_incident_become_overlays_and_shrink_to_those_that_mattered(
    run: ForkedRun, recorder: flightlog.Recorder
) -> None:
    bad = incident(run, recorder, failures=2, most_calls=3)
    failures = failures_of(bad)
    assert [(one.tool, one.nth, one.value["type"]) for one in failures] == [
        ("search", 1, "ConnectionError"),
        ("search", 2, "ConnectionError"),
    ]
    how = Forking(step=1, budgets={"max_tool_calls": 3})
    sound = bad.without_failures()
    end = end_with(sound, make, sink=recorder, how=how)
    assert end(()) == "ok"
    assert end(failures) == end(failures)
    found = minimise(failures, end)
    assert found.is_deterministic
    assert end(found.kept) == end(failures)
    for one in found.kept:
        assert end(tuple(o for o in found.kept if o is not one)) != found.end


def test_overlays_come_back_from_the_file_that_they_were_written_to(tmp_path: Path) -> None:
    overlays = (
        Overlay(Action.FAIL, tool="a*", nth=2, value={"type": "E", "message": "\x1b[31m: #'\""}),
        Overlay(Action.TIMEOUT, step=3),
        Overlay(Action.REPLACE, tool="b", value={"yes": [1, 2.5, None]}),
        Overlay(Action.REPLACE, tool="b", value="no"),
        Overlay(Action.DISABLE_WRITES, step=1),
        Overlay(Action.TRUNCATE_CONTEXT, step=1, value=100),
    )
    file = tmp_path / "overlays.yaml"
    file.write_text(overlays_text(overlays, where=str(file)), encoding="utf-8")
    assert read_overlays(file) == overlays


# --- the commands


AGENT = "tests.unit.golden.test_forking:make"


def command(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = run_command(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_report_of_the_command_is_data_too(
    run: ForkedRun, recorder: flightlog.Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.close()
    where = ("--agent", AGENT, "--store", str(recorder.store_path))
    run_id = run.recording.run_id
    code, out, _ = command(capsys, "fork", run_id, "--step", "2", *where, "--json")
    report = json.loads(out)
    assert (code, report["trials"][0]["facts"]["stop"]) == (0, "ok")
    assert report["recorded"]["run_id"] == run_id
    result = ("--tool-result", 'search#1=["A9"]')
    code, out, _ = command(capsys, "fork", run_id, *where, *result)
    assert code == 2
    assert "recorded" in out
    assert "no recording holds: refund at step 2" in out


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--step", "7"), "a run of 3 steps"),
        (("--budget", "max_step=1"), "max_steps"),
        (("--budget", "max_steps=soon"), "is no limit"),
        (("--budget", "max_steps"), "is no budget"),
        (("--budget", "max_steps=-1"), "is not a limit"),
        (("--tool-result", "search"), "is no result"),
        (("--tool-result", "search#x=1"), "is no result"),
        (("--tool-result", "search#0=1"), "nth=0"),
        (("--tool-result", "search=@nothing.json"), "cannot be read"),
        (("--overlay", "nothing.yaml"), "nothing.yaml"),
        (("--model", "gpt-9"), "not on 'gpt-9'"),
        (("--allow-host", "a:b:c"), "is no host"),
    ],
)
def test_rubbish_is_refused_by_name_and_nothing_is_run(
    run: ForkedRun,
    recorder: flightlog.Recorder,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    told: str,
) -> None:
    recorder.close()
    where = ("--agent", AGENT, "--store", str(recorder.store_path))
    code, out, err = command(capsys, "fork", run.recording.run_id, *where, *argv)
    assert (code, out) == (64, "")
    assert told in err
    with flightlog.open(recorder.store_path) as traces:
        assert traces.rows("select count(*) n from runs") == [{"n": 1}]


def test_a_misspelt_store_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "nowhere"
    code, _, _ = command(capsys, "fork", "last", "--agent", AGENT, "--store", str(store))
    assert code == 64
    assert not store.exists()


def test_minimise_needs_something_that_failed(
    run: ForkedRun, recorder: flightlog.Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.close()
    where = ("--agent", AGENT, "--store", str(recorder.store_path))
    code, _, err = command(capsys, "minimise", run.recording.run_id, *where)
    assert code == 2
    assert "recorded no failed call" in err


def test_minimise_writes_the_smallest_file_that_ends_so(
    run: ForkedRun,
    recorder: flightlog.Recorder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorder.close()
    given, out = tmp_path / "given.yaml", tmp_path / "smallest.yaml"
    overlays = [
        Overlay(Action.REPLACE, tool="search", value=["A9"]),
        Overlay(Action.DELAY, tool="search", value=5),
        Overlay(Action.DELAY, tool="refund", value=5),
    ]
    given.write_text(overlays_text(overlays, where="given"), encoding="utf-8")
    where = ("--agent", AGENT, "--store", str(recorder.store_path), "--overlay", str(given))
    code, _, err = command(capsys, "minimise", run.recording.run_id, *where, "--out", str(out))
    assert code == 0
    assert "1 of 3 overlays are enough for replay_miss:refund" in err
    assert read_overlays(out) == (overlays[0],)
