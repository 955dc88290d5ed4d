"""Hard cases of the state: what was written, dropped, added, repeated, raced, cut, failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import ToolError
from flightlog.replay.validity import Validity
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import SystemClock
from flightlog.trace.vocab import Effect, Outcome
from tests.unit.replay.cases.story import Call, Story, shelf

GET: Call = ("get", {"key": "a"})
GET_B: Call = ("get", {"key": "b"})
PUT: Call = ("put", {"key": "a", "value": 5})


def test_same_call_with_three_answers_gives_them_in_order_and_pinning_says_so(
    tmp_path: Path,
) -> None:
    def tools() -> Sequence[Tool]:
        answers = iter(["pending", "running", "done", "gone"])
        return [Tool("poll", fn=lambda: [next(answers)], effect=Effect.READ, scopes=("job",))]

    story = Story(tmp_path, tools)
    story.record(("poll", {}), ("poll", {}), ("poll", {}))
    notes = story.pin().notes
    assert any("answered differently in the same state" in note for note in notes)
    told = story.replay(("poll", {}), ("poll", {}), ("poll", {}))
    assert told.seen == [["pending"], ["running"], ["done"]]
    assert story.replay(("poll", {})).seen == [["pending"]]


@pytest.mark.parametrize(
    ("steps", "seen"),
    [
        ((PUT, GET), [{"put": 5}, 5]),
        ((GET, PUT), [1, {"put": 5}]),
        ((PUT,), [{"put": 5}]),
        ((GET, PUT, GET, GET, GET), [1, {"put": 5}, 5, 5, 5]),
        ((GET, GET, PUT, GET), [1, 1, {"put": 5}, 5]),
    ],
    ids=["first-dropped", "last-dropped", "both-dropped", "last-repeated", "first-repeated"],
)
def test_reads_around_a_write_are_dropped_and_repeated_freely(
    tmp_path: Path, steps: tuple[Call, ...], seen: list[Any]
) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET, PUT, GET)
    told = story.replay(*steps)
    assert told.seen == seen
    assert told.trial.passed


def test_read_added_after_the_write_of_another_scope_is_a_miss_and_never_the_old_answer(
    tmp_path: Path,
) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET, ("put", {"key": "b", "value": 7}))
    told = story.replay(GET, ("put", {"key": "b", "value": 7}), GET_B)
    assert told.seen == [1, {"put": 7}, "replay_miss"]
    assert told.trial.passed is None
    assert told.trial.trust.validity is Validity.VOID


def test_failed_write_changes_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(("remove", {"key": "z"}), ("get", {"key": "z"}), GET)
    told = story.replay(GET, ("get", {"key": "z"}), ("remove", {"key": "z"}), ("get", {"key": "z"}))
    assert told.seen == [1, None, "failed", None]


def test_write_cut_by_its_time_limit_leaves_its_scope_unknown_and_others_known(
    tmp_path: Path,
) -> None:
    may_end = threading.Event()

    def tools() -> Sequence[Tool]:
        def stall(key: str) -> str:
            may_end.wait(30)
            return key

        get, *_ = shelf()()
        scopes = ("item:{key}",)
        return [get, Tool("stall", fn=stall, effect=Effect.WRITE, scopes=scopes, timeout_s=0.05)]

    story = Story(tmp_path, tools)
    story.clock = SystemClock
    stall: Call = ("stall", {"key": "a"})
    try:
        assert story.record(GET, stall, GET, GET_B)[1].outcome is Outcome.TIMED_OUT
    finally:
        may_end.set()
    assert story.replay(GET, stall, GET_B).seen == [1, "timed_out", 2]
    told = story.replay(GET, stall, GET)
    assert told.seen == [1, "timed_out", "replay_miss"]
    assert "unknown outcome" in told.why


@pytest.mark.parametrize(
    ("last", "seen"),
    [(["paid"], [["empty"], "timed_out", ["paid"], ["spent"]]), (None, None)],
    ids=["worked", "failed"],
)
def test_write_that_timed_out_is_known_again_only_where_its_next_try_works(
    tmp_path: Path, last: list[str] | None, seen: list[Any] | None
) -> None:
    may_end = threading.Event()

    def tools() -> Sequence[Tool]:
        tries: list[int] = []

        def pay() -> list[str]:
            tries.append(1)
            if len(tries) == 1:
                may_end.wait(30)
            if last is None:
                raise ToolError("refused", retryable=False)
            return last

        def look() -> list[str]:
            return ["spent" if tries else "empty"]

        return [
            Tool(
                "pay",
                fn=pay,
                effect=Effect.WRITE,
                scopes=("purse",),
                timeout_s=0.05,
                is_idempotent=True,
            ),
            Tool("look", fn=look, effect=Effect.READ, scopes=("purse",)),
        ]

    story = Story(tmp_path, tools, retries={"pay": RetryPolicy(max_attempts=2, initial_s=0.001)})
    story.clock = SystemClock
    steps: list[Call] = [("look", {}), ("pay", {}), ("look", {})]
    try:
        live = story.record(*steps)
    finally:
        may_end.set()
    assert [call.attempt for call in live if call.tool_name == "pay"] == [1, 2]
    told = story.replay(*steps)
    if seen is None:
        assert told.seen == [["empty"], "timed_out", "failed", "replay_miss"]
        assert "unknown outcome" in told.why
    else:
        assert told.seen == seen


def test_search_over_all_items_is_another_search_after_any_write(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    find: Call = ("find", {"least": 1})
    story.record(find, PUT, find)
    assert story.replay(PUT, find).seen == [{"put": 5}, ["a", "b"]]
    other: Call = ("put", {"key": "b", "value": 9})
    assert story.replay(other, find).seen == ["replay_miss"]


def test_search_that_declares_no_scope_is_another_search_after_any_write(tmp_path: Path) -> None:
    def tools() -> Sequence[Tool]:
        _, put, _, find = shelf()()
        return [put, Tool("find", fn=find.fn, effect=Effect.READ)]

    story = Story(tmp_path, tools)
    find: Call = ("find", {"least": 1})
    story.record(find, PUT)
    told = story.replay(find, PUT, find)
    assert told.seen == [["a", "b"], {"put": 5}, "replay_miss"]


def _makers() -> Sequence[Tool]:
    made: dict[str, str] = {}

    def create(name: str) -> dict[str, str]:
        made[f"id-{len(made) + 1}"] = name
        return {"id": f"id-{len(made)}"}

    def read(made_id: str) -> list[str]:
        return [f"<{made[made_id]}>"]

    return [
        Tool("create", fn=create, effect=Effect.WRITE, scopes=("ids", "made:{result.id}")),
        Tool("read", fn=read, effect=Effect.READ, scopes=("made:{made_id}",)),
    ]


def test_what_was_created_is_read_by_its_new_id(tmp_path: Path) -> None:
    story = Story(tmp_path, _makers)
    story.record(
        ("create", {"name": "x"}),
        ("read", {"made_id": "id-1"}),
        ("create", {"name": "y"}),
        ("read", {"made_id": "id-2"}),
    )
    told = story.replay(
        ("create", {"name": "x"}),
        ("create", {"name": "y"}),
        ("read", {"made_id": "id-2"}),
        ("read", {"made_id": "id-1"}),
    )
    assert told.seen == [{"id": "id-1"}, {"id": "id-2"}, ["<y>"], ["<x>"]]
    # In another order the real world would have given other ids.
    assert story.replay(("create", {"name": "y"})).seen == ["replay_miss"]


def test_pages_are_read_again_skipped_and_never_made_up(tmp_path: Path) -> None:
    def tools() -> Sequence[Tool]:
        pages = {"": (["a", "b"], "p2"), "p2": (["c"], "p3"), "p3": (["d"], "")}
        return [
            Tool(
                "browse",
                fn=lambda cursor="": list(pages[cursor]),
                effect=Effect.READ,
                scopes=("list",),
                input_schema={
                    "type": "object",
                    "properties": {"cursor": {"type": "string", "default": ""}},
                },
            )
        ]

    story = Story(tmp_path, tools)
    story.record(("browse", {}), ("browse", {"cursor": "p2"}))
    told = story.replay(
        ("browse", {"cursor": "p2"}), ("browse", {"cursor": ""}), ("browse", {"cursor": "p3"})
    )
    assert told.seen == [[["c"], "p3"], [["a", "b"], "p2"], "replay_miss"]


def _queue() -> Sequence[Tool]:
    waiting = [10, 20, 30]

    def pop() -> int:
        return waiting.pop(0)

    return [Tool("pop", fn=pop, effect=Effect.READ, scopes=("queue",), is_consuming=True)]


def test_two_parallel_identical_consuming_calls_race_and_are_told(tmp_path: Path) -> None:
    story = Story(tmp_path, _queue)
    story.record([("pop", {}), ("pop", {})])
    notes = " ".join(story.pin().notes)
    assert "pop" in notes
    told = story.replay([("pop", {}), ("pop", {})])
    assert "replay_miss" in told.seen
    assert told.trial.passed is None


def test_consuming_calls_in_steps_are_served_one_by_one(tmp_path: Path) -> None:
    story = Story(tmp_path, _queue)
    story.record(("pop", {}), ("pop", {}))
    told = story.replay(("pop", {}), ("pop", {}), ("pop", {}))
    assert told.seen == [10, 20, "replay_miss"]


def test_read_beside_a_write_of_its_scope_is_never_served_from_that_batch(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf())
    story.record(GET_B, [PUT, GET])
    assert any("get" in note for note in story.pin().notes)
    assert story.replay(GET_B, PUT, GET).seen == [2, {"put": 5}, "replay_miss"]
    assert story.replay(GET_B, GET).seen == [2, "replay_miss"]
    assert story.replay(GET_B, [PUT, GET]).trial.passed is None


def test_two_recordings_that_disagree_are_told_and_the_newest_is_served(tmp_path: Path) -> None:
    story = Story(tmp_path, shelf(a=1))
    story.record(GET)
    story.make_tools = shelf(a=2)
    story.record(GET)
    story.make_tools = shelf(a=9)
    notes = " ".join(story.pin().notes)
    assert "answered differently in the same state (run-1, run-2)" in notes
    assert story.replay(GET).seen == [2]
