"""Workers of multiprocessing, however they are started: all that they record is there."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    Told,
    call,
    check,
    found_in,
    loaded,
    run_as_child,
    run_child,
)

pytestmark = pytest.mark.crash
WORKERS = 3
EVENTS = 50
kept: list[CountingRecorder] = []


def record(recorder: CountingRecorder, run_id: str) -> None:
    for seq in range(EVENTS):
        recorder.emit(call(run_id, seq), durable=seq % 25 == 0)


def work(store: str, number: int, told: str) -> None:
    """A worker; it has the parent's recorder where it was forked, and never closes it."""
    if not kept:
        kept.append(CountingRecorder(Path(store)))
    kept[0].forget()
    record(kept[0], f"worker-{number}")
    Path(f"{told}-{number}").write_text(kept[0].told().dump())


def starts_workers(store: str, told: str, method: str) -> None:
    """Records, and has workers record with the same recorder or one of their own."""
    kept.append(CountingRecorder(Path(store)))
    record(kept[0], "parent")
    context = multiprocessing.get_context(method)
    workers = [
        context.Process(target=work, args=(store, number, told)) for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    record(kept[0], "parent meanwhile")
    for worker in workers:
        worker.join()
    kept[0].close()
    Path(f"{told}-parent").write_text(kept[0].told().dump())
    sys.exit(sum(worker.exitcode for worker in workers))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_record(tmp_path: Path, record_property: Record, method: str) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "starts_workers", path, tmp_path / "told", method)
    assert (done.returncode, done.stderr) == (0, "")
    told = Told([], [])
    for file in tmp_path.glob("told-*"):
        told += loaded(file.read_text())
    assert len(told.acknowledged) == (WORKERS + 2) * EVENTS
    check(told, found_in(path), record_property, f"multiprocessing, {method}")


if __name__ == "__main__":
    run_as_child(globals())
