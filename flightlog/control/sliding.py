"""Sums over sliding windows in the shared state, at a cost that does not grow with the entries.

An account has entries, each with a time and three whole amounts, and per window
length one sum of the entries that are still inside. When time moves, only the
entries that pass the window's edge are looked at: each is added once and taken
off once.

Times are microseconds since the Unix epoch. An entry counts from its time on for
one window length. Where the clock went back, entries from the future are dated
now, so that none stays for longer than a window.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass

from flightlog.control.shared_state import SharedState, decoded, encoded

_TABLES = (
    """CREATE TABLE IF NOT EXISTS sliding_accounts (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name BLOB, UNIQUE (kind, name)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS sliding_entries (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, at_us INTEGER NOT NULL,
        token INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS sliding_entries_by_time ON sliding_entries (account, at_us)",
    """CREATE TABLE IF NOT EXISTS sliding_sums (
        account INTEGER NOT NULL, window_us INTEGER NOT NULL,
        after_us INTEGER NOT NULL, asked_us INTEGER NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL,
        PRIMARY KEY (account, window_us)
    ) STRICT, WITHOUT ROWID""",
)
_ACCOUNT = "SELECT id FROM sliding_accounts WHERE kind = ? AND name = ?"
_SUMS = "SELECT window_us, after_us, asked_us, a, b, c FROM sliding_sums WHERE account = ?"
_BETWEEN = """SELECT count(*), ifnull(sum(a), 0), ifnull(sum(b), 0), ifnull(sum(c), 0)
    FROM sliding_entries WHERE account = ? AND at_us > ? AND at_us <= ?"""
_SAVE_SUM = "INSERT OR REPLACE INTO sliding_sums VALUES (?, ?, ?, ?, ?, ?, ?)"
_REDATE = "UPDATE sliding_entries SET at_us = ? WHERE account = ? AND at_us > ?"
_DELETE_OLD = """DELETE FROM sliding_entries WHERE id IN (SELECT id FROM sliding_entries
    WHERE account = ? AND at_us <= ? ORDER BY at_us LIMIT ?)"""
_OLDEST = """SELECT at_us, a, b, c FROM sliding_entries WHERE account = ? AND at_us > ?
    ORDER BY at_us LIMIT ?"""
_NAMED_SUM = """SELECT ifnull(sum(a), 0), ifnull(sum(b), 0), ifnull(sum(c), 0)
    FROM sliding_entries WHERE at_us > ? AND account =
    (SELECT id FROM sliding_accounts WHERE kind = ? AND name = ?)"""
_KEPT_SUM = """SELECT s.a - ifnull(sum(e.a), 0), s.b - ifnull(sum(e.b), 0),
    s.c - ifnull(sum(e.c), 0)
    FROM sliding_accounts n JOIN sliding_sums s ON s.account = n.id
    LEFT JOIN sliding_entries e
        ON e.account = s.account AND e.at_us > s.after_us AND e.at_us <= ?
    WHERE n.kind = ? AND n.name = ? AND s.window_us = ? AND s.after_us <= ? AND s.asked_us > ?
    GROUP BY s.account"""

_END_OF_TIME = (1 << 63) - 1
_LONGEST_US = 1 << 60
_DELETED_AT_A_TIME = 1000
_ADDS_PER_SWEEP = 256
_ACCOUNTS_PER_SWEEP = 50
_SCANNED = 1000
_KEPT_WINDOWS = 2  # a job of every night must find the window of the last night

Amounts = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A saved entry; the token tells it from a later entry that got the same number."""

    id: int
    token: int


@dataclass(slots=True)
class _Sum:
    """Sum of the entries after a time; `asked_us` is when the window was last of use."""

    after_us: int
    asked_us: int
    amounts: Amounts


@dataclass(slots=True)
class Account:
    """An account moved to the present, for the length of one transaction.

    Attributes:
        window_us: the window that was asked for.
        sums: by window length; the account has every window that is in use.
        expired: entries that left the longest window since the last time.
    """

    id: int
    now_us: int
    window_us: int
    sums: dict[int, _Sum]
    is_clock_back: bool = False
    expired: int = 0

    @property
    def total(self) -> Amounts:
        """Sum of the window that was asked for."""
        return self.sums[self.window_us].amounts


def microseconds(seconds: float) -> int:
    """A length of time in whole microseconds, at least 1, at most what SQLite can add up."""
    return max(1, round(min(seconds * 1e6, _LONGEST_US)))


class SlidingSums:
    """The accounts of one kind.

    A transaction asks for an account, looks at its total and must then `save` it,
    with or without a new entry.

    Args:
        state: where they are kept.
        kind: accounts of different kinds do not know of each other.
    """

    def __init__(self, state: SharedState, kind: str) -> None:
        self._state = state
        self._kind = kind
        self._swept_to = 0
        state.declare(*_TABLES)

    def account(self, db: sqlite3.Connection, name: str, window_us: int, now_us: int) -> Account:
        """The account of that name with its sums moved to windows that end now."""
        key = (self._kind, encoded(name))
        row = db.execute(_ACCOUNT, key).fetchone()
        if row is None:
            row = db.execute(
                "INSERT INTO sliding_accounts (kind, name) VALUES (?, ?) RETURNING id", key
            ).fetchone()
        account = Account(row[0], now_us, window_us, {})
        for length, after_us, asked_us, *amounts in db.execute(_SUMS, (account.id,)).fetchall():
            _move(db, account, length, _Sum(after_us, asked_us, tuple(amounts)))
        if window_us not in account.sums:
            after_us = now_us - window_us
            found = db.execute(_BETWEEN, (account.id, after_us, _END_OF_TIME)).fetchone()
            account.sums[window_us] = _Sum(after_us, now_us, found[1:])
        account.sums[window_us].asked_us = now_us
        return account

    def save(
        self, db: sqlite3.Connection, account: Account, amounts: Amounts | None = None
    ) -> Entry | None:
        """Writes an account back, with a new entry of now where there are amounts."""
        entry = None
        if account.is_clock_back:
            db.execute(_REDATE, (account.now_us, account.id, account.now_us))
        if amounts is not None:
            token = int.from_bytes(os.urandom(8), "big", signed=True)
            found = db.execute(
                "INSERT INTO sliding_entries (account, at_us, token, a, b, c) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (account.id, account.now_us, token, *amounts),
            )
            entry = Entry(found.lastrowid or 0, token)
        for length, one in account.sums.items():
            a, b, c = (x + y for x, y in zip(one.amounts, amounts or (0, 0, 0), strict=True))
            db.execute(_SAVE_SUM, (account.id, length, one.after_us, one.asked_us, a, b, c))
        if account.expired:
            after_us = min(one.after_us for one in account.sums.values())
            db.execute(_DELETE_OLD, (account.id, after_us, _DELETED_AT_A_TIME))
        if entry is not None and entry.id % _ADDS_PER_SWEEP == 0:
            self._sweep(db, account.now_us)
        return entry

    def replace(
        self, db: sqlite3.Connection, entry: Entry, amounts: tuple[int | None, ...]
    ) -> bool:
        """Replaces amounts of an entry; None leaves one as it is. False when it is gone."""
        row = db.execute(
            "SELECT account, at_us, a, b, c FROM sliding_entries WHERE id = ? AND token = ?",
            (entry.id, entry.token),
        ).fetchone()
        if row is None:
            return False
        account, at_us, *old = row
        new = [was if now is None else now for was, now in zip(old, amounts, strict=True)]
        db.execute("UPDATE sliding_entries SET a = ?, b = ?, c = ? WHERE id = ?", (*new, entry.id))
        db.execute(
            "UPDATE sliding_sums SET a = a + ?, b = b + ?, c = c + ? "
            "WHERE account = ? AND after_us < ?",
            (*(now - was for was, now in zip(old, new, strict=True)), account, at_us),
        )
        return True

    def freed_at(
        self, db: sqlite3.Connection, account: Account, which: int, needed: int
    ) -> int | None:
        """When entries with `needed` of one amount will have left, at the earliest.

        For a saved account. Looks at the oldest 1,000 entries only; None when the
        account has no more of them and they are not enough.
        """
        after_us = account.sums[account.window_us].after_us
        freed = looked_at = at_us = 0
        with closing(db.execute(_OLDEST, (account.id, after_us, _SCANNED))) as rows:
            for at_us, *amounts in rows:
                looked_at += 1
                freed += amounts[which]
                if freed >= needed:
                    return int(at_us) + account.window_us
        return at_us + account.window_us if looked_at == _SCANNED else None

    def retire(self, db: sqlite3.Connection, name: str) -> None:
        """Forgets an account at once; its entries are deleted bit by bit later."""
        db.execute(
            "UPDATE sliding_accounts SET name = NULL WHERE kind = ? AND name = ?",
            (self._kind, encoded(name)),
        )

    def read(self, name: str, window_us: int, now_us: int) -> Amounts:
        """The sum of a window that ends now, for display; changes nothing.

        Taken from the kept sum while the window is in use, else added up.
        """
        key, after_us = (self._kind, encoded(name)), now_us - window_us
        rows = self._state.read(_KEPT_SUM, (after_us, *key, window_us, after_us, after_us))
        rows = rows or self._state.read(_NAMED_SUM, (after_us, *key))
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else (0, 0, 0)

    def names(self) -> list[str]:
        """The accounts that have entries or had some of late, in order."""
        rows = self._state.read(
            "SELECT name FROM sliding_accounts WHERE kind = ? AND name IS NOT NULL ORDER BY name",
            (self._kind,),
        )
        return [decoded(name) for (name,) in rows]

    def _sweep(self, db: sqlite3.Connection, now_us: int) -> None:
        """Deletes what nobody asks for any more, a little at a time."""
        accounts = db.execute(
            "SELECT id, name IS NULL, (SELECT max(asked_us + ? * window_us) FROM sliding_sums "
            "WHERE account = sliding_accounts.id) FROM sliding_accounts "
            "WHERE id > ? ORDER BY id LIMIT ?",
            (_KEPT_WINDOWS, self._swept_to, _ACCOUNTS_PER_SWEEP),
        ).fetchall()
        self._swept_to = accounts[-1][0] if len(accounts) == _ACCOUNTS_PER_SWEEP else 0
        for account, is_retired, idle_at_us in accounts:
            if not is_retired and idle_at_us is not None and idle_at_us > now_us:
                continue
            # First its sums: nothing could take off them what is deleted here.
            db.execute("DELETE FROM sliding_sums WHERE account = ?", (account,))
            deleted = db.execute(_DELETE_OLD, (account, _END_OF_TIME, _DELETED_AT_A_TIME))
            if deleted.rowcount < _DELETED_AT_A_TIME:
                db.execute("DELETE FROM sliding_accounts WHERE id = ?", (account,))


def _move(db: sqlite3.Connection, account: Account, window_us: int, one: _Sum) -> None:
    """Moves one sum of an account to the present; drops a window that is out of use."""
    now_us, after_us = account.now_us, account.now_us - window_us
    if window_us != account.window_us and one.asked_us + _KEPT_WINDOWS * window_us <= now_us:
        db.execute(
            "DELETE FROM sliding_sums WHERE account = ? AND window_us = ?",
            (account.id, window_us),
        )
        account.expired += 1
        return
    low, high = sorted((one.after_us, after_us))
    count, *passed = db.execute(_BETWEEN, (account.id, low, high)).fetchone()
    if after_us < one.after_us:
        account.is_clock_back = True
        amounts = [x + y for x, y in zip(one.amounts, passed, strict=True)]
    else:
        account.expired += count
        amounts = [x - y for x, y in zip(one.amounts, passed, strict=True)]
    account.sums[window_us] = _Sum(after_us, one.asked_us, (amounts[0], amounts[1], amounts[2]))
