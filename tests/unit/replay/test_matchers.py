"""The weaker matchers, and tries served one by one or at once."""

from __future__ import annotations

import pytest

from flightlog.replay.attempts import Attempts
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matchers import Match
from flightlog.replay.matching import Rules
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import Served
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Outcome, ServedHow
from tests.unit.replay.world import TOOLS, Call, pending, record, write_call

GET_A: Call = ("get", {"key": "a"})
GET_B: Call = ("get", {"key": "b"})
PUT: Call = ("put", {"key": "a", "value": 5})


def _executor(
    recording: Recording, match: Match = Match.STATE, attempts: Attempts = Attempts.FAITHFUL
) -> StateAwareExecutor:
    cassette = Cassette([recording], Rules(TOOLS), match)
    return StateAwareExecutor(cassette, golden="g", attempts=attempts)


def _results(executor: StateAwareExecutor, *calls: Call) -> list[str]:
    served = [executor.resolve(pending(*call)) for call in calls]
    return [one.result if one.result is not None else one.outcome.value for one in served]


def test_state_is_the_default_and_the_executor_names_its_matcher() -> None:
    assert StateAwareExecutor(Cassette([], Rules(TOOLS)), golden="g").match is Match.STATE
    assert _executor(record([]), Match.KEYED).match is Match.KEYED


@pytest.mark.parametrize("match", list(Match))
def test_recording_serves_itself_under_every_matcher(match: Match) -> None:
    calls: list[Call] = [GET_A, PUT, GET_A, ("pop", {}), ("pop", {}), GET_B]
    assert _results(_executor(record(calls), match), *calls) == ["1", "1", "5", "10", "20", "2"]


def test_strict_misses_what_comes_in_another_order_and_says_so() -> None:
    executor = _executor(record([GET_A, GET_B]), Match.STRICT)
    assert _results(executor, GET_B) == ["replay_miss"]
    assert "not after the same calls" in executor.misses[0].why


def test_strict_misses_a_read_that_is_asked_twice() -> None:
    executor = _executor(record([GET_A, GET_B]), Match.STRICT)
    assert _results(executor, GET_A, GET_A) == ["1", "replay_miss"]


def test_keyed_serves_the_nth_answer_to_the_nth_equal_call_and_no_more() -> None:
    executor = _executor(record([GET_A, PUT, GET_A]), Match.KEYED)
    assert _results(executor, GET_A, GET_A, GET_A) == ["1", "5", "replay_miss"]
    assert "made 2 times" in executor.misses[0].why


def test_keyed_is_never_fallen_to() -> None:
    recording = record([GET_A, PUT, GET_A])
    assert _results(_executor(recording), PUT, GET_A, GET_B) == ["1", "5", "replay_miss"]
    assert _results(_executor(record([PUT, GET_A])), GET_A) == ["replay_miss"]


def test_weaker_matcher_of_pooled_recordings_takes_the_newest_that_has_the_key() -> None:
    one, two = record([GET_A], run_id="one"), record([GET_B], run_id="two")
    cassette = Cassette([one, two], Rules(TOOLS), Match.STRICT)
    executor = StateAwareExecutor(cassette, golden="g")
    assert _results(executor, GET_B) == ["2"]


@pytest.mark.parametrize("match", [Match.STRICT, Match.KEYED])
def test_weaker_matcher_still_never_runs_a_write(match: Match) -> None:
    executor = _executor(record([]), match)
    assert _results(executor, PUT) == ["replay_miss"]
    assert executor.live_tool_calls == 0


def _tried(*answers: Served, call: Call = GET_A) -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    for attempt, served in enumerate(answers, 1):
        write_call(writer, *call, served, step=1, attempt=attempt)
    write_call(writer, *GET_B, Served(Outcome.OK, "2"), step=2)
    return Recording(tuple(sink.events))


FAILED, OK = Served(Outcome.FAILED, error="down", error_type="OSError"), Served(Outcome.OK, "1")


@pytest.mark.parametrize("match", list(Match))
def test_faithful_serves_try_by_try(match: Match) -> None:
    executor = _executor(_tried(FAILED, OK), match)
    first, second = (executor.resolve(pending(*GET_A)) for _ in range(2))
    assert (first.outcome, first.is_final) == (Outcome.FAILED, False)
    assert second.result == "1"


@pytest.mark.parametrize("match", list(Match))
def test_collapsed_serves_the_final_outcome_at_once(match: Match) -> None:
    executor = _executor(_tried(FAILED, OK), match, Attempts.COLLAPSED)
    assert _results(executor, GET_A, GET_B) == ["1", "2"]


def test_collapsed_failure_is_final_and_keeps_its_type() -> None:
    executor = _executor(_tried(FAILED, FAILED), attempts=Attempts.COLLAPSED)
    served = executor.resolve(pending(*GET_A))
    assert (served.error_type, served.is_final) == ("OSError", True)


def test_write_that_timed_out_and_then_worked_is_certain_when_collapsed() -> None:
    slow = Served(Outcome.TIMED_OUT, error="slow")
    recording = _tried(slow, OK, call=PUT)
    assert _results(_executor(recording, attempts=Attempts.COLLAPSED), PUT) == ["1"]


def test_null_result_is_served_as_null_and_an_unknown_one_is_a_miss() -> None:
    recording = _tried(Served(Outcome.OK, "null"))
    assert _results(_executor(recording), GET_A) == ["null"]
    assert _results(_executor(_tried(Served(Outcome.OK))), GET_A) == ["replay_miss"]


def test_what_the_recording_says_of_a_result_is_kept() -> None:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    write_call(writer, *GET_A, Served(Outcome.OK, "1"), step=1, result_flag="json")
    served = _executor(Recording(tuple(sink.events))).resolve(pending(*GET_A))
    assert (served.result_flag, served.served_how) == ("json", ServedHow.RECORDED)


def test_large_result_is_served_from_its_blob() -> None:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.tool_call(
        tool_name="get", args='{"key":"a"}', result_blob="d", step=1, call_ix=0, outcome=Outcome.OK
    )
    recording = Recording(tuple(sink.events), blob={"d": "large"}.__getitem__)
    assert _results(_executor(recording), GET_A) == ["large"]
