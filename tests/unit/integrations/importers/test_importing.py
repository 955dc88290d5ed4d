from __future__ import annotations

import copy
import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightlog.analysis.db import Traces
from flightlog.errors import FlightlogError, RecorderError, TraceFormatError, UnknownNameError
from flightlog.integrations.importers.importing import (
    READERS,
    import_file,
    import_files,
    likely_format,
)
from flightlog.integrations.importers.known import stored_run_ids
from flightlog.recorder.recorder import Recorder
from flightlog.trace.events import Event, RunStarted, RunStopped
from flightlog.trace.messages import Message
from flightlog.trace.sink import MemorySink, NullSink
from tests.unit.integrations.importers.made_files import MADE

FORMATS = tuple(READERS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def files(
    tau_bench_results: Any,
    tau2_simulations: Any,
    run_rows: Any,
    otlp_request: Any,
    write_json: Any,
    write_lines: Any,
) -> dict[str, Path]:
    """One good file per format."""
    return {
        "tau-bench": write_json(tau_bench_results, "gpt-4o-airline.json"),
        "tau2": write_json(tau2_simulations, "telecom.json"),
        "run-lines": write_lines(run_rows),
        "otlp": write_json(otlp_request, "spans.json"),
        **{name: write_json(make(), f"{name}.json") for name, make in MADE.items()},
    }


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(".")  # the locks of readers
    }


@pytest.mark.parametrize("name", FORMATS)
def test_imported_runs_are_in_the_store(files: Any, tmp_path: Path, name: str) -> None:
    [report] = import_files(name, [files[name]], tmp_path / "store")
    with Traces(tmp_path / "store") as traces:
        rows = traces.rows("SELECT origin, status FROM runs")
    assert len(rows) == report.runs == 2
    assert {row["origin"] for row in rows} == {"imported"}
    assert {row["status"] for row in rows}.isdisjoint({"running"})


@pytest.mark.parametrize("name", FORMATS)
def test_text_that_is_no_unicode_is_kept_as_far_as_it_goes(
    files: Any, tmp_path: Path, name: str
) -> None:
    text = files[name].read_text(encoding="utf-8")
    for word in ("R1", "ann_1", "13", "sim-1", "L1", "elsewhere", "shoes", "t1", "c1", "model-a"):
        text = text.replace(f'{word}"', f'{word}\\ud83d"').replace(
            f'{word}\\"', f'{word}\\ud83d\\"'
        )
    files[name].write_text(text, encoding="utf-8")
    [report] = import_files(name, [files[name]], tmp_path / "store")
    assert report.runs == 2
    with Traces(tmp_path / "store") as traces:
        assert traces.problems == ()
        [row] = traces.rows("SELECT count(*) AS events FROM events")
    assert row["events"] == report.events


@pytest.mark.parametrize("name", FORMATS)
def test_gzipped_file_is_the_same_file(files: Any, imported: Any, name: str) -> None:
    plain = imported(name, files[name])
    # The file name is part of what some formats say, so it stays.
    files[name].write_bytes(gzip.compress(files[name].read_bytes()))
    packed = imported(name, files[name])
    assert packed.sink.events == plain.sink.events
    assert packed.report == plain.report


@pytest.mark.parametrize("name", FORMATS)
def test_importing_twice_duplicates_nothing(files: Any, tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    [first] = import_files(name, [files[name]], store)
    [second] = import_files(name, [files[name]], store)
    assert (first.runs, second.runs, second.events) == (2, 0, 0)
    [skipped] = second.skipped
    assert (skipped.why, skipped.runs) == ("already imported", 2)
    assert str(files[name]) in skipped.where
    with Traces(store) as traces:
        assert traces.rows("SELECT count(*) AS n FROM events") == [{"n": first.events}]


def test_importing_twice_with_one_recorder_duplicates_nothing(files: Any, tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        assert import_file("run-lines", files["run-lines"], recorder).runs == 2
        assert import_file("run-lines", files["run-lines"], recorder).runs == 0


def test_known_runs_are_taken_from_the_caller(files: Any) -> None:
    sink = MemorySink()
    import_file("run-lines", files["run-lines"], sink)
    known = {sink.events[0].run_id}
    assert import_file("run-lines", files["run-lines"], NullSink(), known_run_ids=known).runs == 1


def test_run_that_a_file_holds_twice_is_written_once(
    run_rows: Any, write_lines: Any, imported: Any
) -> None:
    found = imported("run-lines", write_lines([*run_rows, run_rows[0]]))
    assert found.report.runs == 2
    [skipped] = found.report.skipped
    assert skipped.why == "same id as an earlier run of the file"
    assert skipped.where.endswith(":3")


def test_stored_run_ids_are_those_of_all_runs(files: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Recorder(store) as recorder:
        recorder.emit(RunStarted(run_id="live", seq=0))
        import_file("tau2", files["tau2"], recorder)
        assert len(stored_run_ids(store)) == 3
    assert len(stored_run_ids(store)) == 3
    assert "live" in stored_run_ids(store)


def test_options_replace_what_the_file_says(files: Any, imported: Any) -> None:
    found = imported(
        "tau2", files["tau2"], suite="mine", variant="baseline", labels={"seed": "9", "a": "b"}
    )
    [start] = found.of(RunStarted)
    assert (start.suite, start.variant) == ("mine", "baseline")
    labels = {label.key: label.value for label in start.labels}
    assert (labels["seed"], labels["a"], labels["git_commit"]) == ("9", "b", "abc")


def test_progress_is_told(files: Any) -> None:
    told: list[tuple[int, int]] = []
    import_file(
        "run-lines",
        files["run-lines"],
        NullSink(),
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 2)]


def test_report_says_everything_in_lines(run_rows: Any, write_lines: Any, imported: Any) -> None:
    lines = imported("run-lines", write_lines([*run_rows, run_rows[0]])).report.lines()
    assert lines[0].endswith("runs.jsonl: 2 runs, 11 events")
    assert any("skipped 1 runs: same id" in line for line in lines)
    assert "  unknown model_call.cost_usd: 2 rows, 1 of them 0 in the source" in lines


def test_unknown_format_names_the_nearest(files: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown trace format 'tau_bench'\n  nearest: tau"):
        import_file("tau_bench", files["tau-bench"], NullSink())


@pytest.mark.parametrize("right", FORMATS)
@pytest.mark.parametrize("wrong", FORMATS)
def test_file_of_another_format_is_named(files: Any, right: str, wrong: str) -> None:
    assert likely_format(files[right]) == right
    if right == wrong:
        return
    with pytest.raises(TraceFormatError, match=f"The file looks like {right}"):
        import_file(wrong, files[right], NullSink())


def _nothing(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _blank(path: Path) -> None:
    path.write_bytes(b" \n\n")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _cut_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes())[:-12])


def _damaged_gzip(path: Path) -> None:
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(bytes(packed))


def _binary(path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe PAR1" * 9)


def _other_json(path: Path) -> None:
    path.write_text('{"hello": "world"}\n', encoding="utf-8")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_nothing, "no such file"),
        (_empty, "the file is empty"),
        (_blank, "the file is empty"),
        (_directory, "is a directory"),
        (_cut, "the JSON ends too early"),
        (_cut_gzip, "the gzip data is damaged or ends too early"),
        # The checksum comes last, so a line may already make no sense before it.
        (_damaged_gzip, "the gzip data is damaged or ends too early|not JSON"),
        (_binary, "not JSON"),
        (_other_json, "not the shape of this format"),
        (_pipe, "is not a regular file"),
    ],
)
def test_bad_file_leaves_the_store_as_it_was(
    files: Any, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    store, good = tmp_path / "store", tmp_path / "good.jsonl"
    good.write_bytes(files["run-lines"].read_bytes())
    import_files("run-lines", [good], store)
    before = _tree(store)
    damage(files[name])
    with pytest.raises(TraceFormatError, match=message) as caught:
        import_files(name, [files[name]], store)
    assert caught.value.where.startswith(str(files[name]))
    assert caught.value.hint
    assert _tree(store) == before


def test_bad_file_makes_no_store(files: Any, tmp_path: Path) -> None:
    _cut(files["tau2"])
    with pytest.raises(TraceFormatError):
        import_files("tau2", [files["tau2"]], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_one_bad_file_among_good_ones_stops_them_all(
    files: Any, run_rows: Any, write_lines: Any, tmp_path: Path
) -> None:
    bad = write_lines([run_rows[0], {"source": 1}], "bad.jsonl")
    with pytest.raises(TraceFormatError, match=r"bad\.jsonl:2"):
        import_files("run-lines", [files["run-lines"], bad], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_run_in_two_files_is_written_once(
    files: Any, run_rows: Any, write_lines: Any, tmp_path: Path
) -> None:
    other = write_lines(run_rows[:1], "other.jsonl")
    reports = import_files("run-lines", [files["run-lines"], other], tmp_path / "store")
    assert [report.runs for report in reports] == [2, 0]
    assert reports[1].skipped[0].why == "already imported"


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        '{"info": {"agent_info": {}, "user_info": {}, "environment_info": {}}, "simulations": []}',
    ],
)
def test_file_without_runs_is_refused(tmp_path: Path, document: str) -> None:
    path = tmp_path / "none.json"
    path.write_text(document, encoding="utf-8")
    with pytest.raises(TraceFormatError, match="the file holds no runs"):
        import_file("tau-bench" if document == "[]" else "tau2", path, NullSink())


class _FullSink:
    """Takes so many events and then no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        self.room -= 1
        return self.room >= 0


def test_store_that_takes_no_more_stops_the_import(files: Any) -> None:
    with pytest.raises(RecorderError, match="took no more after 1 whole runs"):
        import_file("run-lines", files["run-lines"], _FullSink(8))


class _DurableSink(MemorySink):
    """Remembers which events were to be durable."""

    def __init__(self) -> None:
        super().__init__()
        self.durable: list[Event] = []

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        if durable:
            self.durable.append(event)
        return super().emit(event, messages=messages, durable=durable)


def test_only_the_end_of_an_import_is_synced(files: Any) -> None:
    # One sync per run would make a large import wait for the disk.
    sink = _DurableSink()
    import_file("run-lines", files["run-lines"], sink)
    [stop] = sink.durable
    assert isinstance(stop, RunStopped)
    assert stop.run_id == sink.events[-1].run_id


@given(value=JSON, name=st.sampled_from(FORMATS))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_imported_or_refused(tmp_path: Path, value: Any, name: str) -> None:
    path = tmp_path / "any.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    _import_or_refuse(name, path)


@given(data=st.data(), name=st.sampled_from(FORMATS), value=JSON)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_change_to_a_good_file_is_imported_or_refused(
    files: Any, tmp_path: Path, data: st.DataObject, name: str, value: Any
) -> None:
    text = files[name].read_text(encoding="utf-8")
    document = (
        [json.loads(line) for line in text.splitlines()]
        if name == "run-lines"
        else (json.loads(text))
    )
    changed = copy.deepcopy(document)
    places = list(_places(changed))
    container, key = data.draw(st.sampled_from(places))
    container[key] = value
    path = tmp_path / f"changed-{name}.json"
    rows = changed if name == "run-lines" and isinstance(changed, list) else [changed]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    _import_or_refuse(name, path)


def _places(value: Any) -> Any:
    items: Any = ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _import_or_refuse(name: str, path: Path) -> None:
    """Either every run is whole, or the file is refused and nothing is written."""
    sink = MemorySink()
    refusal: FlightlogError | None = None
    try:
        report = import_file(name, path, sink)
    except FlightlogError as error:
        refusal = error
    if refusal is not None:
        assert sink.events == []
        assert refusal.where
        assert refusal.hint
        return
    kinds = [type(event) for event in sink.events]
    assert kinds.count(RunStarted) == kinds.count(RunStopped) == report.runs
    assert len(kinds) == report.events


@pytest.mark.parametrize("name", FORMATS)
def test_file_cut_anywhere_is_never_imported_in_part(files: Any, tmp_path: Path, name: str) -> None:
    whole = files[name].read_bytes()
    line_ends = {ix for ix, byte in enumerate(whole) if byte == ord("\n")}
    path = tmp_path / "cut.json"
    for size in range(0, len(whole) - 1, 37):
        # A file of lines that ends after a line is a whole, shorter file.
        if name == "run-lines" and line_ends & {size, size - 1}:
            continue
        path.write_bytes(whole[:size])
        sink = MemorySink()
        with pytest.raises(TraceFormatError):
            import_file(name, path, sink)
        assert sink.events == []
