"""One small SQLite file per store: what its processes know in common, changed atomically.

Why SQLite: transactions over processes that survive a kill at any moment come
with Python; no server and no dependency. The file is for processes of one
machine: WAL needs memory that they share, so not for network file systems.

A commit survives the death of the process at once; the last moments before a
power cut may be missing, but the file stays whole (WAL, synchronous=NORMAL).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flightlog.control.state_file import (
    BUSY_CODES,
    DAMAGED_CODES,
    StateFile,
    committed,
    patiently,
    scrub,
)
from flightlog.errors import DamagedError, StoreError

DEFAULT_TIMEOUT_S = 2.0

Value = str | int | float | bytes | None
Row = tuple[Any, ...]


class SharedState:
    """The state that the processes on a store share. Threads may use it; so may a forked child.

    Nothing is opened or created before the first transaction; `read` never
    creates the file. Each module declares its tables:

        state.declare("CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY) STRICT")
        with state.transaction() as db:
            db.execute("INSERT INTO things VALUES (?)", ("a",))
        rows = state.read("SELECT name FROM things")

    All failures of SQLite and of the file are a `StoreError`.

    Args:
        path: the file; its folder is made with it. None: in this process only;
            a forked child goes on with a copy.
        timeout_s: longest wait for other threads and for other processes, seconds each.
    """

    def __init__(self, path: Path | None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._lock = threading.RLock()
        self._is_busy = False
        self._statements: dict[str, None] = {}
        self._open: StateFile | None = None
        self._is_forked_midway = False
        _watch_forks(self)

    @property
    def exists(self) -> bool:
        """True when there is state to read; a command that only shows it asks first."""
        return self.path is None or self.path.exists()

    def declare(self, *statements: str) -> None:
        """Adds tables and indexes: `CREATE ... IF NOT EXISTS`, run before the next transaction."""
        with self._lock:
            self._statements.update(dict.fromkeys(statements))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: sees all that was committed before, alone until its end.

        An exception in the body rolls it back. Keep the body short: every
        process on the store waits for it.

        Raises:
            StoreError: when the file is locked for longer than the timeout, the
                disk is full, the file is damaged or not ours, or a transaction
                of this thread is already open (a signal handler in the midst of one).
        """
        with self._alone():
            opened = self._connected()
            self._make_tables(opened)
            with committed(opened.db, self.timeout_s):
                yield opened.db

    def read(self, query: str, values: Sequence[Value] = ()) -> list[Row]:
        """The rows of one SELECT as committed at this moment; no rows when there is no file.

        Raises:
            StoreError: as in `transaction`.
        """
        with self._alone():
            opened = self._open_if_there()
            if opened is None:
                return []
            try:
                return self._rows(opened.db, query, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_ERROR or self._has_tables(opened):
                    raise
                self._make_tables(opened)  # only now, since that waits for writers
                return self._rows(opened.db, query, values)

    def scrub(self) -> None:
        """Writes the file anew, so that no byte of what was deleted is in it or beside it.

        Raises:
            StoreError: as in `transaction`; another process reads for longer than the timeout.
        """
        with self._alone():
            opened = self._open_if_there()
            if opened is not None and self.path is not None:
                scrub(opened.db, self.timeout_s)

    def close(self) -> None:
        """Closes the file; the next use opens it again. State in memory is gone."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock of this process's threads; makes all failures ours."""
        lock = self._lock  # a child that was forked in here gets another one
        if not lock.acquire(timeout=self.timeout_s):
            raise self._error("threads of this process hold the shared state too long")
        try:
            if self._is_forked_midway:
                raise self._error(
                    "this process was forked in the midst of a transaction of its parent",
                    "Start processes by spawn, or fork before the agents run.",
                )
            if self._is_busy:
                raise self._error("the shared state was asked for in the midst of its own use")
            self._is_busy = True
            try:
                yield
            finally:
                self._is_busy = False
        except (sqlite3.Error, OSError, OverflowError) as error:
            if self.path is not None:
                self.close()  # starts afresh
            raise self._described(error) from error
        finally:
            lock.release()

    def _connected(self) -> StateFile:
        """The open file; opened again where another file took its place."""
        if self._open is None or not self._open.is_in_place(self.path):
            self.close()
            self._open = StateFile.at(self.path, self.timeout_s)
        return self._open

    def _open_if_there(self) -> StateFile | None:
        """The open file, opened but never made."""
        if self._open is not None and self._open.is_in_place(self.path):
            return self._open
        return self._connected() if self.path is not None and self.path.exists() else None

    def _make_tables(self, opened: StateFile) -> None:
        """Makes the declared tables that are not there."""
        if not self._has_tables(opened):
            with committed(opened.db, self.timeout_s):
                for statement in self._statements:
                    opened.db.execute(statement)
            opened.tables = len(self._statements)

    def _has_tables(self, opened: StateFile) -> bool:
        return opened.tables == len(self._statements)

    def _rows(self, db: sqlite3.Connection, query: str, values: Sequence[Value]) -> list[Row]:
        return patiently(lambda: db.execute(query, values).fetchall(), self.timeout_s)

    def _described(self, error: sqlite3.Error | OSError | OverflowError) -> StoreError:
        """One of our errors, with what to do."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY_CODES:
            return self._error(
                f"locked by another process for longer than {self.timeout_s:g} s",
                "Look for a process on this store that hangs (fuser names it) and end it.",
            )
        if code in DAMAGED_CODES:
            return DamagedError(
                f"the shared state is damaged ({error})",
                where=str(self.path),
                hint="Move it away together with the files -wal and -shm beside it. Breakers, "
                "tenants' windows and waiting approvals then start from nothing; traces are "
                "not in it.",
            )
        return self._error(
            f"the shared state cannot be used: {error}",
            "Look at the free space and at the rights of the folder.",
        )

    def _error(self, what: str, hint: str = "") -> StoreError:
        return StoreError(what, where=str(self.path or "state in memory"), hint=hint)

    def _before_fork(self) -> None:
        """Closes the file: SQLite's record of its locks in memory must not reach a child."""
        if self._lock.acquire(timeout=2 * self.timeout_s) and not self._is_busy:
            if self.path is not None:
                self.close()
            return
        self._is_forked_midway = True

    def _after_fork_in_parent(self) -> None:
        self._is_forked_midway = False
        with suppress(RuntimeError):  # not acquired
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        if self._is_forked_midway and self._open is not None:
            _ABANDONED.append(self._open.abandoned())
            self._open = None


def encoded(name: str) -> bytes:
    """A name as a value for a BLOB column: any text, also with lone surrogates in it."""
    return name.encode("utf-8", "surrogatepass")


def decoded(name: bytes) -> str:
    """The name that `encoded` made a value of."""
    return name.decode("utf-8", "surrogatepass")


_STATES: weakref.WeakSet[SharedState] = weakref.WeakSet()
_ABANDONED: list[StateFile] = []
"""Connections of the parent that a child must neither use nor close."""


def _watch_forks(state: SharedState) -> None:
    _STATES.add(state)


def _before_fork() -> None:
    for state in list(_STATES):
        state._before_fork()


def _after_fork_in_parent() -> None:
    for state in list(_STATES):
        state._after_fork_in_parent()


def _after_fork_in_child() -> None:
    for state in list(_STATES):
        state._after_fork_in_child()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
