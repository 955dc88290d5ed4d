"""The SQLite file of the shared state: opened, checked, waited for."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from flightlog.control.owner import give_to_owner
from flightlog.errors import NewerFormatError, StoreError

SCHEMA_VERSION = 1
"""Raised by one with any change to a table of any module."""

DAMAGED_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_APPLICATION_ID = 0x666C6F67  # "flog"
_TURN_S = 0.005
_RETRY_S = 0.0002
_MARKS = """
    SELECT (SELECT user_version FROM pragma_user_version),
           (SELECT application_id FROM pragma_application_id),
           count(*)
    FROM sqlite_master
"""

T = TypeVar("T")


class StateFile:
    """An open file, which file it is, and how many of the declared tables it has for sure."""

    def __init__(self, db: sqlite3.Connection, identity: tuple[int, int] | None) -> None:
        self.db = db
        self.tables = 0
        self._identity = identity
        self._finalizer = weakref.finalize(self, db.close)

    @classmethod
    def at(cls, path: Path | None, timeout_s: float) -> StateFile:
        """Opens the file, or makes it; only its owner may read it."""
        if path is None:
            return cls(_connection(":memory:"), None)
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
        opened = cls(_connection(str(path)), _identity(path))
        try:
            patiently(lambda: _prepare(opened.db, path), timeout_s)
        except BaseException:
            opened.close()
            raise
        return opened

    def is_in_place(self, path: Path | None) -> bool:
        """False when the file was moved away or replaced since."""
        return path is None or _identity(path) == self._identity

    def close(self) -> None:
        self._finalizer()

    def abandoned(self) -> StateFile:
        """Itself, no longer to be closed at exit."""
        self._finalizer.detach()
        return self


def _connection(name: str) -> sqlite3.Connection:
    """A connection without implicit transactions, for any thread that holds the lock."""
    return sqlite3.connect(name, timeout=_TURN_S, isolation_level=None, check_same_thread=False)


def patiently(action: Callable[[], T], timeout_s: float) -> T:
    """Repeats an action of SQLite while another process has the file locked.

    SQLite's own waiting grows to 100 ms between two looks: with many processes
    some would wait for seconds. So it gets turns of a few milliseconds.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in BUSY_CODES or time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)  # in some cases SQLite does not wait at all


@contextmanager
def committed(db: sqlite3.Connection, timeout_s: float) -> Iterator[None]:
    """A write transaction that is committed at the end, or rolled back by an exception."""
    _rolled_back(db)  # what an interrupt left open between two lines
    patiently(lambda: db.execute("BEGIN IMMEDIATE"), timeout_s)
    try:
        yield
        patiently(lambda: db.execute("COMMIT"), timeout_s)
    except BaseException:
        _rolled_back(db)
        raise


def scrub(db: sqlite3.Connection, timeout_s: float) -> None:
    """Writes the whole file anew and empties the log beside it."""
    patiently(lambda: db.execute("VACUUM"), timeout_s)
    patiently(lambda: _emptied_log(db), timeout_s)


def _emptied_log(db: sqlite3.Connection) -> None:
    is_busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        error = sqlite3.OperationalError("the log is in use")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error


def _rolled_back(db: sqlite3.Connection) -> None:
    """Ends an open transaction; SQLite itself ended it after some errors."""
    if db.in_transaction:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")


def _make_private(path: Path) -> None:
    """Makes an empty file that only its owner may read, unless there is one.

    Without opening it under its name: closing any descriptor of a file takes away the
    locks that SQLite holds on it elsewhere in this process.
    """
    if os.geteuid() == 0 and path.parent.stat().st_uid != 0 and _make_for_owner(path):
        return
    with suppress(FileExistsError, PermissionError):  # some systems let only root do this
        os.mknod(path, 0o600 | stat.S_IFREG)


def _make_for_owner(path: Path) -> bool:
    """As root: makes the file in its owner's name; False where there are no hard links.

    SQLite gives the files -wal and -shm to the owner of this one.
    """
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, path.parent)
        with suppress(FileExistsError):
            os.link(new, path, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(descriptor)
        new.unlink(missing_ok=True)
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - at every use, and twice as quick as Path.stat
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Checks that the file is ours and not newer, marks a new one, and switches to WAL."""
    if _version(db, path) == 0:
        db.execute("BEGIN IMMEDIATE")
        try:
            if _version(db, path) == 0:
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            _rolled_back(db)
            raise
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Schema version of the file; 0 is a new, empty one."""
    # One statement, one moment: another process may be making the file just now.
    version, mark, objects = db.execute(_MARKS).fetchone()
    is_empty = objects == 0
    if mark != _APPLICATION_ID and not (mark == version == 0 and is_empty):
        raise StoreError(
            "is a database of another program",
            where=str(path),
            hint="Move it away; flightlog makes its own.",
        )
    if version > SCHEMA_VERSION:
        raise NewerFormatError(
            f"the shared state has schema version {version}, this flightlog knows {SCHEMA_VERSION}",
            where=str(path),
            hint="Upgrade flightlog in every process on this store.",
        )
    return int(version)
