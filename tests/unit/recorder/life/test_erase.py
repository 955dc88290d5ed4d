"""Erasure: the payloads of one subject are nowhere, all else is as it was, the chains hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.analysis.db import Traces
from flightlog.control.approval import WriteRequest
from flightlog.control.control import Control
from flightlog.errors import DamagedError, StoreError, UsageError
from flightlog.recorder.lease import Lease
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.dropped import heads_of
from flightlog.recorder.life.erase import erase
from flightlog.recorder.life.pending import pending_removals
from flightlog.recorder.life.pins import add_pins
from flightlog.recorder.life.skeleton import KEPT_TEXTS
from flightlog.recorder.manifest import store_state
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.redact.policy import Redaction
from flightlog.trace.events import RunStarted, StateChanged, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import events_schema
from flightlog.trace.vocab import Effect
from tests.unit.recorder.store_life import (
    SYSTEM,
    all_events,
    all_messages,
    canary,
    check_has_all_it_names,
    check_sound,
    events_of,
    every_kind,
    everything_in,
    write_run,
    write_store,
)

ALICE = [("data_subject", "canary-alice")]
NOTHING_TAKEN_OUT = Redaction(capture="full")


def erase_alice(store: Store, **options: object):  # type: ignore[no-untyped-def]
    return erase(store, names=ALICE, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_merged", [False, True])
def test_erased_payloads_are_nowhere_and_all_else_is_as_it_was(
    store_path: Path, is_merged: bool
) -> None:
    store = write_store(store_path)
    if is_merged:
        compact_store(store)
    kept = events_of(store, "bob")
    report = erase_alice(store)
    assert (len(report.runs), report.events, report.is_done) == (6, 24, True)
    assert b"canary-alice" not in everything_in(store_path)
    assert events_of(store, "bob") == kept
    check_sound(store)
    check_has_all_it_names(store)
    assert SYSTEM.digest in {row["digest"] for row in all_messages(store)}
    assert not pending_removals(store.layout)


def test_what_happened_stays(store_path: Path) -> None:
    store = write_store(store_path, journals=1, runs=1)
    erase_alice(store)
    (started, model, tool, stopped) = all_events(store).to_pylist()
    assert {row["withheld"] for row in (started, model, tool, stopped)} == {"erased"}
    assert (started["agent"], started["seq"], started["at"] is not None) == ("shop", 0, True)
    assert (model["input_tokens"], model["cost_usd"]) == (7, 0.5)
    assert (tool["tool_name"], tool["outcome"], tool["result_bytes"]) == ("refund", "ok", 38_000)
    assert stopped["stop_reason"] == "ok"


def test_every_text_of_every_kind_is_payload_but_the_kept_ones(store_path: Path) -> None:
    with Recorder(store_path, redaction=NOTHING_TAKEN_OUT) as recorder:
        for who in ("alice", "bob"):
            for event in every_kind(f"run-{who}", who, lambda name: name in KEPT_TEXTS):
                assert recorder.emit(event)
    store = Store.open(store_path)
    kept = events_of(store, "bob")
    text_columns = {f.name for f in events_schema() if not pa.types.is_primitive(f.type)}
    told = str(all_events(store).to_pylist())
    planted = text_columns - KEPT_TEXTS - {"data_subject", "result_blob"}
    assert [name for name in sorted(planted) if canary("alice", name) not in told] == []
    erase_alice(store)
    assert b"canary-alice" not in everything_in(store_path)
    assert events_of(store, "bob") == kept
    check_sound_but_for_blobs(store)


def check_sound_but_for_blobs(store: Store) -> None:
    for entry in store_state(store.layout).live.values():
        if entry.path.startswith("events/"):
            assert heads_of(store.layout, entry) == [part.head for part in entry.parts]


def test_erased_rows_keep_their_commitment_and_lose_their_salt(store_path: Path) -> None:
    store = write_store(store_path, journals=1, runs=2)
    erase_alice(store)
    (path,) = store.snapshot().event_files
    for row in pq.ParquetFile(path).read().to_pylist():
        is_erased = row["withheld"] == "erased"
        assert (row["salt"] is None) is is_erased
        assert (row["commitment"] is not None) is is_erased


def test_one_run_a_conversation_or_a_tenant_can_be_erased(store_path: Path) -> None:
    with Recorder(store_path) as recorder:
        for number, fields in enumerate(
            [{"tenant": "acme"}, {"conversation_id": "c-1"}, {"conversation_id": "acme"}, {}]
        ):
            run = RunWriter.with_system_clock(recorder, f"r{number}")
            run.started(**fields)
            run.stopped(stop_reason="ok", answer=f"answer-{number}")
    store = Store.open(store_path)
    assert erase(store, names=[("tenant", "acme")]).runs == ("r0",)
    assert erase(store, names=[("conversation_id", "c-1")]).runs == ("r1",)
    assert erase(store, run_ids=["r3"]).runs == ("r3",)
    answers = all_events(store).column("answer").to_pylist()
    assert [answer for answer in answers if answer] == ["answer-2"]
    assert erase(store, run_ids=["r3"]).runs == ()


def test_runs_that_follow_from_an_erased_one_are_erased_with_it(store_path: Path) -> None:
    """What it started as sub-agents, and replays that answered from it, at any distance."""
    with Recorder(store_path) as recorder:
        for run_id, fields in {
            "child": {"parent_run_id": "parent"},
            "parent": {"data_subject": "canary-alice"},
            "grandchild": {"parent_run_id": "child"},
            "other": {"parent_run_id": "another"},
        }.items():
            recorder.emit(RunStarted(run_id=run_id, seq=0, **fields))
        recorder.emit(RunStarted(run_id="replay", seq=0))
        recorder.emit(ToolCall(run_id="replay", seq=1, served_from="child", result="copied"))
    assert erase_alice(Store.open(store_path)).runs == ("child", "grandchild", "parent", "replay")


def test_what_commands_recorded_of_an_erased_run_is_erased(store_path: Path) -> None:
    detail = "approval x of run 0-0-alice, step 2, arguments ab12, by me: canary-alice asked"
    write_store(store_path, journals=1, runs=2)
    with Recorder(store_path) as recorder:
        for seq, text in enumerate((detail, detail.replace("alice", "bob"))):
            recorder.emit(StateChanged(run_id="", seq=seq, subject="approval", detail=text))
    store = Store.open(store_path)
    erase_alice(store)
    details = [text for text in all_events(store).column("detail").to_pylist() if text]
    assert details == [detail.replace("alice", "bob")]


def test_messages_and_blobs_that_others_need_stay(store_path: Path) -> None:
    shared = Message("user", "the same long question " * 2_000)
    with Recorder(store_path) as recorder:
        for who in ("alice", "bob"):
            run = RunWriter.with_system_clock(recorder, f"run-{who}")
            run.started(data_subject=f"canary-{who}")
            run.model_call(prompt=[shared], output=Message("assistant", canary(who, "own")))
            run.tool_call(tool_name="t", result="the same long answer " * 2_000)
    store = Store.open(store_path)
    compact_store(store)
    erase_alice(store)
    assert {row["role"] for row in all_messages(store)} == {"user", "assistant"}
    check_has_all_it_names(store)
    assert len(list(store_path.glob("blobs/*/*"))) == 2
    erase(store, names=[("data_subject", "canary-bob")])
    assert all_messages(store) == []
    assert list(store_path.glob("blobs/*/*")) == []
    check_sound(store)


def test_a_message_that_no_event_names_goes_with_its_journal(store_path: Path) -> None:
    with Recorder(store_path) as recorder:
        start = RunStarted(run_id="r", seq=0, data_subject="canary-alice")
        recorder.emit(start, messages=[Message("user", "canary-alice, not named")])
    erase_alice(Store.open(store_path))
    assert b"canary-alice" not in everything_in(store_path)


def test_approvals_of_erased_runs_are_gone_from_every_byte_of_the_state(store_path: Path) -> None:
    write_store(store_path, journals=1, runs=2)
    control = Control.at(store_path)
    for who in ("alice", "bob"):
        write = WriteRequest.of(
            tool="refund",
            effect=Effect.WRITE,
            args={"to": canary(who, "account")},
            run_id=f"0-{int(who == 'bob')}-{who}",
            step=1,
            agent="shop",
            tenant=None,
            task_id=None,
            task_digest=None,
        )
        control.approvals.ask(write, 1000.0, valid_s=60.0)
    # Open all the while, as in a process that runs.
    assert b"canary-alice" in everything_in(store_path)
    erase_alice(Store.open(store_path))
    assert b"canary-alice" not in everything_in(store_path)
    assert canary("bob", "account") in control.approvals.requests(1000.0)[0].write.args
    control.close()


def test_quarantined_pieces_of_its_journals_are_removed(store_path: Path) -> None:
    for who in ("alice", "bob"):
        with Recorder(store_path, seal_on_close=False) as recorder:
            write_run(recorder, f"0-0-{who}", who)
        newest = max(store_path.glob("journal/*.journal"))
        content = newest.read_bytes()
        place = content.index(b'"tool_call"')
        newest.write_bytes(content[:place] + b"!" + content[place + 1 :])
    piece = store_path / "quarantine" / "unknown-77.damaged"
    piece.write_bytes(b"...canary-alice...")
    store = Store.open(store_path)
    seal_store(store)
    assert len(list(store_path.glob("quarantine/*"))) == 3
    report = erase_alice(store)
    assert report.quarantined == 2
    assert b"canary-alice" not in everything_in(store_path)
    assert len(list(store_path.glob("quarantine/*"))) == 1


def test_what_dead_writers_left_half_done_is_removed(store_path: Path) -> None:
    """Temporary files of segments and blobs hold payloads too."""
    write_store(store_path, journals=1, runs=1)
    day = next(store_path.glob("events/date=*"))
    for path in (day / ".x.parquet.1.tmp", store_path / "blobs" / "ab" / ".ab12.2.tmp"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"canary-alice")
    erase_alice(Store.open(store_path))
    left = [path.name for path in store_path.rglob("*.tmp")]
    assert left == []


def test_runs_of_a_living_writer_are_erased_when_they_are_sealed(store_path: Path) -> None:
    write_store(store_path, journals=1, runs=2)
    store = Store.open(store_path)
    recorder = Recorder(store_path)
    write_run(recorder, "5-0-alice", "alice", long=True)
    write_run(recorder, "5-1-bob", "bob", long=True)
    kept = events_of(store, "bob")
    report = erase_alice(store)
    assert report.runs == ("0-0-alice",)
    assert report.waiting == tuple(path.stem for path in store.layout.journal_files())
    assert not report.is_done
    (pending,) = pending_removals(store.layout)
    assert "canary-alice" not in str(pending)
    seal_store(store)
    assert len(pending_removals(store.layout)) == 1
    recorder.close()  # seals
    assert pending_removals(store.layout) == []
    assert b"canary-alice" not in everything_in(store_path)
    assert events_of(store, "bob") == kept
    check_sound(store)
    check_has_all_it_names(store)
    assert erase_alice(store).is_done


def test_a_run_that_goes_on_is_erased_journal_by_journal(store_path: Path) -> None:
    recorder = Recorder(store_path, seal_at_bytes=1)
    run = RunWriter.with_system_clock(recorder, "r")
    run.started(data_subject="canary-alice")
    run.tool_call(tool_name="t", result=canary("alice", "first"))
    store = Store.open(store_path)
    assert not erase_alice(store).is_done
    run.tool_call(tool_name="t", result=canary("alice", "second"))
    run.stopped(stop_reason="ok", answer=canary("alice", "answer"))
    recorder.close()
    assert pending_removals(store.layout) == []
    assert b"canary-alice" not in everything_in(store_path)
    assert all_events(store).num_rows == 4
    check_sound(store)


def test_a_recorder_beside_an_erasure_keeps_the_blob_that_it_names(store_path: Path) -> None:
    text = "the same long text " * 2_000
    with Recorder(store_path) as first:
        first.emit(RunStarted(run_id="a", seq=0, data_subject="canary-alice"))
        first.emit(ToolCall(run_id="a", seq=1, result=text))
    with Recorder(store_path) as second:
        second.emit(ToolCall(run_id="b", seq=0, result=text))
        store = Store.open(store_path)
        assert erase_alice(store).is_done
        check_has_all_it_names(store)
    check_has_all_it_names(store)
    check_sound(store)


def test_pinned_runs_are_told_since_their_goldens_are_elsewhere(store_path: Path) -> None:
    store = write_store(store_path, journals=1, runs=2)
    add_pins(store.layout, ["0-0-alice", "0-1-bob"], store_path.parent / "goldens")
    report = erase_alice(store)
    assert [pin.run_id for pin in report.pins] == ["0-0-alice"]


def test_pseudonyms_of_the_subject_are_found_too(store_path: Path) -> None:
    with Recorder(store_path, redaction=Redaction(emails=True)) as recorder:
        run = RunWriter.with_system_clock(recorder, "r")
        run.started(data_subject="alice@example.com")
        run.stopped(stop_reason="ok", answer="the answer")
    store = Store.open(store_path)
    assert "alice@example.com" not in str(all_events(store).to_pylist())
    assert erase(store, names=[("data_subject", "alice@example.com")]).runs == ("r",)
    assert b"the answer" not in everything_in(store_path)


def test_dry_run_changes_nothing(store_path: Path) -> None:
    store = write_store(store_path)
    before = everything_in(store_path)
    report = erase_alice(store, is_dry_run=True)
    assert (len(report.runs), report.events) == (6, 24)
    assert everything_in(store_path) == before


def test_the_name_of_the_subject_is_in_no_manifest(store_path: Path) -> None:
    store = write_store(store_path)
    erase_alice(store, reason="request 17")
    texts = [path.read_text(encoding="utf-8") for path in store_path.glob("manifest/*.json")]
    assert any("request 17" in text for text in texts)
    assert not any("alice" in text for text in texts)
    with pytest.raises(UsageError, match="reason names the subject"):
        erase_alice(store, reason="canary-alice asked for it")


def test_nothing_named_is_refused(store_path: Path) -> None:
    store = write_store(store_path, journals=1)
    for names in ([], [("data_subject", "")]):
        with pytest.raises(UsageError, match="nothing to erase"):
            erase(store, names=names)  # type: ignore[arg-type]


def test_damaged_segment_is_refused_and_nothing_changed(store_path: Path) -> None:
    store = write_store(store_path, journals=2)
    victim = min(store_path.glob("events/*/*.parquet"))
    content = victim.read_bytes()
    victim.write_bytes(content.replace(content[200:204], b"\0\0\0\0"))
    with pytest.raises(DamagedError, match=r"Restore it from a copy"):
        erase_alice(store)
    assert len(list(store_path.glob("events/*/*.parquet"))) == 2
    victim.write_bytes(content)
    seal_store(store)
    assert b"canary-alice" not in everything_in(store_path)


def test_readers_that_do_not_end_hold_an_erasure_up_for_some_seconds_only(
    store_path: Path,
) -> None:
    store = write_store(store_path, journals=1)
    lease = Lease(store.layout)
    assert erase_alice(store, readers_wait_s=0.1).is_done
    assert b"canary-alice" not in everything_in(store_path)
    lease.release()


def test_a_reader_under_which_files_were_erased_is_told_to_read_again(store_path: Path) -> None:
    store = write_store(store_path, journals=1)
    with Traces(store_path) as traces:
        erase_alice(store, readers_wait_s=0.0)
        with pytest.raises(StoreError, match="removed while it was read"):
            traces.rows("SELECT count(answer) AS n FROM runs")
    with Traces(store_path) as traces:
        assert traces.rows("SELECT count(answer) AS n FROM runs") == [{"n": 1}]


def test_commands_show_an_erased_run(store_path: Path) -> None:
    store = write_store(store_path, journals=1, runs=1)
    erase_alice(store)
    with Traces(store_path) as traces:
        (run,) = traces.rows("SELECT * FROM runs")
        assert (run["stop_reason"], run["labels"], run["answer"]) == ("ok", None, None)
        assert traces.rows("SELECT count(*) AS n FROM tool_calls") == [{"n": 1}]


RECORDS = """
import sys
from flightlog.recorder.recorder import Recorder
from tests.unit.recorder.store_life import write_run
recorder = Recorder(sys.argv[1])
write_run(recorder, "7-0-alice", "alice", long=True)
print("recorded", flush=True)
sys.stdin.read()
"""


def test_the_journal_of_a_killed_writer_is_sealed_first(store_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", RECORDS, str(store_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"recorded\n"
    store = Store.open(store_path)
    assert erase_alice(store).waiting
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert erase_alice(store).is_done
    assert b"canary-alice" not in everything_in(store_path)
