"""Encrypting a store, killed at any of its file operations: both keys read it, done again one does.

FLIGHTLOG_KILL_EVERY sets at which of them the child is killed (every 9th by default; 1 is all).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from flightlog.recorder.audit import anchor_of, audit_store
from flightlog.recorder.encryption.keys import KEY_VARIABLE, new_key
from flightlog.recorder.life.rekey import rekey_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.replay.recordings import read_recordings
from flightlog.trace.events import ToolCall
from tests.unit.recorder.store_life import dies_at, write_store

EVERY = int(os.environ.get("FLIGHTLOG_KILL_EVERY", "9"))
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def content_of(path: Path) -> list[object]:
    store = Store.open(path)
    runs = [(one.events, dict(sorted(one.messages.items()))) for one in read_recordings(store)]
    calls = [event for events, _ in runs for event in events if isinstance(event, ToolCall)]
    blobs = sorted({call.result_blob for call in calls if call.result_blob is not None})
    return [runs, [store.blob(digest) for digest in blobs]]


@pytest.mark.parametrize("was_encrypted", [False, True])
def test_rekeying_killed_at_any_step_loses_nothing_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_encrypted: bool
) -> None:
    old, new = new_key(), new_key()
    monkeypatch.setenv(KEY_VARIABLE, old.text if was_encrypted else "")
    template = tmp_path / "template"
    before = content_of(write_store(template, journals=2, runs=2).path)
    anchor = anchor_of(Store.open(template))
    step, code = 0, -1
    while code != 0:
        path = shutil.copytree(template, tmp_path / "killed")
        both = f"{new.text} {old.text}" if was_encrypted else new.text
        monkeypatch.setenv(KEY_VARIABLE, both)
        code = dies_at(step, lambda path=path: rekey_store(Store.open(path)))  # type: ignore[misc]
        assert code in (0, -9), step
        assert content_of(path) == before, step
        assert verify_store(Store.open(path)).ok, step
        rekey_store(Store.open(path))
        monkeypatch.setenv(KEY_VARIABLE, new.text)
        assert content_of(path) == before, step
        report = verify_store(Store.open(path))
        assert (report.problems, report.notes) == ((), ()), step
        assert not audit_store(Store.open(path), anchor=anchor).problems, step
        left = [file for file in path.rglob("*") if file.is_file()]
        assert not [file for file in left if b"canary" in file.read_bytes()], step
        shutil.rmtree(path)
        step += EVERY
    assert step > 25
