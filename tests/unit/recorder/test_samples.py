"""Stores of older formats, kept as they were written, are read by this version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store

SAMPLES = Path(__file__).with_name("samples")


@pytest.fixture(params=sorted(path.name for path in SAMPLES.iterdir()))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / request.param, tmp_path / "store"))


def test_a_store_of_an_older_format_reads_as_it_did(sample: Path) -> None:
    with Traces(sample) as traces:
        runs = traces.rows(
            "SELECT run_id, agent, stop_reason, tool_calls, success FROM runs ORDER BY run_id"
        )
        assert [tuple(run.values()) for run in runs] == [
            ("sample-0", "sample", "ok", 1, True),
            ("sample-1", "sample", "ok", 1, True),
            ("sample-2", "sample", "crashed", 1, None),
            ("sample-3", "sample", "ok", 1, True),
        ]
        texts = traces.rows("SELECT DISTINCT text FROM messages WHERE role = 'user'")
        assert texts == [{"text": "Find x — naïve ✓."}]
        (long,) = traces.rows("SELECT result_blob FROM tool_calls WHERE result_blob IS NOT NULL")
    assert Store.open(sample).blob(long["result_blob"]) == "y" * 20_000


def test_a_store_of_an_older_format_is_verified_and_sealed_on(sample: Path) -> None:
    store = Store.open(sample)
    assert verify_store(store).ok
    report = seal_store(store)
    assert (report.sealed_journals, report.problems) == (1, ())
    assert verify_store(store).ok
    assert not list(store.layout.journal_files())
