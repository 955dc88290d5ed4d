"""kill -9 while golden tasks are written: the folder holds what it held, or what it was to hold."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flightlog.golden.entries import load_suite
from flightlog.golden.pin import pin_runs
from flightlog.recorder.store import Store
from flightlog.runtime.task import Task
from tests.unit.golden.world import GET, REFUND, record_run

pytestmark = pytest.mark.crash
KILLS = int(os.environ.get("FLIGHTLOG_KILLS", "0")) // 25 or 6
TASKS = 12
ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
from pathlib import Path
from flightlog.golden.pin import pin_runs
from flightlog.recorder.store import Store
store, runs = Store.open(Path(sys.argv[1])), sys.argv[3:]
print("ready", flush=True)
sys.stdin.readline()
print("began", flush=True)
pin_runs(store, runs, Path(sys.argv[2]))
print("done", flush=True)
"""


def test_pinning_that_is_killed_leaves_no_golden_task_half_written(tmp_path: Path) -> None:
    first, second = [], []
    for number in range(TASKS):
        task = Task(f"task-{number}", "Refund order A1.", suite="shop")
        for runs, steps in ((first, ([GET], [REFUND])), (second, ([REFUND],))):
            run_id = f"run-{number}-{len(steps)}"
            runs.append(record_run(tmp_path / "live", *steps, task=task, run_id=run_id))
    store = Store.open(tmp_path / "live")
    pin_runs(store, first, tmp_path / "before")
    rng, took_s, ends = random.Random(7), 0.2, {"before": 0, "half": 0, "after": 0}
    for kill in range(KILLS):
        goldens = tmp_path / f"goldens-{kill}"
        shutil.copytree(tmp_path / "before", goldens)
        command = [sys.executable, "-c", CHILD, str(store.path), str(goldens), *second]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "began\n"
            began_s = time.monotonic()
            if kill == 0:  # the one that is let through says how long it takes
                assert child.stdout.readline() == "done\n"
                took_s = time.monotonic() - began_s
            else:
                time.sleep(rng.uniform(0.3, 1.0) * took_s)
            child.kill()
        entries = load_suite(goldens)
        assert len(entries) == TASKS
        counts = {len(entry.recordings) for entry in entries}
        assert counts <= {1, 2}
        ends["half" if len(counts) > 1 else "after" if counts == {2} else "before"] += 1
        pin_runs(store, second, goldens)  # goes on where it was killed
        assert {len(entry.recordings) for entry in load_suite(goldens)} == {2}
    assert ends["after"] >= 1
    print(f"goldens: {KILLS} kills, {ends}")
