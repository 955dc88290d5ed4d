from __future__ import annotations

import json
from typing import Any

import pytest

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import (
    ForeignRun,
    ModelTurn,
    Tally,
    ToolTurn,
    after,
    microseconds,
    plain_text,
    task_message,
    write_run,
)
from flightlog.trace.events import ModelCall, RunStarted, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Actor


def _run(*turns: Any, **fields: Any) -> ForeignRun:
    return ForeignRun(
        **{
            "format": "made-up",
            "source": "here",
            "source_run_id": "1",
            "where": "nowhere:1",
            "turns": turns,
            "started": {},
            **fields,
        }
    )


def _written(run: ForeignRun) -> MemorySink:
    sink = MemorySink()
    write_run(run, sink, Tally())
    return sink


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("1970-01-01T00:00:01", 1_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T02:00:01+02:00", 1_000_000),
        ("1970-01-01 00:00:00.000001", 1),
        ("1969-12-31T23:59:59", -1_000_000),
    ],
)
def test_time_without_a_zone_is_utc(text: str | None, expected: int | None) -> None:
    assert microseconds(text) == expected


def test_end_beyond_the_calendar_is_unknown() -> None:
    assert after(1_000, 2.5) == 3_500
    assert after(0, 1e300) is None
    assert after(None, 1.0) is None


def test_task_digest_does_not_depend_on_the_order_of_keys() -> None:
    first, second = (task_message("1", "s", c) for c in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert first is not None
    assert first == second
    assert first != task_message("1", "s", {"a": 1, "b": 3})
    assert task_message("1", "s", None) is None


def test_task_content_is_kept_with_the_run() -> None:
    task = task_message("1", "s", {"goal": "x"})
    sink = _written(_run(task=task))
    [start] = [event for event in sink.events if isinstance(event, RunStarted)]
    kept = sink.messages[start.task_digest or ""]
    assert (kept.role, json.loads(kept.text or "")["inputs"]) == ("task", {"goal": "x"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, None),
        ("text", "text"),
        ([], None),
        ([{"type": "text", "text": "a"}, {"type": "image"}, "b"], "a\nb"),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
    ],
)
def test_content_is_a_string_or_blocks(content: Any, expected: str | None) -> None:
    assert plain_text(content) == expected


@pytest.mark.parametrize("name", ["format", "source", "source_run_id", "content_digest"])
def test_run_id_depends_on_where_the_run_comes_from(name: str) -> None:
    assert _run().run_id == _run(where="elsewhere:9", turns=()).run_id
    assert _run().run_id != _run(**{name: "other"}).run_id


def test_steps_are_turns_of_the_agent() -> None:
    asked = ModelTurn(Message("assistant", "?"))
    sink = _written(
        _run(
            ModelTurn(Message("user", "hi"), actor=Actor.USER),
            asked,
            ToolTurn("a", {}),
            ToolTurn("b", {}),
            asked,
            ToolTurn("c", {}),
            ToolTurn("mine", {}, actor=Actor.USER),
        )
    )
    models = [event.step for event in sink.events if isinstance(event, ModelCall)]
    tools = [
        (event.tool_name, event.step, event.call_ix)
        for event in sink.events
        if isinstance(event, ToolCall)
    ]
    assert models == [None, 1, 2]
    assert tools == [("a", 1, 0), ("b", 1, 1), ("c", 2, 0), ("mine", 2, None)]


def test_prompts_grow_by_what_is_new() -> None:
    turns = [ModelTurn(Message("assistant", f"answer {ix}")) for ix in range(50)]
    sink = _written(_run(Message("user", "go"), *turns))
    calls = [event for event in sink.events if isinstance(event, ModelCall)]
    assert [len(call.prompt_added) for call in calls] == [1] * 50
    assert [call.prompt_messages for call in calls] == list(range(1, 51))


def test_arguments_that_are_no_json_are_kept_and_flagged() -> None:
    sink = _written(_run(ToolTurn("a", '{"x": ')))
    [call] = [event for event in sink.events if isinstance(event, ToolCall)]
    assert (call.args, call.args_flag) == ('{"x": ', "unparsable")


def test_json_nested_beyond_reading_is_refused(tmp_path: Any, imported: Any) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
    for name in ("tau-bench", "run-lines"):
        with pytest.raises(TraceFormatError):
            imported(name, path)
