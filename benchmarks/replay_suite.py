"""Time to replay a suite of golden tasks: `python benchmarks/replay_suite.py --full`.

Each golden is a recorded run of a small shop's agent: four tool calls (a search, two reads of
which one follows a write, a write), pinned with its drafted contract. The candidate is a scripted
model, so that nothing but flightlog takes time; each trial is served, judged and recorded into a
store. `--full` is 1,000 goldens with 5 trials each. Loading the suite, replaying it, and what
recording costs (the same replay into a sink that keeps nothing) are told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks._timing import load, table
from flightlog.golden.entries import load_suite
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Replaying, ReplayReport, Trial, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.clock import VirtualClock
from flightlog.trace.vocab import Effect

GOLDENS: Final = 1_000
TRIALS: Final = 5
GOAL_S: Final = 30.0


def shop() -> list[Tool]:
    """Tools over one order."""
    refunds: dict[str, int] = {}

    def search(query: str) -> list[str]:
        return [query.rsplit(maxsplit=1)[-1]]

    def get_order(order_id: str) -> dict[str, Any]:
        return {"order_id": order_id, "total": 39, "refunded": refunds.get(order_id, 0)}

    def refund(order_id: str, amount: int) -> dict[str, Any]:
        refunds[order_id] = amount
        return {"order_id": order_id, "refunded": amount}

    scopes = ("order:{order_id}",)
    return [
        Tool("search", fn=search, effect=Effect.READ, scopes=("catalogue",)),
        Tool("get_order", fn=get_order, effect=Effect.READ, scopes=scopes),
        Tool("refund", fn=refund, effect=Effect.WRITE, scopes=scopes),
    ]


def script(task_id: str) -> list[ModelResponse]:
    """What the model says in a task."""
    order = {"order_id": task_id}
    return [
        asking(("search", {"query": f"order of {task_id}"}), latency_ms=300.0),
        asking(("get_order", order), latency_ms=300.0),
        asking(("refund", {**order, "amount": 39}), latency_ms=300.0),
        asking(("get_order", order), latency_ms=300.0),
        saying(f"The refund for {task_id} is on its way.", latency_ms=300.0),
    ]


def agent(task_id: str, tools: list[Tool]) -> Agent:
    """The agent of one task."""
    policy = Policy(("*",), approver=approve_all)
    model = ScriptedModel("scripted", script(task_id))
    return Agent("shop", model, tools, system="You are the shop's agent.", policy=policy)


def candidate(trial: Trial) -> Agent:
    """The same agent; its tools have no functions."""
    return agent(trial.task.task_id, list(trial.tools))


def pinned(folder: Path, count: int) -> Path:
    """A folder of so many golden tasks."""
    run_ids: list[str] = []
    with Recorder(folder / "live") as recorder:
        for number in range(count):
            task = Task(f"order-{number:04d}", "Refund my order.", suite="shop")
            done = run(agent(task.task_id, shop()), task, sink=recorder, clock=VirtualClock())
            run_ids.append(done.run_id)
    pin_runs(Store.open(folder / "live"), run_ids, folder / "goldens")
    return folder / "goldens"


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, CPU seconds of this process and its children, and what came of it."""
    wall, cpu = time.perf_counter(), _cpu_s()
    made = work()
    return time.perf_counter() - wall, _cpu_s() - cpu, made


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def replayed(goldens: Path, store: Path, trials: int, concurrency: int) -> ReplayReport:
    """The whole suite, recorded."""
    with Recorder(store) as recorder:
        how = Replaying(concurrency=concurrency)
        report = replay_suite(goldens, candidate, recorder=recorder, trials=trials, how=how)
    if report.passed != len(report.trials) or report.coverage != 1.0:
        raise SystemExit(f"not served: {report.sentence()}")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--goldens", type=int, default=100)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--full", action="store_true", help=f"{GOLDENS:,} goldens, {TRIALS} trials")
    options = parser.parse_args()
    count = GOLDENS if options.full else options.goldens
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pin_s, pin_cpu, goldens = timed(lambda: pinned(folder, count))
        load_s, load_cpu, _ = timed(lambda: load_suite(goldens))
        args = (goldens, folder / "replays", options.trials, options.concurrency)
        wall, cpu, report = timed(lambda: replayed(*args))
    rows = [
        ("record live and pin", f"{pin_s:.1f}", f"{pin_cpu:.1f}", ""),
        ("load the suite", f"{load_s:.1f}", f"{load_cpu:.1f}", ""),
        (
            "replay: load, serve, judge, record, seal",
            f"{wall:.1f}",
            f"{cpu:.1f}",
            f"{1000 * wall / len(report.trials):.2f}",
        ),
    ]
    print(f"{count:,} goldens, {len(report.trials):,} trials, concurrency {options.concurrency}\n")
    print(table(rows, header=("", "s", "CPU s", "ms per trial")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory {peak:.0f} MiB; {load()}")
    if options.full:
        print(json.dumps({"goal_s": GOAL_S, "met": wall < GOAL_S}))


if __name__ == "__main__":
    main()
