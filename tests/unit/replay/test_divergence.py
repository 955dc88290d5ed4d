"""The first call that differs from the nearest recording."""

from __future__ import annotations

import pytest

from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.divergence import first_divergence
from flightlog.replay.matching import Rules
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Actor, Outcome
from tests.unit.replay.world import TOOLS, Call, record

A: Call = ("get", {"key": "a"})
B: Call = ("get", {"key": "b"})
LIST: Call = ("list_items", {})


def _plus(run: Recording, *calls: ToolCall) -> Recording:
    return Recording((*run.events, *calls), run.messages)


def _run(*calls: Call) -> Recording:
    return record(calls, run_id="mine")


def _cassette(*runs: tuple[Call, ...]) -> Cassette:
    made = [record(calls, run_id=f"r{ix}") for ix, calls in enumerate(runs)]
    return Cassette(made, Rules(TOOLS))


def test_equal_calls_do_not_diverge() -> None:
    assert first_divergence(_cassette((A, B), (A, LIST)), _run(A, B)) is None


@pytest.mark.parametrize(
    ("mine", "step", "what"),
    [
        ((A, A), 2, "args.key is 'a', recorded 'b'"),
        ((A, LIST), 2, "the recording calls get here"),
        ((A, B, LIST), 3, "one call more than the recording made"),
        ((A,), None, 'the recording goes on with get {"key":"b"}'),
    ],
)
def test_the_first_differing_call_is_named(
    mine: tuple[Call, ...], step: int | None, what: str
) -> None:
    found = first_divergence(_cassette((A, B)), _run(*mine))
    assert found is not None
    assert (found.step, found.what) == (step, what)


def test_the_recording_with_the_longest_equal_beginning_is_the_nearest() -> None:
    found = first_divergence(_cassette((LIST,), (A, B, B), (LIST, A)), _run(A, B, LIST))
    assert found is not None
    assert (found.run_id, found.step) == ("r1", 3)


def test_refusals_and_calls_of_the_user_do_not_count_but_a_miss_does() -> None:
    denied = ToolCall(run_id="m", seq=9, tool_name="x", outcome=Outcome.DENIED)
    of_user = ToolCall(run_id="m", seq=10, tool_name="x", actor=Actor.USER)
    assert first_divergence(_cassette((A,)), _plus(_run(A), denied, of_user)) is None
    missed = ToolCall(run_id="m", seq=11, step=2, tool_name="x", outcome=Outcome.REPLAY_MISS)
    found = first_divergence(_cassette((A,)), _plus(_run(A), missed))
    assert found is not None
    assert str(found) == "step 2, x: one call more than the recording made (cause: model)"


def test_without_recordings_there_is_nothing_to_diverge_from() -> None:
    assert first_divergence(_cassette(), _run(A)) is None
