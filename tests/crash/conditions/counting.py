"""What tests of bad conditions count: events emitted, acknowledged, recovered, told as gaps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow.parquet as pq

from flightlog.recorder.disk import DISK, Disk
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.events import Event, ToolCall
from flightlog.trace.messages import Message

Key: TypeAlias = tuple[str, int]
Record: TypeAlias = Callable[[str, object], None]
ROOT: Final = Path(__file__).parents[3]
FORK_WARNING: Final = "ignore:.*fork.*:DeprecationWarning"


def call(run_id: str, seq: int, **fields: Any) -> ToolCall:
    """The n-th call of a run."""
    return ToolCall(run_id=run_id, seq=seq, at=1_000_000 + seq, tool_name="t", **fields)


class CountingRecorder(Recorder):
    """A recorder that remembers what it was asked to record and what it said to that."""

    def __init__(
        self,
        path: Path,
        *,
        seals: bool = False,
        seal_at_bytes: int = 64 << 20,
        sync_interval_s: float = 1.0,
        disk: Disk = DISK,
    ) -> None:
        self.emitted: list[Key] = []
        self.acknowledged: list[Key] = []
        super().__init__(
            path,
            seal_on_close=seals,
            seal_at_bytes=seal_at_bytes,
            sync_interval_s=sync_interval_s,
            disk=disk,
        )

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        self.emitted.append((event.run_id, event.seq))
        kept = super().emit(event, messages=messages, durable=durable)
        if kept:
            self.acknowledged.append((event.run_id, event.seq))
        return kept

    def told(self) -> Told:
        """What it said until now."""
        return Told(list(self.emitted), list(self.acknowledged), self.dropped_events)

    def forget(self) -> None:
        """In a forked child: what the parent counted is not its own."""
        self.emitted.clear()
        self.acknowledged.clear()


@dataclass
class Told:
    """What recorders said.

    Attributes:
        emitted: events that they were asked to record.
        acknowledged: those that `emit` returned True for.
        dropped: how many they counted as dropped.
    """

    emitted: list[Key]
    acknowledged: list[Key]
    dropped: int = 0

    def __add__(self, other: Told) -> Told:
        return Told(
            self.emitted + other.emitted,
            self.acknowledged + other.acknowledged,
            self.dropped + other.dropped,
        )

    def dump(self) -> str:
        """As text that `loaded` reads."""
        return json.dumps([self.emitted, self.acknowledged, self.dropped])


def loaded(text: str) -> Told:
    """What `Told.dump` wrote."""
    emitted, acknowledged, dropped = json.loads(text)
    return Told([(r, s) for r, s in emitted], [(r, s) for r, s in acknowledged], dropped)


@dataclass
class Found:
    """What is in a store: its calls, and how many dropped events its gaps tell of."""

    calls: list[Key]
    gaps: int
    details: list[str]


def found_in(*paths: Path) -> Found:
    """What is in these stores, sealed or not."""
    rows: list[Mapping[str, Any]] = []
    for path in paths:
        snapshot = Store.open(path).snapshot()
        assert snapshot.problems == ()
        columns = ["run_id", "seq", "kind", "dropped_events", "detail"]
        rows += snapshot.unsealed_events.select(columns).to_pylist()
        for file in snapshot.event_files:
            rows += pq.ParquetFile(file).read(columns=columns).to_pylist()
    gaps = [row for row in rows if row["kind"] == "gap"]
    return Found(
        [(row["run_id"], row["seq"]) for row in rows if row["kind"] == "tool_call"],
        sum(row["dropped_events"] for row in gaps),
        [row["detail"] for row in gaps],
    )


def check(
    told: Told, found: Found, record_property: Record, what: str, *, lost: Iterable[Key] = ()
) -> None:
    """Each event is there once or told as a gap, and all that was acknowledged is there.

    Args:
        told: by the recorders.
        found: in their stores.
        record_property: of the test.
        what: the condition.
        lost: acknowledged events that are known to be gone.
    """
    there = Counter(found.calls)
    gone = set(told.acknowledged) - set(there)
    figures = {
        "emitted": len(told.emitted),
        "acknowledged": len(told.acknowledged),
        "recovered": len(there),
        "refused": len(told.emitted) - len(told.acknowledged),
        "counted as gap": found.gaps,
    }
    record_property("figures", (f"conditions: {what}", figures))
    assert set(there.values()) <= {1}, "an event is there twice"
    assert set(there) <= set(told.emitted), "an event that nobody emitted"
    assert gone == set(lost), "acknowledged and not there"
    assert found.gaps == told.dropped, "the gaps do not agree with the count"
    assert len(there) + found.gaps == len(told.emitted)
    assert all(found.details)


def in_fork(work: Callable[[], Told]) -> Told:
    """What `work` gives in a forked child, which ends without a word to anybody else."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                pipe.write(work().dump())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return loaded(text)


def run_child(
    module: str, name: str, *args: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a function of a test's module in an interpreter of its own, to that one's end."""
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    return subprocess.run(
        [*command, "-m", module, name, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def run_as_child(functions: Mapping[str, Any]) -> None:
    """What a test's module does when it is run: the function that the command line names."""
    functions[sys.argv[1]](*sys.argv[2:])


def all_at_once(works: Iterable[Callable[[], None]]) -> None:
    """Runs these in a thread each."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def until(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    """Waits until something holds that another thread brings about.

    Raises:
        TimeoutError: it does not in that time.
    """
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.001)
