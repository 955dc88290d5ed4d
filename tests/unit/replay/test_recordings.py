"""Runs come back out of a store as they went in."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.errors import UnknownNameError
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from flightlog.trace.events import Event, encode_event
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Actor, Outcome

ASKS = Message("assistant", None, (ToolRequest("1", "get", '{"key":"a"}'),))
SYSTEM = Message("system", "Be brief.")


def _play(sink: Recorder | MemorySink, run_id: str) -> None:
    writer = RunWriter.with_system_clock(sink, run_id)
    writer.started(task_id="t", suite="s", messages=[SYSTEM], system_digest=SYSTEM.digest)
    writer.model_call(prompt=[SYSTEM, Message("user", "Hi")], output=ASKS, input_tokens=3, step=1)
    writer.tool_call(tool_name="get", args='{"key":"a"}', result="x" * 20_000, step=1, call_ix=0)
    writer.tool_call(tool_name="get", outcome=Outcome.DENIED, actor=Actor.USER, step=2)
    writer.stopped(stop_reason="ok", answer="ü\u2028")
    writer.evaluation(passed=True, score=1.0)


def _shape(events: tuple[Event, ...] | list[Event]) -> list[tuple[str, int, str | None]]:
    return [(type(e).__name__, e.seq, getattr(e, "tool_name", None)) for e in events]


@pytest.mark.parametrize("is_sealed", [True, False])
def test_events_and_messages_of_a_run_come_back(tmp_path: Path, is_sealed: bool) -> None:
    recorder = Recorder(tmp_path / "s", seal_on_close=is_sealed)
    _play(recorder, "run-1")
    _play(recorder, "run-2")
    recorder.close()
    (recording,) = read_recordings(Store.open(tmp_path / "s"), ["run-2"])
    memory = MemorySink()
    _play(memory, "run-2")
    assert _shape(recording.events) == _shape(memory.events)
    assert recording.messages[ASKS.digest] == ASKS
    assert recording.messages[SYSTEM.digest] == SYSTEM
    (call, _) = recording.tool_calls
    assert call.result is None
    assert recording.result_of(call) == "x" * 20_000
    assert recording.started is not None
    assert recording.started.at is not None
    assert recording.stopped is not None
    assert recording.stopped.answer == "ü\u2028"
    assert all(encode_event(event) for event in recording.events)


def test_labels_come_back(tmp_path: Path) -> None:
    with record(tmp_path / "s", task_id="t", labels={"k": "v"}) as run:
        run_id = run.run_id
    (recording,) = read_recordings(Store.open(tmp_path / "s"), [run_id])
    assert recording.started is not None
    assert [(label.key, label.value) for label in recording.started.labels] == [("k", "v")]


def test_all_runs_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    with Recorder(tmp_path / "s") as recorder:
        for run_id in ("b", "a"):
            _play(recorder, run_id)
    assert [r.run_id for r in read_recordings(Store.open(tmp_path / "s"))] == ["a", "b"]


def test_an_unknown_run_names_the_nearest(tmp_path: Path) -> None:
    with Recorder(tmp_path / "s") as recorder:
        _play(recorder, "run-1")
    with pytest.raises(UnknownNameError, match="unknown run 'run-9'") as caught:
        read_recordings(Store.open(tmp_path / "s"), ["run-9"])
    assert "run-1" in caught.value.hint
