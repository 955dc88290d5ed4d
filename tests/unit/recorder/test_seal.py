"""Sealing: the same rows before and after, whenever and however often it happens."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightlog.recorder.frames import FILE_MAGIC, pack
from flightlog.recorder.journal import Header
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import SealReport, seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import (
    EVENT_TYPES,
    Evaluation,
    Event,
    ModelCall,
    RunStarted,
    RunStopped,
    ToolCall,
    encode_event,
)
from flightlog.trace.messages import Message
from flightlog.trace.schema import columns, events_schema, messages_schema
from flightlog.trace.vocab import Actor, Outcome
from tests.torture.size import sized

Call = Callable[..., ToolCall]
ignore_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


_numbers = itertools.count()


def all_events(store: Store) -> pa.Table:
    snap = store.snapshot()
    names = events_schema().names
    sealed = [
        pq.ParquetFile(path).read(columns=names).cast(events_schema()) for path in snap.event_files
    ]
    return pa.concat_tables([*sealed, snap.unsealed_events])


def all_messages(store: Store) -> list[dict[str, Any]]:
    snap = store.snapshot()
    sealed = [pq.ParquetFile(path).read().cast(messages_schema()) for path in snap.message_files]
    return list(pa.concat_tables([*sealed, snap.unsealed_messages]).to_pylist())


def write_journal(path: Path, events: list[Event], *, version: int = 1, messages: int = 0) -> Path:
    """A dead journal in a store, byte by byte; its path."""
    store = Store.create(path)
    journal_id = f"01936f2a-0000-7000-8000-{next(_numbers):012d}"
    header = pack(1, 0, msgspec.json.encode(Header(format=version)))
    frames = [pack(2, number, encode_event(event)) for number, event in enumerate(events, 1)]
    for number in range(messages):
        body = f'{{"digest":"{journal_id}-{number}","role":"user"}}'.encode()
        frames.append(pack(3, len(frames) + 1, body))
    target = store.layout.journal_file(journal_id)
    target.write_bytes(FILE_MAGIC + header + b"".join(frames))
    return target


texts = st.text(st.characters(codec="utf-8"), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(-(2**63), 2**63 - 1)


def _values(arrow: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_string(arrow):
        return texts
    return {pa.int64(): counts, pa.float64(): numbers, pa.bool_(): st.booleans()}[arrow]


_NOT_DRAWN = frozenset(
    {"kind", "at", "labels", "prompt_added", "run_id", "capture", "redaction_policy"}
)


@st.composite
def any_event(draw: st.DrawFn) -> Event:
    event_type = draw(st.sampled_from(EVENT_TYPES))
    kind = str(event_type.__struct_config__.tag)
    plain = [c for c in columns() if kind in c.kinds and c.name not in _NOT_DRAWN]
    chosen = draw(st.lists(st.sampled_from(plain), unique_by=lambda c: c.name, max_size=8))
    fields = {c.name: draw(_values(c.arrow)) for c in chosen}
    if "result_blob" in fields:  # a name that is no digest is left out
        fields["result_blob"] = draw(st.sampled_from(["0" * 32, "0123456789abcdef" * 2]))
    fields.setdefault("seq", draw(st.integers(0, 2**62)))
    if draw(st.booleans()):
        fields["at"] = draw(st.integers(0, 2**50))
    return event_type(run_id=draw(texts), **fields)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=st.lists(any_event(), min_size=1, max_size=6))
def test_any_event_reads_back_equal_unsealed_and_sealed(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("any") / "store"
    with Recorder(path, seal_on_close=False) as recorder:
        for event in events:
            assert recorder.emit(event)
    store = Store.open(path)
    before = all_events(store)
    for event, row in zip(events, before.to_pylist(), strict=False):
        assert row["kind"] == event.__struct_config__.tag
        for name in event.__struct_fields__:
            value, found = getattr(event, name), row[name]
            if name == "at":
                assert (found is None) == (value is None)
            elif name in ("labels", "prompt_added"):
                assert found is None
            elif name in ("capture", "redaction_policy") and value is None:
                assert found is not None  # the recorder says what it left out
            else:
                assert found == value, name
    report = seal_store(store)
    assert report.problems == ()
    assert all_events(store).equals(before)


def test_times_and_labels_and_lists_keep_their_values(store_path: Path) -> None:
    with Recorder(store_path) as recorder:
        recorder.emit(RunStarted(run_id="a", seq=0, at=1_735_689_600_123_456))
        recorder.emit(RunStopped(run_id="a", seq=1))
    column = all_events(Store.open(store_path)).column("at")
    assert column.cast(pa.int64()).to_pylist() == [1_735_689_600_123_456, None]


def test_sealing_twice_changes_nothing(store_path: Path, call: Call) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(0), messages=[Message("user", "hi")])
    store = Store.open(store_path)
    report = seal_store(store)
    assert (report.sealed_journals, report.events, report.messages) == (1, 2, 1)
    files = {path: path.stat().st_mtime_ns for path in store_path.rglob("*") if path.is_file()}
    assert seal_store(store) == SealReport(0, 0, 0, ())
    assert files == {p: p.stat().st_mtime_ns for p in store_path.rglob("*") if p.is_file()}


def test_journal_of_a_living_writer_is_left_alone(store_path: Path, call: Call) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(0))
        store = Store.open(store_path)
        assert seal_store(store).sealed_journals == 0
        assert [r["kind"] for r in all_events(store).to_pylist()] == ["tool_call"]


def test_run_of_a_dead_process_ends_as_crashed(store_path: Path, call: Call) -> None:
    start = RunStarted(run_id="run", seq=0, at=5, elapsed_ms=0.0, max_steps=9, max_usd=0.5)
    last = call(1, at=7_000_000, elapsed_ms=12.5)
    write_journal(store_path, [start, last])
    store = Store.open(store_path)
    unsealed = all_events(store)
    end = unsealed.to_pylist()[-1]
    assert (end["kind"], end["run_id"], end["seq"]) == ("run_stopped", "run", 2)
    assert (end["status"], end["stop_reason"], end["elapsed_ms"]) == ("failed", "crashed", 12.5)
    assert end["at"] == unsealed.to_pylist()[1]["at"]
    assert (end["max_steps"], end["max_usd"], end["used_steps"]) == (9, 0.5, None)
    seal_store(store)
    assert all_events(store).equals(unsealed)


def spent(store: Store) -> tuple[object, ...]:
    end = all_events(store).to_pylist()[-1]
    assert end["stop_reason"] == "crashed"
    names = ("used_steps", "used_seconds", "used_tool_calls", "used_usd", "used_tokens")
    return tuple(end[name] for name in names)


def test_crashed_run_has_spent_what_its_events_tell(store_path: Path, call: Call) -> None:
    def model(seq: int, **fields: object) -> ModelCall:
        told = {"input_tokens": 100, "output_tokens": 10, "cost_usd": 0.25, "step": seq}
        return ModelCall(run_id="run", seq=seq, **{**told, **fields})  # type: ignore[arg-type]

    write_journal(
        store_path,
        [
            RunStarted(run_id="run", seq=0, elapsed_ms=0.0),
            model(1),
            call(2, step=1, outcome=Outcome.FAILED, cost_usd=0.5),
            call(3, step=1, attempt=2),
            call(4, step=1, outcome=Outcome.DENIED),
            call(5, step=1, outcome=Outcome.BUDGET),
            model(6, step=2, outcome=Outcome.FAILED, cost_usd=None, input_tokens=None),
            model(7, step=3, actor=Actor.USER, cost_usd=9.0),
            call(8, step=2, elapsed_ms=2500.0),
        ],
    )
    assert spent(Store.open(store_path)) == (2, 2.5, 3, 0.75, 110)


def test_unknown_spending_of_a_crashed_run_stays_unknown(store_path: Path) -> None:
    unpriced = ModelCall(run_id="run", seq=1, step=1, input_tokens=5)
    priced = ModelCall(run_id="run", seq=2, step=2, input_tokens=5, output_tokens=1, cost_usd=0.1)
    write_journal(store_path, [RunStarted(run_id="run", seq=0), unpriced, priced])
    assert spent(Store.open(store_path)) == (2, None, 0, None, None)


def test_stopped_run_and_later_judgement_get_no_crash(store_path: Path) -> None:
    write_journal(store_path, [RunStarted(run_id="a", seq=0), RunStopped(run_id="a", seq=1)])
    write_journal(store_path, [Evaluation(run_id="a", seq=2, passed=True)])
    store = Store.open(store_path)
    before = all_events(store)
    assert before.column("kind").to_pylist() == ["run_started", "run_stopped", "evaluation"]
    seal_store(store)
    assert all_events(store).equals(before)


@pytest.mark.parametrize("seal_between", [False, True])
@pytest.mark.parametrize("ends_first", [False, True])
def test_run_that_goes_on_in_another_journal_crashes_only_where_it_ends(
    store_path: Path, call: Call, seal_between: bool, ends_first: bool
) -> None:
    first: list[Event] = [RunStarted(run_id="run", seq=0)]
    second: list[Event] = [call(1), RunStopped(run_id="run", seq=2)]
    store = Store.create(store_path)
    for events in (second, first) if ends_first else (first, second):
        write_journal(store_path, events)
        if seal_between and ends_first:
            seal_store(store)
    unsealed = all_events(store)
    seal_store(store)
    for table in (unsealed, all_events(store)):
        kinds = sorted(table.column("kind").to_pylist())
        assert kinds == ["run_started", "run_stopped", "tool_call"]


@pytest.mark.parametrize("batch_bytes", [1, 300, 1 << 20])
def test_size_of_batches_does_not_change_the_rows(
    store_path: Path, call: Call, batch_bytes: int
) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(RunStarted(run_id="run", seq=0, agent="a", max_tokens=7))
        for seq in range(1, 20):
            recorder.emit(call(seq), messages=[Message("user", f"m{seq // 2}")])
    store = Store.open(store_path)
    events, messages = all_events(store), all_messages(store)
    seal_store(store, batch_bytes=batch_bytes)
    assert all_events(store).equals(events)
    assert all_messages(store) == messages
    assert len(messages) == 10


def test_damaged_part_is_put_aside_and_all_else_kept(store_path: Path, call: Call) -> None:
    journal = write_journal(store_path, [call(0), call(1), call(2)])
    content = bytearray(journal.read_bytes())
    position = content.index(b'"seq":1')
    content[position] ^= 1
    journal.write_bytes(content + b"\xf7\xffFL\x02")
    store = Store.open(store_path)
    report = seal_store(store)
    assert ["1 records are lost" in p.what for p in report.problems] == [True, False]
    assert all_events(store).column("seq").to_pylist()[:2] == [0, 2]
    kept = sorted(path.name for path in (store_path / "quarantine").iterdir())
    assert [name.rpartition(".")[2] for name in kept] == ["damaged", "torn"]
    # A torn record was never acknowledged: it does not trouble readers for ever.
    assert [p.path.suffix for p in store.snapshot().problems] == [".damaged"]
    assert not verify_store(store).ok


@pytest.mark.parametrize(
    "content", [b"", b"\xffFLJ", FILE_MAGIC, b"not a journal at all", b"\0" * 5000]
)
def test_journal_without_records_is_cleared_away(store_path: Path, content: bytes) -> None:
    store = Store.create(store_path)
    store.layout.journal_file("01936f2a-0000-7000-8000-000000000000").write_bytes(content)
    assert store.snapshot().unsealed_events.num_rows == 0
    seal_store(store)
    assert store.layout.journal_files() == []
    assert store.snapshot().event_files == ()


def test_damaged_header_costs_no_rows(store_path: Path, call: Call) -> None:
    journal = write_journal(store_path, [call(0), call(1)])
    content = bytearray(journal.read_bytes())
    content[2] ^= 0xFF
    content[20] ^= 0xFF
    journal.write_bytes(content)
    store = Store.open(store_path)
    seal_store(store)
    assert all_events(store).column("seq").to_pylist()[:2] == [0, 1]


def test_journal_of_a_newer_format_is_left_alone(store_path: Path, call: Call) -> None:
    newer = write_journal(store_path, [call(0)], version=3)
    write_journal(store_path, [call(0)])
    report = seal_store(Store.open(store_path))
    assert report.sealed_journals == 1
    assert ["format 3 is newer" in p.what for p in report.problems] == [True]
    assert newer.exists()


@ignore_fork_warning
def test_sealing_killed_at_any_step_is_done_again_without_a_trace(
    tmp_path: Path, call: Call
) -> None:
    """The child dies at its n-th file operation, until it gets through; full: for every n."""
    results, step = [], 0
    while not results or results[-1] != 0:
        path = tmp_path / f"store-{step}"
        write_journal(path, [RunStarted(run_id="run", seq=0), call(1)], messages=2)
        write_journal(path, [RunStopped(run_id="other", seq=1)], messages=1)
        store = Store.open(path)
        before = all_events(store)
        results.append(_seal_and_die(path, step))
        assert results[-1] in (0, -signal.SIGKILL)
        assert _rows(all_events(store)) == _rows(before), step
        assert len(all_messages(store)) == 3, step
        seal_store(store)
        assert _rows(all_events(store)) == _rows(before), step
        assert len(all_messages(store)) == 3, step
        assert store.layout.journal_files() == []
        assert verify_store(store).ok
        step += sized(3, 1)
    assert step > 20


def _rows(table: pa.Table) -> list[str]:
    return sorted(map(str, table.to_pylist()))


def _seal_and_die(path: Path, step: int) -> int:
    child = os.fork()
    if child == 0:
        count = 0

        def hook(name: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if name in ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock"):
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            store = Store.open(path)
            sys.addaudithook(hook)
            seal_store(store)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
