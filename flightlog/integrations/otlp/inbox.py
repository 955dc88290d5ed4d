"""The inbox of a collector: spans that are kept, and not yet in the journal as runs.

A span is acknowledged once it is in this SQLite file, committed and synced. It waits here
until its trace is whole, or nothing more came for a while, and is then recorded with its run.
Its body is then removed; its ids stay, so that a span that comes twice is taken once, and one
that comes late finds its run.

What lies here is redacted as in a journal, and encrypted where the store is.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flightlog.errors import DamagedError, StoreError
from flightlog.integrations.otlp.sealing import Sealing
from flightlog.integrations.otlp.spans import Span

FOLDER: Final = "inbox"
INBOX_FILE: Final = "spans.sqlite"
LOCK_FILE: Final = "lock"
MAX_TRACE_SPANS: Final = 20_000
"""A trace with more spans is recorded in parts, so that memory stays flat."""
_BUSY_S: Final = 30.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spans (
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, body BLOB, batch INTEGER, owner TEXT,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS traces (
    trace_id TEXT PRIMARY KEY, last_ms INTEGER NOT NULL, waiting INTEGER NOT NULL,
    has_top INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS waiting_traces ON traces (last_ms) WHERE waiting > 0;
CREATE TABLE IF NOT EXISTS runs (
    trace_id TEXT NOT NULL, owner TEXT NOT NULL, events INTEGER NOT NULL, steps INTEGER NOT NULL,
    PRIMARY KEY (trace_id, owner)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS batches (
    batch INTEGER PRIMARY KEY, trace_id TEXT NOT NULL
) STRICT;
"""
VERSION: Final = 1
"""Of the file; a newer one is not touched."""


@dataclass(frozen=True, slots=True)
class Written:
    """How much of a run is recorded.

    Attributes:
        events: so many, from the first.
        steps: model calls of the agent among them.
    """

    events: int
    steps: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Spans of one trace that are to be recorded together.

    Attributes:
        batch: number of this lot; the same spans have it until they are recorded.
        trace_id: their trace.
        spans: the spans.
        owners: span id -> run of those of the trace that were recorded before.
        runs: run -> how much of it was recorded before.
    """

    batch: int
    trace_id: str
    spans: tuple[Span, ...]
    owners: Mapping[str, str]
    runs: Mapping[str, Written]


@dataclass(frozen=True, slots=True)
class Done:
    """A lot that is recorded.

    Attributes:
        waiting: the lot.
        owners: the run of each of its spans.
        runs: how much of each run is recorded now.
    """

    waiting: Waiting
    owners: Mapping[str, str]
    runs: Mapping[str, Written]


class Inbox:
    """Spans that wait to be recorded. One process has it; its threads have one object each.

    Args:
        path: the file; made when absent.
        sealing: redacts and encrypts what lies in it.
    """

    def __init__(self, path: Path, sealing: Sealing) -> None:
        self._sealing = sealing
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found > VERSION:
                raise StoreError(
                    f"a newer flightlog wrote the inbox (version {found}, known {VERSION})",
                    where=str(path),
                    hint="Collect with that version, or newer.",
                )
            if found != VERSION:
                self._db.executescript(_SCHEMA)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.DatabaseError as error:
            raise unusable(path, error) from error
        path.chmod(0o600)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def add(self, spans: Iterable[Span]) -> int:
        """Keeps spans, durably; those that are known already change nothing.

        Returns:
            How many were new.

        Raises:
            StoreError: they could not be kept; none of them was.
        """
        return self.add_all([spans])[0]

    def add_all(self, requests: Iterable[Iterable[Span]]) -> list[int]:
        """Keeps the spans of several requests at once; as `add`, for each."""
        now_ms = int(time.time() * 1000)
        traces: dict[str, tuple[int, bool]] = {}
        added: list[int] = []
        execute, sealed = self._db.execute, self._sealing.sealed
        with self._transaction():
            for spans in requests:
                added.append(0)
                for span in spans:
                    done = execute(
                        "INSERT OR IGNORE INTO spans (trace_id, span_id, body) VALUES (?, ?, ?)",
                        (span.trace_id, span.span_id, sealed(span)),
                    )
                    if done.rowcount:
                        added[-1] += 1
                        count, has_top = traces.get(span.trace_id, (0, False))
                        traces[span.trace_id] = (count + 1, has_top or span.parent_id is None)
            self._db.executemany(
                "INSERT INTO traces VALUES (?, ?, ?, ?) ON CONFLICT (trace_id) DO UPDATE SET "
                "last_ms = excluded.last_ms, waiting = waiting + excluded.waiting, "
                "has_top = max(has_top, excluded.has_top)",
                [(trace, now_ms, count, has_top) for trace, (count, has_top) in traces.items()],
            )
        return added

    def waiting(self) -> tuple[int, int]:
        """How many spans wait, of how many traces."""
        spans, traces = self._db.execute(
            "SELECT coalesce(sum(waiting), 0), count(*) FROM traces WHERE waiting > 0"
        ).fetchone()
        return spans, traces

    def ready(self, *, grace_s: float, idle_s: float, most: int = 1_000) -> list[str]:
        """Traces to record now.

        Args:
            grace_s: how long to wait for more of a trace whose top is there.
            idle_s: how long for more of one whose top is not.
            most: of them at once.
        """
        now_ms = int(time.time() * 1000)
        rows = self._db.execute(
            "SELECT trace_id FROM traces WHERE waiting > 0 AND ((has_top AND last_ms <= ?) OR "
            "last_ms <= ? OR waiting >= ?) ORDER BY last_ms, trace_id LIMIT ?",
            (now_ms - int(grace_s * 1000), now_ms - int(idle_s * 1000), MAX_TRACE_SPANS, most),
        )
        return [row[0] for row in rows.fetchall()]

    def unfinished(self) -> list[str]:
        """Traces of which a part was being recorded when the process ended."""
        return [row[0] for row in self._db.execute("SELECT trace_id FROM batches").fetchall()]

    def take(self, trace_ids: Iterable[str]) -> list[Waiting]:
        """The next spans of each trace, as lots that stay the same until they are done.

        Raises:
            DamagedError: the file is not as it was written.
        """
        with self._transaction():
            batches = [(trace_id, self._batch_of(trace_id)) for trace_id in trace_ids]
        return [self._lot(trace_id, batch) for trace_id, batch in batches]

    def _batch_of(self, trace_id: str) -> int:
        found = self._db.execute(
            "SELECT batch FROM batches WHERE trace_id = ?", (trace_id,)
        ).fetchone()
        if found is not None:
            return int(found[0])
        batch = self._db.execute("INSERT INTO batches (trace_id) VALUES (?)", (trace_id,)).lastrowid
        assert batch is not None
        self._db.execute(
            "UPDATE spans SET batch = ? WHERE trace_id = ? AND span_id IN (SELECT span_id "
            "FROM spans WHERE trace_id = ? AND batch IS NULL LIMIT ?)",
            (batch, trace_id, trace_id, MAX_TRACE_SPANS),
        )
        return batch

    def _lot(self, trace_id: str, batch: int) -> Waiting:
        bodies = self._db.execute(
            "SELECT body FROM spans WHERE trace_id = ? AND batch = ? AND body IS NOT NULL",
            (trace_id, batch),
        ).fetchall()
        owners = self._db.execute(
            "SELECT span_id, owner FROM spans WHERE trace_id = ? AND owner IS NOT NULL", (trace_id,)
        ).fetchall()
        runs = self._db.execute(
            "SELECT owner, events, steps FROM runs WHERE trace_id = ?", (trace_id,)
        ).fetchall()
        spans = tuple(self._sealing.opened(body, self.path) for (body,) in bodies)
        known = {owner: Written(events, steps) for owner, events, steps in runs}
        return Waiting(batch, trace_id, spans, dict(owners), known)

    def traces(self) -> list[str]:
        """All traces, in the order of their ids."""
        rows = self._db.execute("SELECT trace_id FROM traces ORDER BY trace_id")
        return [row[0] for row in rows.fetchall()]

    def spans_of(self, trace_id: str) -> list[Span]:
        """The spans of a trace that are not recorded."""
        rows = self._db.execute(
            "SELECT body FROM spans WHERE trace_id = ? AND body IS NOT NULL ORDER BY span_id",
            (trace_id,),
        )
        return [self._sealing.opened(body, self.path) for (body,) in rows]

    def done(self, lots: Iterable[Done]) -> None:
        """Notes that lots are recorded, and removes their bodies."""
        with self._transaction():
            for lot in lots:
                self._note_done(lot)

    def _note_done(self, lot: Done) -> None:
        trace_id = lot.waiting.trace_id
        self._db.executemany(
            "UPDATE spans SET body = NULL, owner = ? WHERE trace_id = ? AND span_id = ?",
            [(owner, trace_id, span_id) for span_id, owner in lot.owners.items()],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)",
            [(trace_id, owner, one.events, one.steps) for owner, one in lot.runs.items()],
        )
        self._db.execute("DELETE FROM batches WHERE batch = ?", (lot.waiting.batch,))
        self._db.execute(
            "UPDATE traces SET waiting = (SELECT count(*) FROM spans WHERE trace_id = ? AND "
            "body IS NOT NULL) WHERE trace_id = ?",
            (trace_id, trace_id),
        )

    def forget(self, *, older_than_s: float) -> int:
        """Forgets traces that are recorded and to which nothing came for so long; how many."""
        before_ms = int((time.time() - older_than_s) * 1000)
        with self._transaction():
            old = "SELECT trace_id FROM traces WHERE waiting = 0 AND last_ms < ?"
            for table in ("spans", "runs"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE trace_id IN ({old})",  # noqa: S608
                    (before_ms,),
                )
            return self._db.execute(
                "DELETE FROM traces WHERE waiting = 0 AND last_ms < ?", (before_ms,)
            ).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise unusable(self.path, error) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps a store's inbox for this process alone.

    Raises:
        StoreError: another process has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                "another process collects into this store",
                where=str(folder),
                hint="Stop it, or collect into a store of its own.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def unusable(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    """What to say of an inbox that SQLite cannot use; damage where it is that."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedError(
            f"the inbox is damaged: {error}",
            where=str(path),
            hint="Move the file away: the collector begins a new one. What was recorded stays.",
        )
    return StoreError(
        f"the inbox cannot be used: {error}",
        where=str(path),
        hint="Make room on the disk, and give a store that this user may write to.",
    )
