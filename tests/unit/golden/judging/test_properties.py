"""What holds of every run that is judged, whatever it did: drawn calls on a small true world."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.golden.judging.judge import judged_calls
from flightlog.golden.judging.levels import Level, levels_of
from flightlog.replay.cassette import Cassette
from flightlog.replay.matching import Rules
from flightlog.trace.vocab import Outcome
from tests.torture.size import sized
from tests.unit.replay.world import TOOLS, Call, record

RULES = Rules(TOOLS)
KEYS = st.sampled_from(["a", "b", "c"])
READS = st.one_of(
    st.builds(lambda key: ("get", {"key": key}), KEYS),
    st.just(("list_items", {})),
    st.just(("queue_size", {})),
    st.just(("audit", {})),
)
WRITES = st.one_of(
    st.builds(lambda key, value: ("put", {"key": key, "value": value}), KEYS, st.integers(0, 3)),
    st.builds(lambda value: ("push", {"value": value}), st.integers(0, 3)),
    st.builds(lambda value: ("create", {"value": value}), st.integers(0, 3)),
    st.builds(lambda key: ("rename", {"key": key, "new": "z"}), KEYS),
)
CALLS = st.lists(st.one_of(READS, WRITES), max_size=8)
READING = {"get", "list_items", "queue_size", "audit"}


def levels(recorded: list[Call], made: list[Call]) -> tuple[Level, ...]:
    cassette = Cassette([record(recorded)], RULES)
    candidate = judged_calls(record(made).tool_calls, RULES)
    return levels_of(candidate, cassette, is_outcome_accepted=True)


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(CALLS)
def test_a_run_is_exactly_like_itself(calls: list[Call]) -> None:
    assert levels(calls, calls) == (
        Level.EXACT,
        Level.COMMUTING,
        Level.SAME_WRITES,
        Level.SAME_OUTCOME,
    )


@settings(max_examples=sized(300, 10_000), deadline=None)
@given(CALLS, CALLS)
def test_a_tighter_level_brings_all_looser_ones(one: list[Call], other: list[Call]) -> None:
    found = levels(one, other)
    order = list(Level)
    assert list(found) == sorted(found, key=order.index)
    if Level.EXACT in found:
        assert one == other
        assert Level.COMMUTING in found
    if Level.COMMUTING in found:
        assert Level.SAME_WRITES in found
        assert sorted(map(repr, one)) == sorted(map(repr, other))


@settings(max_examples=sized(200, 10_000), deadline=None)
@given(CALLS, st.randoms(use_true_random=False))
def test_reads_left_out_or_added_change_no_writes(calls: list[Call], rng: Any) -> None:
    thicker: list[Call] = []
    for call in calls:
        if rng.random() < 0.3:
            thicker.append(("audit", {}))
        if call[0] not in READING or rng.random() < 0.5:
            thicker.append(call)
    assert Level.SAME_WRITES in levels(calls, thicker)


@settings(max_examples=sized(200, 10_000), deadline=None)
@given(CALLS, st.data())
def test_a_successful_write_left_out_or_repeated_is_another_set_of_writes(
    calls: list[Call], data: Any
) -> None:
    done = record(calls).tool_calls
    writes = [
        place
        for place, call in enumerate(done)
        if call.tool_name not in READING and call.outcome is Outcome.OK
    ]
    if not writes:
        return
    place = data.draw(st.sampled_from(writes))
    rest = [*calls[:place], *calls[place + 1 :]]
    mine = [c for c in record(rest).tool_calls if c.outcome is Outcome.OK]
    same_count = [c for c in done if c.outcome is Outcome.OK and c.tool_name not in READING]
    if len([c for c in mine if c.tool_name not in READING]) == len(same_count):
        return  # another write worked only now
    assert Level.SAME_WRITES not in levels(calls, rest)
    assert Level.EXACT not in levels(calls, rest)
