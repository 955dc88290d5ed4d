"""Any Python value records without an exception, and comes back as it was or flagged."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

import flightlog
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.redact.policy import Capture, Redaction
from flightlog.trace.canonical import clean_text
from flightlog.trace.events import (
    Evaluation,
    Label,
    ModelCall,
    RunStarted,
    RunStopped,
    StateChanged,
    ToolCall,
    ToolIntent,
)
from flightlog.trace.fitting import MAX_LABELS, fitted_labels
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from tests.torture.size import sized
from tests.unit.recorder.hostile import BOXES, CASES, JSON_VALUES, MAKERS, Box, EndlessMapping, same

PER_STORE = 50
_QUERY = """
SELECT args, args_flag, coalesce(result, blob_text(store, result_blob)) AS result, result_flag
FROM tool_calls ORDER BY seq
"""
slow_and_many = settings(
    max_examples=max(1, CASES // PER_STORE),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def recorded(store: str, values: list[Any]) -> None:
    redaction = Redaction(Capture.FULL)
    with Recorder(store, seal_on_close=False, redaction=redaction) as recorder:
        with flightlog.record(recorder) as run:
            for value in values:
                assert run.tool_call(tool_name="t", args=value, result=value)
        assert (recorder.dropped_events, recorder.last_error) == (0, None)


def read_back(store: str) -> list[dict[str, Any]]:
    with flightlog.open(store) as traces:
        assert traces.problems == ()
        return traces.rows(_QUERY)


def check_result(value: Any, row: dict[str, Any]) -> None:
    text, flag = row["result"], row["result_flag"]
    if value is None:
        assert (text, flag) == (None, None)
    elif issubclass(type(value), str):
        whole = str.__str__(value)
        assert text == clean_text(whole)
        assert (flag is None) == (text == whole)
    elif flag == "json":
        assert same(json.loads(text), value)
    else:
        assert flag.startswith("lossy: ")


def check_args(value: Any, row: dict[str, Any]) -> None:
    text, flag = row["args"], row["args_flag"]
    if flag is None and value is not None and not issubclass(type(value), str):
        found = json.loads(text)
        assert type(value) is dict
        assert same(found, {key: value[key] for key in sorted(value)}) or found == value
    elif flag is not None:
        assert flag == "not_an_object" or flag.startswith("lossy: ") or type(value) is not dict


@slow_and_many
@given(st.lists(BOXES, min_size=PER_STORE, max_size=PER_STORE))
def test_any_value_comes_back_as_it_was_or_flagged(boxes: list[Box]) -> None:
    values = [box.value for box in boxes]
    with tempfile.TemporaryDirectory() as store:
        recorded(store, values)
        unsealed = read_back(store)
        seal_store(Store.open(store))
        assert read_back(store) == unsealed
        assert len(unsealed) == len(values)
        for value, row in zip(values, unsealed, strict=True):
            check_result(value, row)
            check_args(value, row)


@slow_and_many
@given(st.lists(JSON_VALUES, min_size=PER_STORE, max_size=PER_STORE))
def test_plain_json_is_never_called_lossy(values: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as store:
        recorded(store, values)
        for value, row in zip(values, read_back(store), strict=True):
            is_text = value is None or isinstance(value, str)
            assert row["result_flag"] == (None if is_text else "json")
            assert row["args_flag"] in (None, "not_an_object") or is_text


_PENS = {
    RunStarted: "started",
    ModelCall: "model_call",
    ToolCall: "tool_call",
    ToolIntent: "tool_intent",
    StateChanged: "state_changed",
    RunStopped: "stopped",
    Evaluation: "evaluation",
}
_FIELDS = sorted(
    (pen, name)
    for kind, pen in _PENS.items()
    for name in kind.__struct_fields__
    if name not in ("run_id", "seq")
)


@slow_and_many
@given(st.lists(st.tuples(st.sampled_from(_FIELDS), BOXES), min_size=PER_STORE, max_size=PER_STORE))
def test_event_with_any_value_in_any_field_is_kept(
    cases: list[tuple[tuple[str, str], Box]],
) -> None:
    with tempfile.TemporaryDirectory() as store:
        with Recorder(store, seal_on_close=False) as recorder:
            run = RunWriter(recorder, "r")
            for (pen, name), box in cases:
                assert getattr(run, pen)(**{name: box.value})
            assert run.stopped()
            assert recorder.dropped_events == 0
        assert _seqs(store) == list(range(len(cases) + 1))
        seal_store(Store.open(store))
        assert _seqs(store) == list(range(len(cases) + 1))
        assert verify_store(Store.open(store)).damaged == ()


def _seqs(store: str) -> list[int]:
    with flightlog.open(store) as traces:
        return [row["seq"] for row in traces.rows("SELECT seq FROM events ORDER BY seq")]


@slow_and_many
@given(st.lists(BOXES, min_size=PER_STORE, max_size=PER_STORE))
def test_run_of_any_id_is_kept(boxes: list[Box]) -> None:
    values = [box.value for box in boxes]
    with tempfile.TemporaryDirectory() as store:
        with Recorder(store, seal_on_close=False) as recorder:
            for value in values:
                with flightlog.record(recorder, run_id=value) as run:
                    assert run.tool_call(tool_name="t", step=value)
            assert recorder.dropped_events == 0
        seal_store(Store.open(store))
        with flightlog.open(store) as traces:
            rows = traces.rows("SELECT run_id FROM events WHERE kind = 'tool_call'")
        assert len(rows) == len(values)
        assert all(isinstance(row["run_id"], str) for row in rows)


@slow_and_many
@given(st.lists(BOXES, min_size=PER_STORE, max_size=PER_STORE))
def test_message_of_any_values_is_kept(boxes: list[Box]) -> None:
    values = [box.value for box in boxes]
    with tempfile.TemporaryDirectory() as store:
        with Recorder(store, seal_on_close=False) as recorder:
            with flightlog.record(recorder, labels={"a": values[0]}, agent=values[1]) as run:
                for value in values:
                    request = ToolRequest(id=value, name=value, arguments=value)
                    prompt = [Message(role="user", text=value, name=value)]
                    output = Message("assistant", tool_requests=(request,))
                    assert run.model_call(prompt=prompt, output=output)
            assert recorder.dropped_events == 0
        seal_store(Store.open(store))
        with flightlog.open(store) as traces:
            [row] = traces.rows("SELECT count(*) AS n FROM messages WHERE role IS NULL")
        assert row == {"n": 0}


def test_labels_of_any_value_are_kept(tmp_path: Path) -> None:
    with Recorder(tmp_path / "s", seal_on_close=False) as recorder:
        for number, maker in enumerate(MAKERS):
            with flightlog.record(recorder, labels=maker(), agent="a") as run:
                assert run.tool_call(tool_name="t")
            assert RunWriter(recorder, f"one-{number}").started(labels=maker())
            assert RunWriter(recorder, f"two-{number}").started(labels=[maker()])
        assert recorder.dropped_events == 0
    seal_store(Store.open(tmp_path / "s"))
    with flightlog.open(tmp_path / "s") as traces:
        [row] = traces.rows("SELECT count(*) AS n FROM events WHERE kind = 'run_started'")
    assert row == {"n": 3 * len(MAKERS)}


def test_labels_without_end_are_cut() -> None:
    labels = fitted_labels(EndlessMapping())
    assert len(labels) == MAX_LABELS + 1
    assert labels[-1] == Label("labels", f"… [cut: {MAX_LABELS} labels kept]")


@pytest.mark.parametrize(
    ("value", "text", "flag"),
    [
        ("plain", "plain", None),
        ("5", "5", None),
        (5, "5", "json"),
        ({"a": [1, None, True]}, '{"a":[1,null,true]}', "json"),
        ((1, 2), "[1,2]", "lossy: tuple as a list"),
        (b"abc", "abc", "lossy: bytes as text"),
        (b"\xff", "\\xff", "lossy: bytes as text with escapes"),
        (float("nan"), "NaN", "lossy: NaN and infinities as text"),
        ({3, 1}, "[1,3]", "lossy: set as a list"),
    ],
)
def test_result_says_what_it_was(tmp_path: Path, value: Any, text: str, flag: str | None) -> None:
    with flightlog.record(tmp_path / "s") as run:
        run.tool_call(tool_name="t", result=value)
    with flightlog.open(tmp_path / "s") as traces:
        [row] = traces.rows("SELECT result, result_flag, result_bytes FROM tool_calls")
    assert row == {"result": text, "result_flag": flag, "result_bytes": len(text)}


def test_value_that_another_thread_changes_meanwhile_is_recorded(tmp_path: Path) -> None:
    value: dict[str, Any] = {"list": list(range(1_000)), "set": set(range(1_000))}
    is_done = threading.Event()

    def change() -> None:
        number = 0
        while not is_done.is_set():
            number += 1
            value[f"key {number % 500}"] = [number]
            value.pop(f"key {(number * 7) % 500}", None)
            value["list"].append(number)
            del value["list"][:3]
            value["set"].add(number)
            value["set"].discard(number - 500)

    other = threading.Thread(target=change)
    other.start()
    calls = sized(200, 5_000)
    try:
        with (
            Recorder(tmp_path / "s", seal_on_close=False) as recorder,
            flightlog.record(recorder) as run,
        ):
            for _ in range(calls):
                assert run.tool_call(tool_name="t", args=value, result=value)
        assert recorder.dropped_events == 0
    finally:
        is_done.set()
        other.join()
    rows = read_back(str(tmp_path / "s"))
    assert len(rows) == calls
    assert all(row["result_flag"].startswith("lossy: ") for row in rows)


def test_model_of_pydantic_is_kept_and_one_that_fails_is_flagged(tmp_path: Path) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Line(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        name: str
        total: float

    class Broken(Line):
        @pydantic.model_serializer
        def _fail(self) -> dict[str, Any]:
            raise RuntimeError("cannot be dumped")

    with flightlog.record(tmp_path / "s") as run:
        run.tool_call(tool_name="t", result=Line(name="a", total=1.5))
        run.tool_call(tool_name="t", result=Broken(name="a", total=1.5))
    whole, broken = read_back(str(tmp_path / "s"))
    assert (whole["result"], whole["result_flag"]) == (
        '{"name":"a","total":1.5}',
        "lossy: Line as an object",
    )
    assert broken["result_flag"].startswith("lossy: ")
