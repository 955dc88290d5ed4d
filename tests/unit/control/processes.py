"""Real processes for the tests of what a store's processes share.

Functions of this module run in spawned children; they talk by queues and pipes only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.breakers import Breakers
from flightlog.control.shared_state import SharedState
from flightlog.control.window_budget import WindowBudget
from flightlog.control.windows import Reservation, Windows

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0
ONE = BreakerPolicy(failure_rate=0.5, min_calls=4, window_s=60, open_s=30)


@contextmanager
def child(work: Callable[..., None], *args: Any) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs `work(pipe, *args)`, and our end of the pipe; killed at the end."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def told(pipe: Connection) -> Any:
    """The next word of a child."""
    assert pipe.poll(PATIENCE_S), "the child says nothing"
    return pipe.recv()


def killed(process: BaseProcess) -> None:
    """Ends a process in the midst of whatever it does."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def hold_transaction(pipe: Connection, path: Path) -> None:
    """Books a call and keeps the transaction open for ever."""
    state = SharedState(path)
    windows = Windows(state)
    windows.reserve("tenant", WindowBudget(60, max_tool_calls=10), 1000.0, tool_calls=1)
    with state.transaction() as db:
        db.execute("UPDATE sliding_sums SET a = 10")
        db.execute("UPDATE sliding_entries SET a = 10")
        pipe.send("held")
        time.sleep(PATIENCE_S)


def list_things(pipe: Connection, path: Path) -> None:
    """Opens the file, tells the names in it and closes it, as a command does."""
    state = SharedState(path)
    pipe.send([name for (name,) in state.read("SELECT name FROM things ORDER BY name")])
    state.close()
    pipe.send("closed")


def race_for_last_unit(pipe: Connection, path: Path) -> None:
    """For each tenant's name that comes: reserves the only unit there is."""
    windows = Windows(SharedState(path, timeout_s=PATIENCE_S))
    budget = WindowBudget(3600, max_tool_calls=1)
    pipe.send("ready")
    while tenant := pipe.recv():
        got = windows.reserve(tenant, budget, time.time(), tool_calls=1)
        pipe.send(isinstance(got, Reservation))


def spend_until_killed(pipe: Connection, path: Path, budget: WindowBudget) -> None:
    """Reserves and settles as fast as it can, and says after each what is booked for sure."""
    windows = Windows(SharedState(path, timeout_s=PATIENCE_S))
    while True:
        got = windows.reserve(
            "tenant", budget, time.time(), tool_calls=1, usd=Decimal("0.01"), tokens=10
        )
        if isinstance(got, Reservation):
            pipe.send(1)
            windows.settle(got, usd=Decimal("0.005"), tokens=5)


def use_breaker(pipe: Connection, path: Path) -> None:
    """Does what it is told with the breaker of `browse`, and says what came of it."""
    breakers = Breakers(SharedState(path, timeout_s=PATIENCE_S))
    pipe.send("ready")
    while order := pipe.recv():
        name, now_s, values = order
        if name == "admit":
            pipe.send(breakers.admit("browse", ONE, now_s))
        else:
            pipe.send(breakers.report("browse", ONE, now_s, **values))


def fail_for_ever(pipe: Connection, path: Path) -> None:
    """Calls a failing tool until the breaker is open; says which transitions it got."""
    breakers = Breakers(SharedState(path, timeout_s=PATIENCE_S))
    pipe.send("ready")
    while (now_s := pipe.recv()) is not None:
        got = []
        for _ in range(6):
            answer = breakers.admit("browse", ONE, now_s)
            got += [answer.transition] if answer.transition else []
            if answer.is_open:
                continue
            ended = breakers.report(
                "browse",
                ONE,
                now_s,
                failed=True,
                is_probe=answer.is_probe,
                probe_id=answer.probe_id,
            )
            got += [ended] if ended else []
        pipe.send([(one.state_from, one.state_to) for one in got])
