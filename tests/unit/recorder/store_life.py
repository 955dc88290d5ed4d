"""Stores with the runs of several people, and what must hold of them whatever is removed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flightlog.recorder.audit import audit_store
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.life.dropped import heads_of
from flightlog.recorder.manifest import store_state
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.segment_rows import row_pieces
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.events import EVENT_TYPES, Event, Label, RunStarted, RunStopped
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import events_schema, messages_schema

FILE_OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock")
SYSTEM = Message("system", "You are a shop.")


def canary(who: str, place: str) -> str:
    """A text of one person that stands nowhere else."""
    return f"canary-{who}-{place}"


def write_run(recorder: Recorder, run_id: str, who: str, *, long: bool = False) -> None:
    """A run of one person with short texts, and with a long observation and a long message."""
    size = 2_000 if long else 1
    writer = RunWriter.with_system_clock(recorder, run_id)
    task = Message("task", canary(who, "task"))
    asked = Message("user", canary(who, f"asks-{run_id}") * size)
    writer.started(
        messages=[SYSTEM, task],
        data_subject=f"canary-{who}",
        agent="shop",
        task_digest=task.digest,
        system_digest=SYSTEM.digest,
        labels=(Label("who", canary(who, "label")),),
    )
    told = Message("assistant", canary(who, "is-told"))
    writer.model_call(prompt=[SYSTEM, asked], output=told, input_tokens=7, cost_usd=0.5)
    writer.tool_call(
        tool_name="refund",
        args={"order": canary(who, "order")},
        result=canary(who, "result") * size,
    )
    writer.stopped(stop_reason="ok", answer=canary(who, "answer"))


def write_store(path: Path, *, journals: int = 4, runs: int = 3, long: bool = True) -> Store:
    """Sealed journals with runs of alice and bob by turns; ids are <journal>-<run>-<who>."""
    for journal in range(journals):
        with Recorder(path) as recorder:
            for number in range(runs):
                who = ("alice", "bob")[(journal + number) % 2]
                write_run(recorder, f"{journal}-{number}-{who}", who, long=long and number < 2)
    return Store.open(path)


def every_kind(run_id: str, who: str, kept: Callable[[str], bool]) -> list[Event]:
    """One event of each kind, with a text of the person in each column but the kept ones."""
    events = []
    for seq, event_type in enumerate(EVENT_TYPES):
        fields: dict[str, Any] = {"run_id": run_id, "seq": seq, "at": 1_000_000 + seq}
        schema = events_schema()
        for name in event_type.__struct_fields__:
            column = schema.field(name).type
            text = canary(who, name)
            if name in fields or kept(name):
                continue
            if pa.types.is_string(column):
                fields[name] = text
            elif pa.types.is_map(column):
                fields[name] = (Label(text, text),)
            elif pa.types.is_list(column):
                fields[name] = (text,)
            elif pa.types.is_int64(column):
                fields[name] = 11
            elif pa.types.is_float64(column):
                fields[name] = 1.5
        if event_type is RunStarted:
            fields["data_subject"] = f"canary-{who}"
        events.append(event_type(**fields))
    assert any(isinstance(event, RunStopped) for event in events)
    return events


def all_events(store: Store) -> pa.Table:
    """All events of a store, in no certain order."""
    snap, schema = store.snapshot(), events_schema()
    pieces = [
        piece
        for path in snap.event_files
        for piece in row_pieces(store.layout, path, segment_schema(), columns=schema.names)
    ]
    return pa.concat_tables([piece.cast(schema) for piece in (*pieces, snap.unsealed_events)])


def all_messages(store: Store) -> list[dict[str, Any]]:
    """All messages of a store."""
    snap, schema = store.snapshot(), messages_schema()
    pieces = [
        piece for path in snap.message_files for piece in row_pieces(store.layout, path, schema)
    ]
    rows: list[dict[str, Any]] = pa.concat_tables([*pieces, snap.unsealed_messages]).to_pylist()
    return rows


def texts_of(rows: pa.Table) -> list[str]:
    """Rows as texts that can be compared, in order."""
    return sorted(map(str, rows.to_pylist()))


def events_of(store: Store, who: str) -> list[str]:
    """The events of one person's runs."""
    rows = all_events(store)
    wanted = [run_id.endswith(f"-{who}") for run_id in rows.column("run_id").to_pylist()]
    return texts_of(rows.filter(pa.array(wanted, pa.bool_())))


def check_sound(store: Store) -> None:
    """Every event once, all bytes as written, every chain as it was when it was sealed."""
    rows = all_events(store).select(["run_id", "seq", "kind"]).to_pylist()
    count = Counter((row["run_id"], row["seq"], row["kind"]) for row in rows)
    assert set(count.values()) <= {1}, [key for key, times in count.items() if times > 1]
    report = verify_store(store)
    assert report.ok, report.problems
    assert audit_store(store).problems == ()
    for entry in store_state(store.layout).live.values():
        assert not entry.parts or sum(part.rows for part in entry.parts) == entry.rows
        if entry.path.startswith("events/"):
            assert heads_of(store.layout, entry) == [part.head for part in entry.parts]


def check_has_all_it_names(store: Store, *, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Every message and blob that a row names is there."""
    rows, messages = all_events(store), all_messages(store)
    digests = {row["digest"] for row in messages}
    for name in ("prompt_added", "output_digest", "system_digest", "task_digest"):
        for value in rows.column(name).to_pylist():
            wanted = set(value or []) if isinstance(value, list) else {value} - {None}
            assert wanted - but <= digests, (name, wanted - digests)
    blobs = {*rows.column("result_blob").to_pylist(), *(row["text_blob"] for row in messages)}
    for blob in blobs - {None}:
        assert store.blob(blob)


def everything_in(path: Path) -> bytes:
    """All bytes below a folder, those of Parquet and SQLite files also as their values."""
    found = []
    for file in sorted(path.rglob("*")):
        if not file.is_file():
            continue
        found += [str(file).encode(), file.read_bytes()]
        if file.suffix in (".parquet", ".dropped") or ".parquet." in file.name:
            table = pq.ParquetFile(file).read()
            found.append(str(table.to_pylist()).encode())
        elif file.suffix == ".sqlite":
            with contextlib.closing(sqlite3.connect(file)) as db:
                found.append("\n".join(db.iterdump()).encode())
            db.close()
    return b"\n".join(found)


def dies_at(step: int, body: Callable[[], object]) -> int:
    """Runs a function in a child that is killed at its n-th file operation; its exit code."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(name: str, _: tuple[object, ...]) -> None:
            nonlocal count
            if name in FILE_OPERATIONS:
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(hook)
            body()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
