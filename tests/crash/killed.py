"""Groups of processes that record, and others that seal, merge or erase beside them: killed.

They are forked from a process that has imported everything, so a kill costs milliseconds.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.erase import erase
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.events import RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message

MODES: Final = ("plain", "durable", "sealing", "merging", "erasing")
THREADS: Final = 2
RUN_EVENTS: Final = 30
SUBJECTS: Final = 3
_SLOT: Final = struct.Struct("<QQ")
_LONGEST_S: Final = {"sealing": 0.3, "merging": 0.08, "erasing": 0.08}
"""Starting who seals beside the recorder takes a tenth of a second of it."""


class Acknowledged:
    """Per thread: the run and how many of its events `emit` has returned True for.

    In memory shared with the child, so that it survives the kill to the last event.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, THREADS * _SLOT.size)

    def set(self, thread: int, run: int, events: int) -> None:
        _SLOT.pack_into(self._memory, thread * _SLOT.size, run, events)

    def get(self, thread: int) -> tuple[int, int]:
        run, events = _SLOT.unpack_from(self._memory, thread * _SLOT.size)
        return run, events

    def all(self) -> list[tuple[int, int]]:
        return [self.get(thread) for thread in range(THREADS)]


def subject(run: int) -> str:
    """Whose data the n-th run of a thread holds."""
    return f"canary-{run % SUBJECTS}"


def record_until_killed(
    path: Path, acknowledged: Acknowledged, pipe: int, seed: int, mode: str
) -> None:
    """Runs of 30 events each, on every thread, for ever."""
    # Journals that are full are sealed by a process beside this one, which is killed, too.
    recorder = Recorder(
        path, sync_interval_s=0.01, seal_at_bytes=60_000 if mode == "sealing" else 1 << 30
    )

    def work(thread: int) -> None:
        rng = random.Random(seed * THREADS + thread)
        run = 0
        while True:
            run_id, who = f"{seed}-{thread}-{run}", subject(run)
            for seq in range(RUN_EVENTS):
                if seq == 0:
                    kept = recorder.emit(RunStarted(run_id=run_id, seq=0, data_subject=who))
                elif seq == RUN_EVENTS - 1:
                    kept = recorder.emit(RunStopped(run_id=run_id, seq=seq), durable=True)
                else:
                    size = rng.choice([10, 500, 9_000, 20_000])
                    event = ToolCall(run_id=run_id, seq=seq, tool_name="t", result=who + "x" * size)
                    body = Message("user", f"{who} {rng.random()} " + "y" * rng.choice([10, 6_000]))
                    kept = recorder.emit(event, messages=[body], durable=mode == "durable")
                assert kept
                acknowledged.set(thread, run, seq + 1)
                os.write(pipe, b".")
                if mode not in ("plain", "durable"):
                    time.sleep(0.000_5)  # so that who seals can follow
            run += 1

    for thread in range(1, THREADS):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)


def change_until_killed(path: Path, mode: str) -> None:
    """Seals, merges or erases what dead writers left, for ever."""
    store = Store.open(path)
    for number in range(1 << 30):
        seal_store(store)
        if mode == "merging":
            compact_store(store)
        elif mode == "erasing":
            erase(store, names=[("data_subject", subject(number))], readers_wait_s=0.0)


def kill_group(path: Path, seed: int, mode: str) -> list[tuple[int, int]]:
    """Starts a recorder and who works beside it, kills both at once; what was acknowledged.

    Where nobody is beside it the moment is an event, else any time.
    """
    acknowledged = Acknowledged()
    rng = random.Random(seed)
    reader, writer = os.pipe()
    bodies: list[Callable[[], None]] = [
        lambda: record_until_killed(path, acknowledged, writer, seed, mode)
    ]
    if mode not in ("plain", "durable"):
        bodies.append(lambda: change_until_killed(path, mode))
    children: list[int] = []
    for body in bodies:
        children.append(_forked(body, children[0] if children else 0))
    os.close(writer)
    wanted = rng.randrange(1, 400)
    until_s = time.monotonic() + rng.uniform(0.0, _LONGEST_S.get(mode, 0.0))
    while wanted > 0 if len(children) == 1 else time.monotonic() < until_s:
        wanted -= len(os.read(reader, max(1, wanted)))
    os.killpg(children[0], signal.SIGKILL)
    for child in children:
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, f"{mode} {seed} failed"
    os.close(reader)
    return acknowledged.all()


def _forked(body: Callable[[], None], group: int) -> int:
    """A child in a group of its own (0) or in that of another."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, group)
            body()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.setpgid(child, group or child)
    return child
