"""Stores are verified before they are compared, and every report says so in its header."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.verdict import Verdict
from flightlog.analysis.reports.render import FORMS, render
from flightlog.analysis.verified import Verified
from flightlog.analysis.wording import verified_text
from flightlog.errors import DamagedError
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.manifest import manifest_files, sha256_of
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.events import Gap
from flightlog.trace.schema import FORMAT_KEY


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for variant in ("baseline", "candidate"):
        for trial in range(2):
            with record(path, agent="a", variant=variant, task_id="t", trial=trial) as run:
                run.tool_call(tool_name="t", args="{}", result="r")
    return path


def add_gap(path: Path) -> None:
    with Recorder(path) as recorder:
        recorder.emit(Gap(run_id="", seq=0, dropped_events=17, detail="disk full"))


def verdict_of(path: Path) -> Verdict:
    with Traces(path) as traces:
        return compare(traces)


def test_what_was_verified_stands_in_the_header_of_every_report(store: Path) -> None:
    add_gap(store)
    verdict = verdict_of(store)
    assert verdict.verified == Verified(5, 13, 0, 5, 0, 1, 17, 0)
    text = "verified: sha256 of 5 segments ok, 5 chains ok, 13 events, 1 gap (17 events dropped)"
    assert verified_text(verdict) == text
    for form in FORMS:
        report = " ".join(render(verdict, form).split())
        if form == "json":
            assert json.loads(report)["verified"]["dropped_events"] == 17
        else:
            assert text.replace("(", "") in report.replace("\\", "").replace("(", "")


def test_what_is_not_sealed_is_told(store: Path) -> None:
    with Recorder(store, seal_on_close=False) as recorder:
        recorder.emit(Gap(run_id="", seq=0, dropped_events=1))
        text = verified_text(verdict_of(store))
    assert "13 events (1 not sealed yet)" in text
    assert text.endswith("1 gap (1 event dropped)")


def test_problems_that_hold_no_row_are_counted(store: Path) -> None:
    (store / "quarantine" / "x-0.damaged").write_bytes(b"?")
    verdict = verdict_of(store)
    assert verified_text(verdict).endswith("no gaps, 1 problem: flightlog verify")
    assert any("x-0.damaged" in note for note in verdict.notes)


def test_a_forged_segment_is_not_compared(store: Path) -> None:
    """Other rows, and every sha256 made anew; the chain of its events stays as it was."""
    layout = Store.open(store).layout
    newest = manifest_files(layout)[-1]
    entry = next(
        one for one in json.loads(newest.read_text())["segments"] if "events" in one["path"]
    )
    path = store / entry["path"]
    rows = pq.ParquetFile(path).read().to_pylist()
    rows[1]["result"] = "forged"
    schema = segment_schema().with_metadata({FORMAT_KEY: b"2"})
    pq.write_table(pq.ParquetFile(path).read().from_pylist(rows, schema=schema), path)
    text = newest.read_text().replace(entry["sha256"], sha256_of(path))
    text = text.replace(f'"bytes": {entry["bytes"]}', f'"bytes": {path.stat().st_size}')
    newest.write_text(text)
    with Traces(store, strict=True) as traces, pytest.raises(DamagedError, match="their chains"):
        compare(traces)


def test_traces_from_memory_are_not_verified(store: Path) -> None:
    snapshot = Store.open(store).snapshot()
    with Traces.of_snapshots({"memory": snapshot}) as traces:
        verdict = compare(traces)
    assert verdict.verified is None
    assert "not verified: the traces came from memory" in render(verdict, "text")
