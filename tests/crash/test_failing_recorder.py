"""A recorder that fails for real: agents go on, drops are counted, and no write is made.

Each case breaks the store under a running agent (file size limit, full disk, read-only
folder, removed store), mends it, and compares what was acknowledged with what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import StoreError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.events import Event
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Effect

LONG: Final = "x" * 9_000
"""Does not fit into what is left of a page."""
NOBODY: Final = 65_534
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class CountingRecorder(Recorder):
    """Remembers which events it acknowledged."""

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[tuple[str, int]] = []
        super().__init__(path, seal_on_close=False)

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        kept = super().emit(event, messages=messages, durable=durable)
        if kept:
            self.acknowledged.append((event.run_id, event.seq))
        return kept


@dataclass
class Seen:
    """What came of a store that broke and was mended.

    Attributes:
        paid: how often the write tool was called: before, while it was broken, after.
        stops: stop reasons of all runs, in order.
        acknowledged: events that `emit` returned True for.
        dropped: events that the recorder counted as dropped.
    """

    paid: list[int] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    dropped: int = 0
    dropped_when_mended: int = 0


class Till:
    """An agent with a tool that reads and one that writes, and how often it wrote."""

    def __init__(self, recorder: CountingRecorder) -> None:
        self.recorder = recorder
        self.paid = 0
        self.seen = Seen()

    def look(self, what: str) -> str:
        return what

    def pay(self, what: str) -> str:
        self.paid += 1
        return "paid"

    def go(self, *tools: str) -> None:
        """Runs an agent that calls these tools, one a step."""
        script = [*(asking((name, {"what": LONG})) for name in tools), saying("done")]
        agent = Agent(
            "a",
            ScriptedModel("m", script),
            [
                Tool("look", self.look, effect=Effect.READ),
                Tool("pay", self.pay, effect=Effect.WRITE),
            ],
            policy=Policy(("look", "pay"), approver=approve_all),
        )
        before = self.paid
        result = run(agent, Task("t", "Go."), sink=self.recorder)
        self.seen.stops.append(result.stop_reason.value)
        if "pay" in tools:
            self.seen.paid.append(self.paid - before)


def break_and_mend(
    recorder: CountingRecorder, breaks: Callable[[], None], mends: Callable[[], None]
) -> Seen:
    """Runs agents before, while and after the store is broken."""
    till = Till(recorder)
    till.go("look", "pay")
    breaks()
    till.go("look", "look")
    till.go("look", "pay", "look")
    till.go("pay")
    till.seen.dropped = recorder.dropped_events
    mends()
    till.go("look", "pay")
    till.seen.dropped_when_mended = recorder.dropped_events
    recorder.close()
    till.seen.acknowledged = recorder.acknowledged
    return till.seen


def in_child(work: Callable[[], Seen]) -> Seen:
    """What `work` gives in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "w") as pipe:
                json.dump(work().__dict__, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    seen = Seen(**json.loads(told))
    seen.acknowledged = [(run_id, seq) for run_id, seq in seen.acknowledged]
    return seen


def check(
    path: Path, seen: Seen, record_property: Callable[[str, object], None], what: str
) -> None:
    """No write while it was broken, and every event is there, acknowledged, or counted."""
    assert seen.paid == [1, 0, 0, 1]
    assert seen.stops == ["ok", "ok", "recorder_failed", "recorder_failed", "ok"]
    rows = Store.open(path).snapshot().unsealed_events.to_pylist()
    gaps = [row for row in rows if row["kind"] == "gap"]
    there = [(row["run_id"], row["seq"]) for row in rows if row["kind"] != "gap"]
    assert len(there) == len(set(there))
    gone = set(seen.acknowledged) - set(there)
    assert sum(gap["dropped_events"] for gap in gaps) == seen.dropped_when_mended
    assert seen.dropped_when_mended > 0
    assert all(gap["detail"] for gap in gaps)
    with Traces(path) as traces:
        made = traces.rows("SELECT state FROM writes WHERE outcome = 'ok'")
        doubted = traces.rows("SELECT * FROM writes WHERE state IN ('in_doubt', 'running')")
    assert {row["state"] for row in made} == {"done"}
    assert doubted == []
    figures = {
        "acknowledged": len(seen.acknowledged),
        "recovered": len(set(seen.acknowledged) & set(there)),
        "gone with the store": len(gone),
        "writes refused": seen.paid.count(0),
        "counted as gap": seen.dropped_when_mended,
    }
    record_property("figures", (f"failing recorder, {what}", figures))
    if what != "removed store":
        assert gone == set()


def test_a_file_that_may_not_grow(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    path = tmp_path / "store"

    def work() -> Seen:
        recorder = CountingRecorder(path)

        def breaks() -> None:
            [journal] = (path / "journal").iterdir()
            limit = journal.stat().st_size + 100
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        def mends() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

        return break_and_mend(recorder, breaks, mends)

    check(path, in_child(work), record_property, "file size limit")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own of one megabyte."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "flightlog-test", str(folder)]
    can_mount = shutil.which("mount") is not None
    if not can_mount or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with small_disk(tmp_path / "disk") as disk:
        path, filler = disk / "store", disk / "filler"
        recorder = CountingRecorder(path)

        def breaks() -> None:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096):
                    pass

        check(path, break_and_mend(recorder, breaks, filler.unlink), record_property, "full disk")
        with pytest.raises(StoreError, match="No space left"):
            fill_and_open(filler, breaks, disk / "another")


def fill_and_open(filler: Path, breaks: Callable[[], None], path: Path) -> None:
    breaks()
    try:
        Recorder(path)
    finally:
        filler.unlink()


def test_a_removed_store(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)

    def mends() -> None:
        Recorder(path, seal_on_close=False).close()

    seen = break_and_mend(recorder, lambda: shutil.rmtree(path), mends)
    check(path, seen, record_property, "removed store")


def test_a_removed_journal_is_found_when_it_is_synced(tmp_path: Path) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    till = Till(recorder)
    [journal] = (path / "journal").iterdir()
    journal.unlink()
    till.go("pay")
    assert till.seen.paid == [0]
    assert "removed" in (recorder.last_error or "")
    till.go("pay")
    assert till.seen.paid == [0, 1], "another journal took over"
    recorder.close()


@contextlib.contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """A folder that belongs to whom a read-only folder stops: not to root."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def go_on_in_a_fork() -> None:
    """Returns in a forked child only; this process ends as that one does."""
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_a_read_only_folder(record_property: Callable[[str, object], None]) -> None:
    """Who has a journal goes on; who needs one, such as a forked child, cannot record."""
    with folder_of_nobody() as folder:
        path = folder / "store"

        def work() -> Seen:
            if os.geteuid() == 0:
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
            recorder = CountingRecorder(path)
            journals = path / "journal"

            def breaks() -> None:
                journals.chmod(0o500)
                Till(recorder).go("pay")  # its journal is open
                with pytest.raises(StoreError, match="Permission denied"):
                    Recorder(path)
                go_on_in_a_fork()

            return break_and_mend(recorder, breaks, lambda: journals.chmod(0o700))

        seen = in_child(work)
        check(path, seen, record_property, "read-only folder")
