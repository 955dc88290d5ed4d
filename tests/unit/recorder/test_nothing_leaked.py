"""24 planted secrets in every text of every event, and none in any byte of the store."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from flightlog.control.approval import WriteRequest
from flightlog.control.kill_switch import KillMode
from flightlog.recorder.disk import Disk
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.redact.policy import Capture, Redaction
from flightlog.replay.recordings import read_recordings
from flightlog.trace.canonical import canonical_args
from flightlog.trace.events import (
    EVENT_TYPES,
    Event,
    Gap,
    Label,
    ModelCall,
    RunStarted,
    RunStopped,
    ToolCall,
)
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Effect, StopReason
from tests.unit.redact.canaries import CANARIES, ENVIRON, EVERYTHING, VALUES, found_in

POLICY = Redaction(emails=True, phones=True, values=VALUES, env=tuple(ENVIRON)[:1])
CONTENT_IN_FULL = Redaction(capture=Capture.FULL)
LONG = "x" * 20_000


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


def text_columns(kind: type[Event]) -> list[str]:
    return [
        one.name
        for one in msgspec.structs.fields(kind)
        if one.name != "withheld" and takes_text(kind, one.name)
    ]


def takes_text(kind: type[Event], name: str) -> bool:
    raw: dict[str, Any] = {"kind": kind.__struct_config__.tag, "run_id": "r", "seq": 1}
    try:
        msgspec.convert(raw | {name: EVERYTHING}, kind)
    except msgspec.ValidationError:
        return False
    return True


def planted_events() -> Iterator[tuple[Event, list[Message]]]:
    """Every kind, with all secrets in every text column at once and each of them alone."""
    message = Message(
        EVERYTHING,
        EVERYTHING,
        (ToolRequest(EVERYTHING, EVERYTHING, EVERYTHING),),
        EVERYTHING,
        EVERYTHING,
    )
    long_message = Message("user", LONG + EVERYTHING)
    labels = (Label(EVERYTHING, EVERYTHING), Label("api_key", CANARIES[17].secret))
    for kind in EVENT_TYPES:
        alone = CANARIES if kind in (ToolCall, RunStarted) else ()
        for number, text in enumerate((EVERYTHING, *(one.planted for one in alone))):
            fields: dict[str, Any] = dict.fromkeys(text_columns(kind), text)
            if "labels" in kind.__struct_fields__:
                fields["labels"] = labels
            if "prompt_added" in kind.__struct_fields__:
                fields |= {"prompt_added": (message.digest,), "output_digest": message.digest}
            yield kind(**{"seq": number, **fields}), [message, long_message]
    yield ToolCall(run_id="long", seq=1, result=LONG + EVERYTHING), []
    yield ToolCall(run_id="odd", seq=2, args={"deep": [EVERYTHING]}, result=b"bytes"), []  # type: ignore[arg-type]
    yield ModelCall(run_id="misfit", seq=1, input_tokens=2**70, error=EVERYTHING), []


def contents(store: Path) -> Iterator[tuple[str, bytes]]:
    """Every file as it is; Parquet and SQLite also by what they hold."""
    for path in sorted(store.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(store))
        yield name, name.encode() + b"\n" + path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path, partitioning=None)
            yield f"columns of {name}", repr(table.to_pylist()).encode()
            yield f"texts of {name}", texts_of(table.to_pylist())
        if path.suffix == ".sqlite":
            with contextlib.closing(sqlite3.connect(path)) as db:
                yield f"rows of {name}", "\n".join(db.iterdump()).encode()


def texts_of(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(str(value) for row in rows for value in row.values()).encode()


def leaks(store: Path) -> dict[str, list[str]]:
    return {name: found for name, content in contents(store) if (found := found_in(content))}


def record_everything(recorder: Recorder) -> None:
    for event, messages in planted_events():
        assert recorder.emit(event, messages=messages, durable=isinstance(event, RunStopped))


def share_everything(recorder: Recorder) -> None:
    """The kill switch, and a write that waits for a person."""
    control = recorder.control
    for one in CANARIES:
        control.kill_switch.turn_on(
            KillMode.DISABLE_WRITES,
            tenant=one.name,
            who=one.planted,
            why=one.planted,
            at_us=1_000_000,
        )
    args = {one.name: one.planted for one in CANARIES} | {"password": CANARIES[17].secret}
    write = WriteRequest.of(
        "pay", args, effect=Effect.WRITE, run_id="run", step=1, agent=EVERYTHING, tenant=EVERYTHING
    )
    asked = control.approvals.ask(write, time.time(), valid_s=60)
    control.approvals.decide(
        asked.id, is_approved=True, who=EVERYTHING, why=EVERYTHING, now_s=time.time()
    )
    assert control.approvals.collect(asked.id, write, time.time()) == "approved"


def test_the_search_finds_every_secret_where_nothing_is_taken_out(store_path: Path) -> None:
    with Recorder(store_path, redaction=CONTENT_IN_FULL) as recorder:
        record_everything(recorder)
    found = {name for names in leaks(store_path).values() for name in names}
    assert found == {one.name for one in CANARIES}


def test_no_secret_is_in_any_byte_of_the_journal(store_path: Path) -> None:
    with Recorder(store_path, redaction=POLICY, seal_on_close=False) as recorder:
        record_everything(recorder)
        share_everything(recorder)
        assert leaks(store_path) == {}  # with the WAL of the shared state open
        assert recorder._redacting is not None
        assert recorder._redacting.withheld_texts == 0


def test_no_secret_is_in_any_byte_of_the_sealed_store(store_path: Path) -> None:
    with Recorder(store_path, redaction=POLICY, seal_on_close=False) as recorder:
        record_everything(recorder)
        share_everything(recorder)
    seal_store(Store.open(store_path))
    assert list(store_path.glob("events/**/*.parquet"))
    assert list(store_path.glob("blobs/*/*"))
    assert list(store_path.glob("quarantine/*"))
    assert leaks(store_path) == {}
    recordings = read_recordings(Store.open(store_path))
    assert found_in(repr([(r.events, r.messages) for r in recordings]).encode()) == []


def test_metadata_alone_holds_no_secret_and_no_text(store_path: Path) -> None:
    policy = Redaction(capture=Capture.METADATA, emails=True, values=VALUES)
    with Recorder(store_path, redaction=policy) as recorder:
        record_everything(recorder)
    assert leaks(store_path) == {}
    assert not list(store_path.glob("blobs/*/*"))
    for recording in read_recordings(Store.open(store_path)):
        assert recording.messages == {}
        for event in recording.events:
            if getattr(event, "stop_reason", None) is StopReason.CRASHED:
                continue  # written by the sealer for a run without an end
            assert event.withheld == "metadata"
            assert getattr(event, "args", None) is None
            assert getattr(event, "result", None) is None


class FullDisk(Disk):
    """A disk that has no room while it is told so, and says so with secrets in the text."""

    is_full = False

    def write(self, descriptor: int, content: bytes) -> int:
        if self.is_full:
            raise OSError(28, EVERYTHING)
        return super().write(descriptor, content)


def test_a_gap_tells_why_without_the_secret(store_path: Path) -> None:
    disk = FullDisk()
    with Recorder(store_path, redaction=POLICY, disk=disk) as recorder:
        disk.is_full = True
        assert not recorder.emit(ToolCall(run_id="run", seq=1, args="{}"))
        disk.is_full = False
        assert found_in((recorder.last_error or "").encode()) == []
        assert recorder.emit(ToolCall(run_id="run", seq=2, args="{}"))
    gaps = [
        event
        for recording in read_recordings(Store.open(store_path), [""])
        for event in recording.events
    ]
    assert [event.dropped_events for event in gaps if isinstance(event, Gap)] == [1]
    assert leaks(store_path) == {}


def test_digests_of_arguments_are_those_of_what_is_recorded(store_path: Path) -> None:
    args = canonical_args({"card": "4539578763621486", "amount": 5})
    with Recorder(store_path, redaction=POLICY) as recorder:
        recorder.emit(
            ToolCall(
                run_id="run",
                seq=1,
                args=args.text,
                args_digest=args.digest,
                idempotency_key="0" * 32,
            )
        )
    [recording] = read_recordings(Store.open(store_path))
    [call] = recording.tool_calls
    assert call.redacted == 1
    assert call.args_digest == canonical_args(call.args or "").digest != args.digest
    assert call.idempotency_key not in (None, "0" * 32)
