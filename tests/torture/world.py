"""One recording under torture: what was emitted, and what was promised about it by when.

A scenario acts on a `World`; each promise that the recorder makes is marked in the
disk's log, so that for every crash the promises made before it are known.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from flightlog.errors import FlightlogError
from flightlog.trace.canonical import digest_of
from flightlog.trace.events import Event, ModelCall, RunStarted, RunStopped, ToolCall, encode_event
from flightlog.trace.messages import Message
from tests.torture.simulated_disk import Killed, SimulatedDisk

LONG: Final = 17_000
"""Characters of a text that becomes a blob."""
NEVER_S: Final = 1e6
_OF_LIFE: Final = frozenset({"compact", "erase", "retain"})

Key = tuple[str, int]
Failure = (FlightlogError, OSError, pa.ArrowException)


class Promise(NamedTuple):
    """These events are there from now on.

    Attributes:
        keys: run and seq of each.
        durable: also after a loss of power; else only after the end of the process.
        blobs: their long texts too. They may lack after a loss of power where another process
            could not sync them: the kernel then tells nobody else.
    """

    keys: tuple[Key, ...]
    durable: bool
    blobs: bool = True


class Removal(NamedTuple):
    """These runs are erased, or removed: perhaps from now on, for sure once `is_done`."""

    runs: frozenset[str]
    is_erasure: bool
    is_done: bool


class Program:
    """The recorder's modules, as they are or with one rule broken.

    Args:
        package: name of the package that holds them.
    """

    def __init__(self, package: str = "flightlog.recorder") -> None:
        self._package = package

    def __getattr__(self, module: str) -> ModuleType:
        folder = "life." if module in _OF_LIFE else ""
        return importlib.import_module(f"{self._package}.{folder}{module}")


class World:
    """A store on a simulated disk.

    Attributes:
        root: the store's folder.
        emitted: each event as it must be read, by run and seq.
        messages: each message by digest.
        needs: digests of the messages and blobs that an event needs.
        texts: each text that is a blob, by digest.
        sealed_rows: events of segments that were read already, by the sha256 of the file.

    Args:
        disk: what the store is on.
        program: the code under test.
        seed: of all that is random in the scenario.
    """

    def __init__(self, disk: SimulatedDisk, program: Program, *, seed: int = 0) -> None:
        self.disk = disk
        self.program = program
        self.rng = random.Random(seed)
        self.root = disk.base / "store"
        self.emitted: dict[Key, bytes] = {}
        self.messages: dict[str, Message] = {}
        self.needs: dict[Key, tuple[set[str], set[str]]] = {}
        self.texts: dict[str, str] = {}
        self.sealed_rows: dict[bytes, list[bytes]] = {}
        self.writers: list[Writer] = []
        self.dropped = 0

    def writer(self, **options: Any) -> Writer:
        """A process that records."""
        made = Writer(self, options)
        self.writers.append(made)
        return made

    def expect(self, event: Event, messages: Sequence[Message]) -> Key:
        """Takes note of an event that is about to be emitted."""
        key, blobs = (event.run_id, event.seq), set[str]()
        if isinstance(event, ToolCall) and event.result is not None and len(event.result) >= LONG:
            blobs.add(self._blob(event.result))
            event = msgspec.structs.replace(event, result=None, result_blob=digest_of(event.result))
        for message in messages:
            self.messages[message.digest] = message
            if message.text is not None and len(message.text) >= LONG:
                blobs.add(self._blob(message.text))
        self.emitted[key] = encode_event(event)
        self.needs[key] = ({m.digest for m in messages}, blobs)
        return key

    def _blob(self, text: str) -> str:
        digest = digest_of(text)
        self.texts[digest] = text
        return digest

    def layout(self) -> Any:
        """The store's paths, on the simulated disk."""
        return self.program.layout.open_layout(self.root, disk=self.disk)

    def store(self) -> Any:
        """The store, on the simulated disk."""
        return self.program.store.Store(self.layout())

    def seal(self) -> bool:
        """Seals; what the dead writers recorded is then durable. False where it failed."""
        ended = [writer for writer in self.writers if writer.is_dead]
        if not self.attempt(lambda: self.program.seal.seal_store(self.store())):
            return False
        keys = tuple(key for writer in ended for key in writer.recorded)
        self.disk.mark(Promise(keys, durable=True, blobs=not self.disk.failed_syncs))
        return True

    def checkpoint(self) -> bool:
        """Moves the manifests into the history; False where that failed."""
        manifest = self.program.manifest

        def work() -> None:
            layout = self.layout()
            with manifest.sealing_lock(layout):
                manifest.add_checkpoint(layout)

        return self.attempt(work)

    def compact(self) -> bool:
        """Merges small segments; False where that failed."""
        return self.attempt(lambda: self.program.compact.compact_store(self.store()))

    def erase(self, *runs: str) -> bool:
        """Erases the payloads of runs; False where that failed."""
        return self._remove(
            lambda: self.program.erase.erase(self.store(), run_ids=runs), runs, is_erasure=True
        )

    def retain(self, *, gone: Sequence[str], kept: Sequence[str]) -> bool:
        """Removes all runs but those that are kept; False where that failed."""
        far = 4_000_000_000_000_000
        return self._remove(
            lambda: self.program.retain.retain(
                self.store(), older_than_s=1, now_us=far, pinned=kept
            ),
            gone,
            is_erasure=False,
        )

    def _remove(self, work: Callable[[], object], runs: Sequence[str], *, is_erasure: bool) -> bool:
        self.disk.mark(Removal(frozenset(runs), is_erasure, is_done=False))
        if not self.attempt(work):
            return False
        self.disk.mark(Removal(frozenset(runs), is_erasure, is_done=True))
        return True

    def attempt(self, work: Callable[[], object]) -> bool:
        """Does something that a failing disk may make impossible; False where it did."""
        try:
            work()
        except Failure:
            return False
        except Killed:
            self.disk.revive()
            return False
        return True

    def end(self) -> None:
        """Frees what the writers hold, without another promise."""
        for writer in self.writers:
            writer.kill()


class _NoSealer:
    """In the place of the process that seals beside a recording: scenarios seal themselves."""

    def start(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def forget(self) -> None:
        pass


class Writer:
    """A process that records, as far as the disk can tell.

    Attributes:
        recorded: all that it was told is recorded, in order.
    """

    def __init__(self, world: World, options: dict[str, Any]) -> None:
        self.recorded: list[Key] = []
        self._world = world
        self._options = {"sync_interval_s": NEVER_S, "seal_on_close": False} | options
        self._unsynced: list[Key] = []
        self._failed_syncs = 0
        self._seqs: dict[str, int] = {}
        self._recorder: Any = None
        self._is_dead = False

    @property
    def is_dead(self) -> bool:
        """True when nothing more comes from it."""
        return self._is_dead

    @property
    def recorder(self) -> Any:
        """The recorder under test; None while it cannot be made."""
        if self._recorder is None and not self._is_dead:
            world = self._world

            def make() -> None:
                self._recorder = world.program.recorder.Recorder(
                    world.root, disk=world.disk, **self._options
                )
                self._recorder._sealer = _NoSealer()

            world.attempt(make)
        return self._recorder

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """Records one event, and marks what was promised about it."""
        world = self._world
        recorder = self.recorder
        if recorder is None:
            return False
        if isinstance(event, RunStarted):
            event = recorder._redacting.stamped(event)  # as it is to be read back
        key = world.expect(event, messages)
        failed, dropped = world.disk.failed, recorder.dropped_events
        failed_syncs, journal = world.disk.failed_syncs, recorder._journal
        kept = recorder.emit(event, messages=messages, durable=durable)
        self._failed_syncs += world.disk.failed_syncs - failed_syncs
        world.dropped += recorder.dropped_events - dropped
        if kept or recorder.dropped_events == dropped:
            self.recorded.append(key)
            self._unsynced.append(key)
            world.disk.mark(Promise((key,), durable=False))
        if kept and durable:
            self.promise_durable()
        elif world.disk.failed != failed:
            self._unsynced.clear()  # a sync that fails may lose what came before
        if recorder._journal is not journal:
            self._unsynced.clear()  # a sync is of one journal
        return bool(kept)

    def promise_durable(self) -> None:
        """Marks that all so far was synced."""
        disk = self._world.disk
        knows_all = disk.failed_syncs == self._failed_syncs
        disk.mark(Promise(tuple(self._unsynced), durable=True, blobs=knows_all))
        self._unsynced.clear()

    def call(self, run: str, *, size: int = 30, durable: bool = False, text: str = "") -> bool:
        """A tool call, the next event of its run."""
        result = text or f"{run}-{self._seqs.get(run, 0)} ".ljust(size, "x")
        event = ToolCall(
            run_id=run,
            seq=self._next(run),
            at=7_000_000,
            tool_name="search",
            args="{}",
            result=result,
        )
        return self.emit(event, durable=durable)

    def ask(self, run: str, *texts: str, durable: bool = False) -> bool:
        """A model call with these messages."""
        messages = [Message("user", text) for text in texts]
        event = ModelCall(
            run_id=run,
            seq=self._next(run),
            at=8_000_000,
            provider="p",
            prompt_added=tuple(message.digest for message in messages),
        )
        return self.emit(event, messages=messages, durable=durable)

    def start(self, run: str) -> bool:
        """The beginning of a run."""
        return self.emit(RunStarted(run_id=run, seq=self._next(run), at=6_000_000, agent="a"))

    def stop(self, run: str) -> bool:
        """The end of a run, durable as always."""
        event = RunStopped(run_id=run, seq=self._next(run), at=9_000_000, answer="done")
        return self.emit(event, durable=True)

    def _next(self, run: str) -> int:
        seq = self._seqs.get(run, 0)
        self._seqs[run] = seq + 1
        return seq

    def join(self) -> None:
        """Returns once the journals that had their time are closed."""
        if self._recorder is not None:
            for journal in self._recorder._retired:
                journal.join()

    def close(self) -> None:
        """Ends as a program ends that closes its recorder."""
        failed = self._world.disk.failed
        if self._recorder is not None:
            self._recorder.close()
            if self._world.disk.failed == failed:
                self.promise_durable()
        self._is_dead, self._recorder = True, None

    def kill(self) -> None:
        """Ends as by SIGKILL: nothing is synced, the lock is gone."""
        recorder, self._recorder, self._is_dead = self._recorder, None, True
        if recorder is not None and recorder._journal is not None:
            is_closing = recorder._journal._is_closing
            recorder.after_fork_in_child()
            is_closing.set()
