"""The append-only journal of one writer: one `write` per append, no queue before the kernel.

What `append` returned from survives the death of the process; what `sync`
returned from survives the loss of power. The file lock that a living writer
holds is how readers and sealers tell it from a dead one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import sys
import threading
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from flightlog._version import __version__
from flightlog.recorder.disk import Disk, sync_files
from flightlog.recorder.frames import FILE_MAGIC, FrameType, pack, seed_of
from flightlog.recorder.inside import INSIDE
from flightlog.recorder.layout import Layout
from flightlog.trace.ids import new_id
from flightlog.trace.versions import FORMAT_VERSION

NEW_SUFFIX: Final = ".new"
_REMEMBERED_FILES: Final = 1 << 14
_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE))
_BIRTH_S: Final = 0.05
"""Longest wait for a new thread to begin."""
_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote a journal, and in which format.

    Attributes:
        format: FORMAT_VERSION of the writer.
        journal_id: the journal's name.
        pid: process id of the writer.
        host: machine of the writer.
        boot_id: that boot of the machine; None where the system does not tell.
        started_us: when the journal was opened, microseconds since the epoch, UTC.
        flightlog: version of the writer's package.
        continues: the journal that the same writer wrote before; None for its first.
        open_runs: the runs of that one that had not ended by then.
    """

    format: int
    journal_id: str = ""
    pid: int | None = None
    host: str | None = None
    boot_id: str | None = None
    started_us: int | None = None
    flightlog: str | None = None
    continues: str | None = None
    open_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """When a journal is synced and when it has had its time.

    Attributes:
        sync_interval_s: longest time that an append stays unsynced, in seconds.
        max_bytes: size from which another journal takes over.
        max_age_s: age from which another journal takes over, in seconds.
    """

    sync_interval_s: float = 1.0
    max_bytes: int = 64 << 20
    max_age_s: float = 3600.0


class Journal:
    """An open journal. `append` is called under the recorder's lock, `sync` from any thread.

    Attributes:
        is_due: it is so large or so old that another one should take over.

    Where the system gives no thread, each append is synced at once.

    Attributes:
        journal_id: its name.
        path: its file.
        is_usable: False once it is closed, could not be synced, or lost its file; what is
            recorded from then on needs another one.
        sync_error: why it could not be synced.
        is_due: it has had its time.

    Args:
        layout: the store.
        limits: when to sync, and when the journal has had its time.
        continues: the journal that the same writer wrote before.
        open_runs: the runs that have not ended yet.
        on_idle: called by the journal's own thread whenever it holds nothing.

    Raises:
        OSError: the journal cannot be created.
    """

    def __init__(
        self,
        layout: Layout,
        limits: JournalLimits,
        *,
        continues: str | None = None,
        open_runs: Iterable[str] = (),
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.journal_id = new_id()
        self.path = layout.journal_file(self.journal_id)
        self._seed = seed_of(self.journal_id)
        self.sync_error: OSError | None = None
        self.is_usable = True
        self.is_due = False
        self._pid = os.getpid()
        self._disk = layout.disk
        self._write = self._disk.write
        self._descriptor, header_size = _create(
            self._disk,
            self.path,
            Header(
                format=FORMAT_VERSION,
                journal_id=self.journal_id,
                pid=os.getpid(),
                host=socket.gethostname(),
                boot_id=_boot_id(),
                started_us=time.time_ns() // 1000,
                flightlog=__version__,
                continues=continues,
                open_runs=tuple(open_runs),
            ),
        )
        self._identity = _identity(self._descriptor)
        # From `_checked_bytes` on an append has a closer look.
        # A header that names many runs alone does not make a journal due.
        self._checked_bytes = self._max_bytes = max(limits.max_bytes, 2 * header_size)
        # Size and next sequence number of what is in the file for sure, in one
        # tuple, so that an exception out of a signal handler cannot split them.
        self._state = (header_size, 1)
        self._pending: tuple[int, int] | None = None
        self._synced_size = 0
        self._sync_lock = threading.RLock()
        self._unsynced_files: deque[Path] = deque()
        self._synced_files = set[Path]()
        self._has_synced_name = False
        self._is_closing = threading.Event()
        self._has_ended = threading.Event()
        self._on_retired: Callable[[], None] | None = None
        self._on_idle = on_idle
        self._has_syncer = self._started(limits)
        if not self._has_syncer:
            self._checked_bytes = 0

    def _started(self, limits: JournalLimits) -> bool:
        """Starts the journal's own thread; False where there is none.

        Not through `threading.Thread`, whose `start` waits for the new thread's first steps
        however long: a finaliser in there may wait for the lock of the `emit` that waits here.
        A short wait spares a process that forks in C a thread in the middle of its birth.
        """
        if sys.is_finalizing():  # it would never begin
            return False
        try:
            begun = threading.Event()
            start_new_thread(self._live, (limits, begun))
        except (RuntimeError, MemoryError):  # the system has no more of them
            return False
        begun.wait(_BIRTH_S)
        return True

    @property
    def is_closed(self) -> bool:
        """True when nothing holds the file any more."""
        return self._descriptor < 0

    @property
    def has_records(self) -> bool:
        """True when something was appended."""
        return self._state[1] > 1

    @property
    def records(self) -> int:
        """How many were appended."""
        return self._state[1] - 1

    @property
    def is_removed(self) -> bool:
        """True when the file has no name any more: all that is in it goes with the process."""
        return self._is_own() and os.fstat(self._descriptor).st_nlink == 0

    def is_stuck(self, *, patience_s: float = 0.0) -> bool:
        """True when another thread is syncing, and goes on with that for this long."""
        if self._sync_lock.acquire(timeout=patience_s):
            self._sync_lock.release()
            return False
        return True

    def append(self, frame_type: int, payload: bytes) -> None:
        """Appends one record with one `write`.

        Raises:
            OSError: nothing of it is in the journal.
        """
        if self._pending is not None:
            self._reconcile()
        self._put(pack(frame_type, self._state[1], payload, self._seed), 1)

    def append_all(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Appends records (type, payload) with one `write`: all of them or none.

        Raises:
            OSError: nothing of it is in the journal.
        """
        if self._pending is not None:
            self._reconcile()
        frames = [
            pack(frame_type, number, payload, self._seed)
            for number, (frame_type, payload) in enumerate(records, self._state[1])
        ]
        self._put(b"".join(frames), len(frames))

    def _put(self, content: bytes, frames: int) -> None:
        size, sequence = self._state
        self._pending = (size + len(content), sequence + frames)
        try:
            written = self._write(self._descriptor, content)
            if written != len(content):
                self._disk.write_all(self._descriptor, content[written:])
        except OSError:
            self._undo()
            raise
        self._state = self._pending
        self._pending = None
        if self._state[0] >= self._checked_bytes:
            self._look_closer()

    def _look_closer(self) -> None:
        if self._state[0] >= self._max_bytes:
            self.is_due = True
        if not self._has_syncer:
            with contextlib.suppress(OSError):  # kept in sync_error
                self.sync()

    def _is_own(self) -> bool:
        """False when the application has closed the descriptor, and perhaps opened its own there.

        Daemons close all that they inherit. The number is then not to be used, nor closed.
        """
        if self._descriptor < 0:
            return False
        with contextlib.suppress(OSError):
            if _identity(self._descriptor) == self._identity:
                return True
        self._descriptor = -1
        self.is_usable = False
        self.sync_error = OSError(
            errno.EBADF, "the journal's descriptor was closed", str(self.path)
        )
        return False

    def _undo(self) -> None:
        """Takes back what a failed write left behind, also where that is all of it."""
        self._pending = self._state
        self._reconcile()

    def _reconcile(self) -> None:
        """Makes file and state agree after a write that failed or was interrupted."""
        if self._pending is None:
            return
        self._require_own()
        size = os.fstat(self._descriptor).st_size
        if size == self._pending[0]:
            self._state = self._pending
        elif size != self._state[0]:
            self._disk.ftruncate(self._descriptor, self._state[0])
        self._pending = None

    def sync_with_next(self, path: Path) -> None:
        """Has `sync` bring this file (a blob) to the disk before the journal that names it."""
        self._unsynced_files.append(path)

    def sync(self) -> None:
        """Returns when all that was appended before is on the disk.

        Callers that wait here together share one `fdatasync`: the first does
        it for all that was appended until then.

        Raises:
            OSError: it may not be on the disk; also when an earlier sync failed, since
                the kernel then forgets which pages it could not write.
        """
        asked_size = self._state[0]
        with self._sync_lock:
            if self.sync_error is not None:
                raise self.sync_error
            if self._synced_size >= asked_size:
                return
            try:
                size = self._state[0]
                self._require_own()
                self._sync_files()
                self._disk.fdatasync(self._descriptor)
                self._require_name()
                if not self._has_synced_name:
                    self._disk.sync_folder(self.path.parent)
                    self._disk.sync_folder(self.path.parent.parent)
                    self._has_synced_name = True
            except OSError as error:
                # Out of descriptors for a folder or a blob: nothing is known to be lost.
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    self.sync_error = error
                    self.is_usable = False
                raise
            self._synced_size = max(self._synced_size, size)

    def _require_own(self) -> None:
        if not self._is_own():
            raise self.sync_error or OSError(errno.EBADF, "the journal is closed", str(self.path))

    def _require_name(self) -> None:
        # What was appended to a removed file is nowhere once the process ends.
        if os.fstat(self._descriptor).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the journal was removed", str(self.path))

    def _sync_files(self) -> None:
        """Brings the blobs to the disk that the records until now name."""
        fresh = set[Path]()
        while self._unsynced_files:
            fresh.add(self._unsynced_files.popleft())
        try:
            sync_files(self._disk, fresh - self._synced_files)
        except BaseException:
            self._unsynced_files.extend(fresh)
            raise
        if len(self._synced_files) >= _REMEMBERED_FILES:
            self._synced_files.clear()
        self._synced_files |= fresh

    def _live(self, limits: JournalLimits, begun: threading.Event) -> None:
        """The journal's own thread: syncs, grows old, and closes it once it is retired."""
        INSIDE.depth = 1
        begun.set()
        try:
            self._sync_until_closing(limits)
            if self._on_retired is not None:
                self.close()
                self._on_retired()
        finally:
            self._has_ended.set()
            self._on_idle()

    def _sync_until_closing(self, limits: JournalLimits) -> None:
        ends_s = time.monotonic() + limits.max_age_s
        while not self._is_closing.wait(limits.sync_interval_s):
            # An error is kept in sync_error, which the recorder looks at.
            with contextlib.suppress(OSError, MemoryError):
                self.sync()
            if self.has_records and time.monotonic() >= ends_s:
                self.is_due = True
            self._on_idle()

    def put_off(self) -> None:
        """Goes on for as long again, since no other journal could take over."""
        self.is_due = False
        self._max_bytes = 2 * self._state[0]
        if self._has_syncer:
            self._checked_bytes = self._max_bytes

    def retire(self, then: Callable[[], None]) -> None:
        """Has the journal closed by its own thread, and something done after that.

        Nothing is appended any more. Who waits in `sync` for what was appended still gets
        its answer.
        """
        self._on_retired = then
        self._is_closing.set()
        if not self._has_syncer:
            self.close()
            then()

    def join(self) -> None:
        """Returns once a retired journal is closed."""
        if self._has_syncer:
            self._has_ended.wait()

    def close(self) -> None:
        """Syncs and closes; the journal then counts as its writer's last word.

        In a child that was forked, which may also get here when it ends, only lets go of it.
        """
        if os.getpid() != self._pid:
            self.abandon()
            return
        self._is_closing.set()
        try:
            self.sync()
        except OSError:
            pass  # kept in sync_error; the bytes are with the kernel all the same
        finally:
            self.is_usable = False
            with self._sync_lock:
                if self._is_own():
                    # Not by closing alone: a child forked a moment ago may still hold a copy.
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                self._close_descriptor()

    def abandon(self) -> None:
        """Lets go of the journal in a forked child; the parent goes on with it.

        The lock belongs to the open file that both processes share: the child
        closes its copy, so that the journal counts as dead when the parent is.
        No lock of this object is taken: its holder may not exist in the child.
        """
        self._sync_lock = threading.RLock()
        self._is_closing = threading.Event()
        self._has_ended = threading.Event()
        self._has_ended.set()
        if self._is_own():
            self._close_descriptor()
        self.is_usable = False

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _create(disk: Disk, path: Path, header: Header) -> tuple[int, int]:
    """A new journal, locked and with its header before it gets its name; (descriptor, size)."""
    temporary = path.with_suffix(NEW_SUFFIX)
    descriptor = disk.create(temporary, append=True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        content = FILE_MAGIC + pack(FrameType.HEADER, 0, msgspec.json.encode(header))
        disk.write_all(descriptor, content)
        disk.rename(temporary, path)
    except BaseException:
        disk.close(descriptor)
        disk.unlink(temporary)
        raise
    return descriptor, len(content)


def _boot_id() -> str | None:
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
