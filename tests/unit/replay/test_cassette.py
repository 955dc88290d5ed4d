"""What of a recording can be served, and what a recording contradicts."""

from __future__ import annotations

import pytest

from flightlog.errors import DamagedError, NewerFormatError
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.runtime.calls import Served
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Actor, Outcome
from tests.unit.replay.world import TOOLS, World, executor_over, pending, record, write_call

GET = ("get", {"key": "a"})


def _cassette(*recordings: Recording) -> Cassette:
    return Cassette(recordings, Rules(TOOLS))


def _batch(*calls: tuple[str, dict[str, object], str], step: int = 1) -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for ix, (name, args, result) in enumerate(calls):
        write_call(writer, name, args, Served(Outcome.OK, result), step=step, call_ix=ix)
    return Recording(tuple(sink.events))


def test_refused_calls_are_no_observations() -> None:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for outcome in Outcome:
        if outcome.is_refusal:
            write_call(writer, *GET, Served(outcome, error="refused"), step=1)
    assert len(_cassette(Recording(tuple(sink.events)))) == 0


def test_key_of_a_newer_canonical_form_is_refused() -> None:
    sink = MemorySink()
    served = Served(Outcome.OK, "1")
    write_call(RunWriter(sink, "rec"), *GET, served, step=1, state_key=f"canon/9:{'0' * 32}")
    with pytest.raises(NewerFormatError, match="canon/9"):
        _cassette(Recording(tuple(sink.events)))


def test_result_whose_blob_is_lost_is_an_error_and_no_miss() -> None:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.tool_call(tool_name="get", args='{"key":"a"}', result_blob="d", step=1, call_ix=0)

    def lost(digest: str) -> str:
        raise DamagedError(f"blob {digest} is missing")

    with pytest.raises(DamagedError):
        _cassette(Recording(tuple(sink.events), blob=lost))


def test_a_result_that_is_unknown_is_never_served() -> None:
    sink = MemorySink()
    write_call(RunWriter(sink, "rec"), *GET, Served(Outcome.OK), step=1)
    executor = executor_over(Recording(tuple(sink.events)))
    assert executor.resolve(pending(*GET)).outcome is Outcome.REPLAY_MISS


def test_a_large_result_comes_from_its_blob() -> None:
    sink = MemorySink()
    RunWriter(sink, "rec").tool_call(
        tool_name="get", args='{"key":"a"}', result_blob="d1", step=1, call_ix=0
    )
    executor = executor_over(Recording(tuple(sink.events), {}, {"d1": "large"}.__getitem__))
    assert executor.resolve(pending(*GET)).result == "large"


def test_the_newest_recording_wins_and_the_conflict_is_listed() -> None:
    old = record([GET], world=World(items={"a": 1}), run_id="old")
    new = record([GET], world=World(items={"a": 2}), run_id="new")
    answer = executor_over(old, new).resolve(pending(*GET))
    assert (answer.result, answer.served_from) == ("2", "new")
    (conflict,) = _cassette(old, new).conflicts()
    assert conflict.tool_name == "get"
    assert "old, new" in str(conflict)


def test_recordings_that_agree_have_no_conflict() -> None:
    assert _cassette(record([GET]), record([GET, GET], run_id="r2")).conflicts() == []


def test_a_read_that_races_a_write_of_its_step_is_never_served() -> None:
    put = ("put", {"key": "a", "value": 5}, "1")
    recording = _batch(put, ("get", {"key": "a"}, "5"), ("get", {"key": "b"}, "2"))
    cassette = _cassette(recording)
    assert [call.call.call_ix for call in cassette.racy_calls] == [1]
    executor = executor_over(recording)
    assert executor.resolve(pending("put", {"key": "a", "value": 5})).result == "1"
    assert executor.resolve(pending("get", {"key": "b"})).result == "2"
    assert executor.resolve(pending("get", {"key": "a"})).outcome is Outcome.REPLAY_MISS


def test_two_writes_that_race_leave_a_state_nobody_knows() -> None:
    recording = _batch(
        ("put", {"key": "a", "value": 5}, "1"), ("put", {"key": "a", "value": 6}, "5")
    )
    after = record([GET], world=World(items={"a": 6}))
    moved = tuple(
        event.__class__(**{**_fields(event), "seq": event.seq + 10, "step": 2})
        for event in after.tool_calls
    )
    executor = executor_over(Recording((*recording.events, *moved)))
    assert executor.resolve(pending("put", {"key": "a", "value": 5})).outcome is Outcome.REPLAY_MISS
    assert executor.resolve(pending(*GET)).outcome is Outcome.REPLAY_MISS


def _fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}  # type: ignore[attr-defined]


def test_parallel_reads_and_writes_of_other_scopes_are_served_in_any_order() -> None:
    recording = _batch(("put", {"key": "a", "value": 5}, "1"), ("get", {"key": "b"}, "2"))
    executor = executor_over(recording)
    assert executor.resolve(pending("get", {"key": "b"})).result == "2"
    assert executor.resolve(pending("put", {"key": "a", "value": 5})).result == "1"


def test_the_order_of_a_step_is_that_of_its_requests_not_of_their_ends() -> None:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for ix, key in ((1, "b"), (0, "a")):
        served = Served(Outcome.OK, key)
        write_call(writer, "get", {"key": key}, served, step=1, call_ix=ix)
    (calls,) = _cassette(Recording(tuple(sink.events))).calls
    assert [call.call.call_ix for call in calls] == [0, 1]


def test_a_write_of_the_simulated_user_moves_the_state_and_is_not_served() -> None:
    world, sink = World(), MemorySink()
    writer = RunWriter(sink, "rec")
    put = ("put", {"key": "a", "value": 9})
    write_call(writer, *put, world.call(*put), step=1, actor=Actor.USER)
    write_call(writer, *GET, world.call(*GET), step=2)
    recording = Recording(tuple(sink.events))
    assert [call.tool_name for call in _cassette(recording).calls[0]] == ["get"]
    assert executor_over(recording).resolve(pending(*GET)).outcome is Outcome.REPLAY_MISS


def test_an_empty_recording_has_no_calls() -> None:
    assert len(_cassette(Recording(()))) == 0
    assert Recording(()).run_id == ""


def test_calls_of_a_tool_come_newest_recording_first() -> None:
    cassette = _cassette(record([GET], run_id="old"), record([GET], run_id="new"))
    assert [call.run_id for call in cassette.calls_of("get")] == ["new", "old"]
