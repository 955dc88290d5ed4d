"""A disk that does what it is told, remembers what is synced, and fails where it is told to.

Everything is really done below a folder, and logged. `Machine` replays the log and knows at
each point which sectors and which names have reached the medium for sure; from that it
draws the states that a loss of power could leave behind.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from flightlog.recorder.disk import Disk

SECTOR: Final = 512
ROOT: Final = 0
"""Node of the folder that the disk is below."""


class Write(NamedTuple):
    """Bytes that went to a file, into the page cache."""

    node: int
    at: int
    content: bytes


class Cut(NamedTuple):
    """A file that was made shorter or longer."""

    node: int
    size: int


class Synced(NamedTuple):
    """What of a file or folder was brought to the medium: all before this place in the log.

    With `failed` it was not, and the kernel has forgotten that it was to be.
    """

    node: int
    upto: int
    failed: bool = False


class Named(NamedTuple):
    """A name in a folder, now of this node; None where the name is gone."""

    folder: int
    name: str
    node: int | None
    is_folder: bool = False
    removed: str | None = None
    """Name in the same folder that goes in the same moment, as in a rename."""


class Mark(NamedTuple):
    """What the program under test has promised by now."""

    what: Any


Logged = Write | Cut | Synced | Named | Mark


class Killed(BaseException):
    """The process under test is dead from here on."""


@dataclass(slots=True)
class Fault:
    """Fails some calls.

    Attributes:
        call: name of the method of `Disk`; "sync_folder" for the fsync of a folder.
        first: the call from which on it fails, from 0.
        times: how many fail.
        error: errno of the failure; None writes only a part, without an error.
        part: share of the bytes that a failing write still puts into the file.
    """

    call: str
    first: int
    times: int = 1
    error: int | None = errno.EIO
    part: float = 0.5

    def hits(self, count: int) -> bool:
        return self.first <= count < self.first + self.times


class SimulatedDisk(Disk):
    """Does the real thing below `base`, and logs it.

    Attributes:
        log: all that changed something, and the marks of the test.
        calls: how often each call was made.
        failed: how many calls were made to fail.
        failed_syncs: how many of them were to bring a file or a folder to the medium.
        hooks: functions by name of a call, each called once, before the call is done.
        written: tells of each write.

    Args:
        base: an empty folder, which counts as durable.
        faults: which calls fail.
    """

    def __init__(self, base: Path, faults: Sequence[Fault] = ()) -> None:
        self.base = base
        self.log: list[Logged] = []
        self.calls: dict[str, int] = {}
        self.failed = 0
        self.failed_syncs = 0
        self.hooks: dict[str, Any] = {}
        self.written = threading.Condition()
        self._lives: int | None = None
        self._faults = faults
        self._nodes: dict[Path, int] = {base: ROOT}
        self._count = ROOT
        self._by_inode: dict[int, int] = {base.stat().st_ino: ROOT}
        self._open: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    def mark(self, what: Any) -> None:
        """Notes a promise that was made to the caller."""
        self.log.append(Mark(what))

    def kill_after(self, calls: int) -> None:
        """Kills the process after so many calls: each later one raises and does nothing."""
        self._lives = calls

    def revive(self) -> None:
        """Another process goes on."""
        self._lives = None

    # --- the calls of Disk -------------------------------------------------

    def create(self, path: Path, *, append: bool = False) -> int:
        self._enter("create")
        descriptor = super().create(path, append=append)
        node = self._new_node(path)
        self._sizes[node] = 0
        self._open[descriptor] = node
        self._name(path, node)
        return descriptor

    def write(self, descriptor: int, content: Any) -> int:  # type: ignore[override]
        fault = self._enter("write", raises=False)
        data = bytes(content)
        if fault is not None:
            most = len(data) if fault.error is not None else len(data) - 1
            data = data[: min(int(len(data) * fault.part), most)]
        node, written = self._open[descriptor], len(data)
        if data or fault is None:
            written = os.write(descriptor, data)
        assert written == len(data)
        self.log.append(Write(node, self._sizes[node], data))
        self._sizes[node] += written
        with self.written:
            self.written.notify_all()
        if fault is not None and fault.error is not None:
            raise OSError(fault.error, os.strerror(fault.error))
        return written

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._enter("ftruncate")
        os.ftruncate(descriptor, size)
        node = self._open[descriptor]
        self._sizes[node] = size
        self.log.append(Cut(node, size))

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync" if descriptor in self._open else "sync_folder", descriptor)

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._enter("rename")
        super().rename(source, target)
        node = self._nodes.pop(source)
        self._nodes[target] = node
        if source.parent == target.parent:
            self._name(target, node, removed=source.name)
        else:
            self._name(target, node)
            self._name(source, None)

    def unlink(self, path: Path) -> None:
        self._enter("unlink")
        is_there = path.exists()
        super().unlink(path)
        if is_there and path in self._nodes:
            del self._nodes[path]
            self._name(path, None)

    def mkdir(self, path: Path) -> None:
        for folder in reversed((path, *path.parents)):
            if not folder.is_dir():
                self._enter("mkdir")
                super().mkdir(folder)
                node = self._new_node(folder)
                self._name(folder, node, is_folder=True)

    # --- what they are made of ----------------------------------------------

    def _sync(self, call: str, descriptor: int) -> None:
        upto = len(self.log)  # what comes while the disk is at work is not promised
        fault = self._enter(call, raises=False)
        node = self._open.get(descriptor)
        if node is None:
            node = self._by_inode.get(os.fstat(descriptor).st_ino)
            if node is None:  # a folder that is not below `base`
                return
        if fault is None:
            self.log.append(Synced(node, upto))
        else:
            self.failed_syncs += 1
            self.log.append(Synced(node, upto, failed=True))
            raise OSError(fault.error, os.strerror(fault.error or errno.EIO))

    def _enter(self, call: str, *, raises: bool = True) -> Fault | None:
        if self._lives is not None:
            if self._lives == 0:
                raise Killed
            self._lives -= 1
        count = self.calls.get(call, 0)
        self.calls[call] = count + 1
        hook = self.hooks.pop(call, None)
        if hook is not None:
            hook()
        fault = next((f for f in self._faults if f.call == call and f.hits(count)), None)
        if fault is not None:
            self.failed += 1
            if raises:
                code = fault.error or errno.EIO
                raise OSError(code, os.strerror(code))
        return fault

    def _new_node(self, path: Path) -> int:
        self._count += 1
        self._nodes[path] = self._count
        self._by_inode[path.stat().st_ino] = self._count
        return self._count

    def _name(
        self, path: Path, node: int | None, *, is_folder: bool = False, removed: str | None = None
    ) -> None:
        folder = self._nodes[path.parent]
        self.log.append(Named(folder, path.name, node, is_folder, removed))


# --- replaying the log ----------------------------------------------------------


@dataclass(slots=True)
class _File:
    """A file as programs see it (`seen`) and as the medium has it for sure (`medium`)."""

    seen: bytearray = field(default_factory=bytearray)
    medium: bytes = b""
    dirty: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """Sectors that a failed sync has forgotten: no later sync brings them."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(place in the log, size from then on) since the file was last synced."""

    def touch(self, start: int, stop: int) -> None:
        """These bytes are newer than those on the medium."""
        sectors = range(start // SECTOR, -(-stop // SECTOR))
        self.dirty.update(sectors)
        self.gone.difference_update(sectors)

    def sync(self, upto: int) -> None:
        """All that was written before this place is on the medium, but for what is gone."""
        later = [(place, size) for place, size in self.sizes if place >= upto]
        size = len(self.seen)
        if later:  # files only grow, so all after the size at that time is newer
            size = next((s for place, s in reversed(self.sizes) if place < upto), len(self.medium))
        medium = self.seen[:size]
        for number in self.gone:
            span = slice(number * SECTOR, min((number + 1) * SECTOR, size))
            medium[span] = self.medium[span].ljust(max(span.stop - span.start, 0), b"\0")
        self.medium = bytes(medium)
        self.sizes = later
        self.dirty.clear()
        if later:
            self.dirty.update(range(size // SECTOR, -(-len(self.seen) // SECTOR)))

    @property
    def safe(self) -> int:
        """Bytes from the beginning that are on the medium for sure."""
        if self.seen.startswith(self.medium):
            return len(self.medium)
        pairs = enumerate(zip(self.seen, self.medium, strict=False))
        return next((place for place, (a, b) in pairs if a != b), len(self.seen))


@dataclass(slots=True)
class _Folder:
    durable: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[int, Named]] = field(default_factory=list)


Choice = Literal["killed", "lost", "names", "data", "zeros", "prefix", "stale", "random"]
CHOICES: Final[tuple[Choice, ...]] = (
    "killed",
    "lost",
    "names",
    "data",
    "zeros",
    "prefix",
    "stale",
    "random",
)
"""What becomes of what was not synced: all of it is there; none; names only, with sizes and
zeros; data without new names; tails of zeros; a prefix of each; old bytes of other files in
the place of what was not written; anything."""


class Machine:
    """The state of the medium after the first operations of a log."""

    def __init__(self) -> None:
        self.files: dict[int, _File] = {}
        self.folders: dict[int, _Folder] = {ROOT: _Folder()}
        self.marks: list[Any] = []
        self.has_failed_syncs = False
        self._place = 0

    def apply(self, step: Logged) -> None:
        """Takes the next operation of the log."""
        match step:
            case Write(node, at, content):
                file = self.files[node]
                file.seen[at : at + len(content)] = content
                file.touch(at, at + len(content))
                file.sizes.append((self._place, len(file.seen)))
            case Cut(node, size):
                file = self.files[node]
                file.touch(min(size, len(file.seen)), max(size, len(file.seen)))
                del file.seen[size:]
                file.seen.extend(bytes(size - len(file.seen)))
                file.sizes.append((self._place, size))
            case Synced():
                self._synced(step)
            case Named():
                self._named(step)
            case Mark(what):
                self.marks.append(what)
        self._place += 1

    def _named(self, step: Named) -> None:
        self.folders[step.folder].pending.append((self._place, step))
        if step.node is None:
            return
        if step.is_folder:
            self.folders.setdefault(step.node, _Folder())
        else:
            self.files.setdefault(step.node, _File())

    def _synced(self, step: Synced) -> None:
        self.has_failed_syncs |= step.failed
        folder = self.folders.get(step.node)
        if folder is not None:
            if not step.failed:
                for place, named in folder.pending:
                    if place < step.upto:
                        _rename(folder.durable, named)
                folder.pending = [one for one in folder.pending if one[0] >= step.upto]
            return
        file = self.files[step.node]
        if step.failed:
            file.gone |= file.dirty
            file.dirty.clear()
            return
        file.sync(step.upto)

    def tree(self, choice: Choice, rng: random.Random) -> dict[str, bytes | None]:
        """What a loss of power leaves, by path below the base; None for a folder."""
        found: dict[str, bytes | None] = {}
        stale = [bytes(f.seen) for f in self.files.values()] if choice == "stale" else []
        self._walk(ROOT, "", choice, rng, stale, found)
        return found

    def _walk(
        self,
        node: int,
        prefix: str,
        choice: Choice,
        rng: random.Random,
        stale: list[bytes],
        found: dict[str, bytes | None],
    ) -> None:
        folder = self.folders[node]
        names = dict(folder.durable)
        for named in _kept([named for _, named in folder.pending], choice, rng):
            _rename(names, named)
        for name, child in names.items():
            if child in self.folders:
                found[prefix + name] = None
                self._walk(child, f"{prefix}{name}/", choice, rng, stale, found)
            else:
                found[prefix + name] = _content(self.files[child], choice, rng, stale)

    def safe_sizes(self) -> dict[str, int]:
        """By path, under the names that programs see: bytes that are on the medium for sure."""
        found: dict[str, int] = {}
        self._safe(ROOT, "", found, is_safe=True)
        return found

    def _safe(self, node: int, prefix: str, found: dict[str, int], *, is_safe: bool) -> None:
        folder = self.folders[node]
        names = dict(folder.durable)
        for _, named in folder.pending:
            _rename(names, named)
        for name, child in names.items():
            is_named = is_safe and folder.durable.get(name) == child
            if child in self.folders:
                self._safe(child, f"{prefix}{name}/", found, is_safe=is_named)
            else:
                found[prefix + name] = self.files[child].safe if is_named else 0


def _rename(names: dict[str, int], named: Named) -> None:
    if named.node is None:
        names.pop(named.name, None)
        return
    if named.removed is not None and names.get(named.removed) == named.node:
        del names[named.removed]
    names[named.name] = named.node


def _kept(pending: list[Named], choice: Choice, rng: random.Random) -> list[Named]:
    """Which of the changes of a folder that were not synced are there after all."""
    match choice:
        case "killed" | "names" | "zeros" | "stale":
            return pending
        case "lost" | "data":
            return []
        case "prefix":
            return pending[: rng.randint(0, len(pending))]
        case _:
            share = rng.choice((0.2, 0.5, 0.8))
            return [one for one in pending if rng.random() < share]


def _content(file: _File, choice: Choice, rng: random.Random, stale: list[bytes]) -> bytes:
    """The bytes of a file after the loss of power."""
    seen = bytes(file.seen)
    if choice == "killed":
        return seen  # the machine goes on: programs see what was written
    unsure = file.dirty | file.gone
    if not unsure and len(seen) == len(file.medium):
        return file.medium
    size, keeps = _size_and_share(file, choice, rng)
    if choice == "data" or keeps >= 1:
        kept = set(unsure) - (file.gone if rng.random() < 0.8 else set())
    else:
        kept = {number for number in sorted(unsure) if rng.random() < keeps}
    others = [one for one in stale if one != seen]
    filler = (rng.choice(others) if others else b"")[:size].ljust(size, b"\0")
    content = bytearray((file.medium[:size]).ljust(size, b"\0"))
    content[len(file.medium) : size] = filler[len(file.medium) : size]
    for number in kept:
        span = slice(number * SECTOR, min((number + 1) * SECTOR, size, len(seen)))
        if span.start < span.stop:
            content[span] = seen[span]
    return bytes(content)


def _size_and_share(file: _File, choice: Choice, rng: random.Random) -> tuple[int, float]:
    """The size that the medium tells, and which share of the unsynced sectors is written."""
    sizes = [len(file.medium), *(size for _, size in file.sizes)]
    match choice:
        case "lost":
            return len(file.medium), 0.0
        case "names":
            return len(file.seen), 0.0
        case "data":
            return len(file.seen), 1.0
        case "zeros" | "stale":
            return rng.choice(sizes), rng.choice((0.0, 0.0, 0.3, 0.7))
        case "prefix":
            top = len(file.seen)
            cut = rng.choice((rng.choice(sizes), rng.randint(0, top) // SECTOR * SECTOR))
            return max(min(cut, top), min(sizes)), 1.0
        case _:
            return rng.choice(sizes), rng.choice((0.0, 0.3, 0.5, 0.8, 1.0))


def crash_states(
    log: Sequence[Logged], rng: random.Random, *, per_place: int
) -> Iterator[tuple[Machine, Choice, dict[str, bytes | None]]]:
    """States that a crash could leave, at each place of the log: (machine, choice, tree).

    Each operation counts together with the promises that were made after it.
    """
    machine = Machine()
    for place, step in enumerate(log, 1):
        machine.apply(step)
        if place < len(log) and isinstance(log[place], Mark):
            continue
        choices = rng.sample(CHOICES, k=min(per_place, len(CHOICES)))
        choices += rng.choices(CHOICES[4:], k=per_place - len(choices))
        for choice in choices:
            yield machine, choice, machine.tree(choice, rng)


def materialise(tree: dict[str, bytes | None], base: Path) -> None:
    """Writes a state into an empty folder."""
    base.mkdir(mode=0o700)
    for name, content in tree.items():
        path = base / name
        if content is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(content)
