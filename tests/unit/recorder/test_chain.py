"""The chain over a journal's events: the same from the journal and from the segment."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.recorder.chain import (
    SALT,
    Chain,
    commitments_of,
    encoded_events,
    sealed_rows,
    segment_schema,
)
from flightlog.recorder.manifest import store_state
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.tables import events_table
from flightlog.trace.events import EVENT_TYPES, Label, ToolCall, decode_event, encode_event
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Outcome

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


TOOL_CALLS = st.builds(
    ToolCall,
    run_id=TEXT,
    seq=st.integers(0, 2**40),
    at=st.none() | st.integers(0, 2**52),
    elapsed_ms=st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9),
    tool_name=TEXT,
    args=st.none() | TEXT,
    attempt=st.integers(1, 3),
    outcome=st.sampled_from(Outcome) | st.just("ok"),
    cost_usd=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(TOOL_CALLS, min_size=1, max_size=5))
def test_an_event_is_encoded_the_same_from_journal_and_row(events: list[ToolCall]) -> None:
    payloads = [encode_event(event) for event in events]
    rows, misfits = events_table(payloads)
    assert not misfits
    assert encoded_events(rows) == [encode_event(decode_event(p)) for p in payloads]


def test_every_kind_is_encoded_the_same_from_its_row() -> None:
    events = []
    for number, event_type in enumerate(EVENT_TYPES):
        fields: dict[str, object] = {"run_id": "r", "seq": number, "at": 5, "elapsed_ms": 1.0}
        if "labels" in event_type.__struct_fields__:
            fields["labels"] = (Label("b", "1"), Label("a", ""))
        if "prompt_added" in event_type.__struct_fields__:
            fields["prompt_added"] = ("d1", "d2")
        if "is_truncated" in event_type.__struct_fields__:
            fields["is_truncated"] = False
        events.append(event_type(**fields))
    payloads = [encode_event(event) for event in events]
    rows, _ = events_table(payloads)
    assert encoded_events(rows) == payloads


def test_the_head_is_the_hash_over_all_salted_events() -> None:
    payloads = [encode_event(ToolCall(run_id="r", seq=n)) for n in range(3)]
    rows, _ = events_table(payloads)
    chain = Chain("journal-1")
    sealed = sealed_rows(rows, payloads, chain)
    commitments = [
        hashlib.sha256(salt + payload).digest()
        for salt, payload in zip(sealed.column(SALT).to_pylist(), payloads, strict=True)
    ]
    start = hashlib.sha256(b"journal-1").digest()
    assert chain.head == hashlib.sha256(start + b"".join(commitments)).hexdigest()


def test_salts_are_never_the_same() -> None:
    payloads = [encode_event(ToolCall(run_id="r", seq=0))] * 100
    rows, _ = events_table(payloads)
    salts = sealed_rows(rows, payloads, Chain("j")).column(SALT).to_pylist()
    assert len(set(salts)) == 100


@pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
def test_the_chain_of_a_sealed_journal_ends_at_the_head_in_its_manifest(
    tmp_path: Path, batch_bytes: int
) -> None:
    with Recorder(tmp_path / "store", seal_on_close=False) as recorder:
        for number in range(20):
            run = RunWriter.with_system_clock(recorder, f"r{number}")
            run.started(agent="a", max_seconds=90)
            run.tool_call(tool_name="t", result="x" * number, latency_ms=number)
            if number % 2:
                run.stopped(stop_reason="ok")
    store = Store.open(tmp_path / "store")
    seal_store(store, batch_bytes=batch_bytes)
    (entry,) = [e for e in store_state(store.layout).live.values() if e.path.startswith("events/")]
    (part,) = entry.parts
    rows = pq.read_table(store.path / entry.path, partitioning=None)
    assert part.rows == entry.rows == rows.num_rows == 60
    chain = Chain(part.journal_id)
    chain.add(commitments_of(rows.cast(segment_schema())))
    assert chain.head == part.head


def test_an_erased_row_counts_by_its_commitment_alone() -> None:
    payloads = [encode_event(ToolCall(run_id="r", seq=n, args="secret")) for n in range(2)]
    rows, _ = events_table(payloads)
    sealed = sealed_rows(rows, payloads, Chain("j"))
    before = commitments_of(sealed)
    schema = segment_schema()
    nulls = pa.nulls(2, schema.field(SALT).type)
    erased = sealed.set_column(schema.get_field_index(SALT), schema.field(SALT), nulls)
    erased = erased.set_column(schema.get_field_index("args"), "args", pa.nulls(2, pa.string()))
    erased = erased.set_column(
        schema.get_field_index("commitment"),
        schema.field("commitment"),
        pa.array(before, schema.field("commitment").type),
    )
    assert commitments_of(erased) == before


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_default_that_is_given_anew_is_encoded_as_the_default(event_type) -> None:
    plain = event_type(run_id="r", seq=0)
    anew = {
        name: "".join(list(getattr(plain, name)))
        for name in plain.__struct_fields__
        if type(getattr(plain, name)) is str
    }
    again = decode_event(encode_event(event_type(**{**anew, "seq": 0})))
    assert encode_event(again) == encode_event(plain)
    rows, _ = events_table([encode_event(again)])
    assert encoded_events(rows) == [encode_event(plain)]


def test_a_row_without_salt_and_commitment_is_refused() -> None:
    payloads = [encode_event(ToolCall(run_id="r", seq=0))]
    sealed = sealed_rows(events_table(payloads)[0], payloads, Chain("j"))
    schema = segment_schema()
    bare = sealed.set_column(
        schema.get_field_index(SALT), schema.field(SALT), pa.nulls(1, schema.field(SALT).type)
    )
    with pytest.raises(ValueError, match="without salt"):
        commitments_of(bare)
