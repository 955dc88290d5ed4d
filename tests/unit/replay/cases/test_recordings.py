"""Hard cases of recordings: cut, corrupt, newer, forked, replayed again, large, binary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flightlog.errors import FlightlogError, GoldenError
from flightlog.golden.forking import ForkedRun, Forking, fork_run
from flightlog.golden.pin import pin_runs
from flightlog.golden.recording_files import load_recording, recording_files
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.result import RunContext
from flightlog.runtime.tools import Tool
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Origin, Outcome
from tests.unit.replay.cases.story import TASK, Call, Step, Story, shelf

GET: Call = ("get", {"key": "a"})
GET_B: Call = ("get", {"key": "b"})
PUT: Call = ("put", {"key": "a", "value": 5})
STEPS: Sequence[Step] = (GET, PUT, [GET, GET_B])


def _recording(story: Story) -> Recording:
    [recording] = read_recordings(Store.open(story.store))
    return recording


def _replayed(story: Story, recording: Recording, steps: Sequence[Step], run_id: str) -> Any:
    """A replay straight from a recording, and its sink."""
    sink = MemorySink()
    executor = StateAwareExecutor(Cassette([recording], Rules(shelf()())), golden="story")
    context = RunContext(run_id=run_id, origin=Origin.REPLAY)
    agent = story.agent(steps, shelf()())
    return replay(agent, TASK, executor, sink=sink, context=context)


def test_recording_cut_in_mid_step_serves_what_it_has_and_no_more(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(*STEPS)
    whole = _recording(story)
    last = whole.tool_calls[-1]
    cut = Recording(tuple(e for e in whole.events if e.seq < last.seq), whole.messages)
    done = _replayed(story, cut, STEPS, "r")
    outcomes = {(call.step, call.call_ix): call.outcome for call in done.calls}
    assert outcomes.pop((last.step, last.call_ix)) is Outcome.REPLAY_MISS
    assert list(outcomes.values()) == [Outcome.OK] * 3


def test_run_that_crashed_is_not_pinned(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET)
    recorder = Recorder(tmp_path / "cut", seal_on_close=False)
    for event in _recording(story).events[:-1]:
        recorder.emit(event)
    recorder.close()
    with pytest.raises(GoldenError, match=r"crashed|still going on"):
        pin_runs(Store.open(tmp_path / "cut"), ["run-1"], tmp_path / "goldens")
    assert not (tmp_path / "goldens").exists()


def test_replay_of_a_replay_is_byte_identical(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(*STEPS)
    first = _replayed(story, _recording(story), STEPS, "same")
    second = _replayed(story, first.run, STEPS, "same")

    # All but where the answers came from: the second was served from the first.
    there = [msgspec.json.encode(event) for event in first.run.events]
    again = [msgspec.json.encode(event) for event in second.run.events]
    assert [row.replace(b'"run-1"', b'"same"') for row in there] == again
    assert first.run.messages == second.run.messages


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(bytes(raw))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _newer(path: Path) -> None:
    text = path.read_text()
    assert '"golden_version":1' in text
    path.write_text(text.replace('"golden_version":1', '"golden_version":2'))


@pytest.mark.parametrize("harm", [_flip, _truncate, _newer])
def test_cassette_that_is_corrupt_cut_or_newer_is_an_error_and_never_a_live_call(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    story = Story(tmp_path, shelf())
    story.record(*STEPS)
    story.pin()
    [path] = recording_files(next(story.goldens.glob("*/task.yaml")).parent)
    harm(path)
    with pytest.raises(FlightlogError) as caught:
        story.replay(*STEPS)  # which looks whether a function was called
    assert caught.value.where.startswith(str(path))


def test_each_byte_that_is_cut_from_a_cassette_is_noticed(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET, PUT)
    story.pin()
    [path] = recording_files(next(story.goldens.glob("*/task.yaml")).parent)
    whole = path.read_bytes()
    kept = load_recording(path)
    for size in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(FlightlogError):
            load_recording(path)
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    assert load_recording(path).events == kept.events


def test_each_bit_that_is_flipped_in_a_cassette_is_noticed(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET)
    story.pin()
    [path] = recording_files(next(story.goldens.glob("*/task.yaml")).parent)
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(bytes(damaged))
        with pytest.raises(FlightlogError):
            load_recording(path)


@pytest.mark.parametrize(
    ("step", "asked"), [(1, 4), (2, 3), (3, 2), (4, 1)], ids=["start", "write", "batch", "end"]
)
def test_fork_begins_at_any_step_also_before_a_parallel_batch(
    tmp_path: Path, step: int, asked: int
) -> None:
    story = Story(tmp_path, shelf())
    story.record(*STEPS)
    model_calls: list[int] = []

    def make(trial: Any) -> Any:
        agent = story.agent(STEPS[step - 1 :], shelf()())
        complete = agent.model.complete

        class Counting:
            name = "m"

            def complete(self, request: Any) -> Any:
                model_calls.append(1)
                return complete(request)

        return replace(agent, model=Counting())

    with Recorder(tmp_path / "forks") as sink:
        run = ForkedRun.of(_recording(story))
        report = fork_run(run, make, 1, sink=sink, how=Forking(step=step))
    [fork] = report.trials
    assert len(model_calls) == asked
    assert (fork.facts.stop, fork.divergence, fork.live_tool_calls) == ("ok", None, 0)


def test_large_and_binary_results_are_served_by_digest(tmp_path: Path) -> None:
    large, binary = "x" * 200_000, "\x00\x01\x7fé\ud800"

    def tools() -> Sequence[Tool]:
        return [
            Tool("big", fn=lambda: [large], effect=Effect.READ, scopes=("s",)),
            Tool("raw", fn=lambda: binary, effect=Effect.READ, scopes=("s",)),
        ]

    story = Story(tmp_path, tools)
    live = story.record(("big", {}), ("raw", {}))
    told = story.replay(("raw", {}), ("big", {}))
    assert told.calls[1].result_digest == live[0].result_digest
    assert told.calls[0].result == live[1].result
    assert told.calls[0].outcome is Outcome.OK
