"""A clock that jumps, back and ahead: order, ids and rotation do not follow it.

The real clock of a child is moved, by a library that stands before the system's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from itertools import pairwise
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.clock import SystemClock
from flightlog.trace.ids import new_id
from flightlog.trace.run_writer import RunWriter
from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    call,
    check,
    found_in,
    loaded,
    run_as_child,
    run_child,
)

pytestmark = pytest.mark.crash
JUMPS_S = (0, -86_400 * 400, 86_400 * 400, -3_600, -1, 3_600)
CALLS = 40
_SOURCE = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t which, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, which, now);
    const char *jump = which == CLOCK_REALTIME ? getenv("TEST_CLOCK_JUMP_S") : 0;
    if (jump) now->tv_sec += atol(jump);
    return result;
}
"""


@pytest.fixture
def jumping_clock(tmp_path: Path) -> str:
    """A library whose clock is ahead by as many seconds as TEST_CLOCK_JUMP_S says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def records_through_jumps(store: str) -> None:
    """One run, a part of it at each time, with journals that begin and end meanwhile."""
    recorder = CountingRecorder(Path(store), seals=True, seal_at_bytes=12_000)
    clock, times = SystemClock(), []
    run = RunWriter(recorder, new_id(), clock=clock)
    run.started(agent="a", model="m")
    for jump_s in JUMPS_S:
        os.environ["TEST_CLOCK_JUMP_S"] = str(jump_s)
        times.append(time.time())
        for number in range(CALLS):
            assert run.tool_call(tool_name="t", args={"number": number}, outcome="ok")
            recorder.emit(call("beside", len(times) * CALLS + number))
    run.stopped(status="completed", stop_reason="ok")
    recorder.close()
    assert max(times) - min(times) > 86_400 * 700, "the clock did not jump"
    print(recorder.told().dump())


def test_order_ids_and_rotation_do_not_follow_a_clock_that_jumps(
    tmp_path: Path, record_property: Record, jumping_clock: str
) -> None:
    path = tmp_path / "store"
    done = run_child(
        __name__,
        "records_through_jumps",
        path,
        env={"LD_PRELOAD": jumping_clock, "TEST_CLOCK_JUMP_S": "0"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    store = Store.open(path)
    seal_store(store)
    assert verify_store(store).ok
    told = loaded(done.stdout)
    run_id = told.emitted[0][0]
    with Traces(path) as traces:
        rows = traces.rows(
            "SELECT seq, kind, elapsed_ms FROM events WHERE run_id = $run ORDER BY seq",
            {"run": run_id},
        )
        [run] = traces.rows("SELECT * FROM runs WHERE run_id = $run", {"run": run_id})
    assert [row["seq"] for row in rows] == list(range(CALLS * len(JUMPS_S) + 2))
    assert (rows[0]["kind"], rows[-1]["kind"]) == ("run_started", "run_stopped")
    elapsed = [row["elapsed_ms"] for row in rows]
    assert elapsed == sorted(elapsed)
    assert run["stop_reason"] == "ok"
    assert 0 <= run["duration_ms"] < 3_600_000
    segments = list(path.glob("events/*/*.parquet"))
    assert len(JUMPS_S) < len(segments) < 30, "a journal for many events"
    for only in ("run_started", "run_stopped"):
        assert [row["kind"] for row in rows].count(only) == 1
    calls = [key for key in told.emitted if key not in {(run_id, 0), (run_id, len(rows) - 1)}]
    told.emitted = calls
    told.acknowledged = [key for key in told.acknowledged if key in set(calls)]
    check(told, found_in(path), record_property, "clock that jumps")


def makes_ids() -> None:
    """Prints ids from before and after a jump back."""
    for jump_s in (0, -3_600):
        os.environ["TEST_CLOCK_JUMP_S"] = str(jump_s)
        for _ in range(500):
            print(new_id())


def test_ids_of_one_process_stay_unique_when_the_clock_jumps_back(
    record_property: Record, jumping_clock: str
) -> None:
    done = run_child(
        __name__, "makes_ids", env={"LD_PRELOAD": jumping_clock, "TEST_CLOCK_JUMP_S": "0"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    ids = done.stdout.split()
    assert len(set(ids)) == 1_000
    assert {uuid.UUID(one).version for one in ids} == {7}
    for half in (ids[:500], ids[500:]):
        assert half == sorted(half)
    figures = {"ids": 1_000, "in order": sum(a < b for a, b in pairwise(ids))}
    record_property("figures", ("conditions: ids while the clock jumps back", figures))


if __name__ == "__main__":
    run_as_child(globals())
