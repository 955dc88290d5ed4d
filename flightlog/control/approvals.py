"""Writes that wait for a person's yes or no, shared by the processes on a store.

    pending --approve--> approved --one run takes it--> used
    pending --deny-----> denied
    pending, approved --expires_at over--> expired

A request is bound to agent, tenant, task, tool and the exact arguments: what differs
in one of them needs an approval of its own. Everything that a person sees comes from
the row, and the row is checked against its binding before it counts for anything.
Each change is one transaction, so of two runs only one can take an approval.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

from flightlog.control.approval import Approval, ApprovalState, WriteRequest
from flightlog.control.shared_state import SharedState
from flightlog.errors import DamagedError, StoreError, UnknownNameError, UsageError
from flightlog.trace.canonical import canonical_args, clean_text
from flightlog.trace.vocab import Effect

KEPT_S: Final = 30 * 86_400
"""How long a request is kept after it expired, in seconds; its events stay in the traces."""

_ID_SIGNS: Final = "23456789bcdfghjkmnpqrstvwxz"
_ID_CHARS: Final = 6
_ID_TRIES: Final = 20

_TABLES = (
    """CREATE TABLE IF NOT EXISTS approvals (
        id TEXT PRIMARY KEY, binding TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'used')),
        agent TEXT, tenant TEXT, task_id TEXT, task_digest TEXT,
        run_id TEXT NOT NULL, step INTEGER NOT NULL, tool TEXT NOT NULL,
        effect TEXT NOT NULL CHECK (effect IN ('pure', 'read', 'write', 'unknown')),
        args_digest TEXT NOT NULL, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL,
        decided_by TEXT, decided_us INTEGER, why TEXT, taken_by TEXT,
        args TEXT NOT NULL  -- last, since it can be long
    ) STRICT""",
    """CREATE UNIQUE INDEX IF NOT EXISTS approvals_open ON approvals (binding)
        WHERE state IN ('pending', 'approved')""",
    "CREATE INDEX IF NOT EXISTS approvals_binding ON approvals (binding, created_us)",
    "CREATE INDEX IF NOT EXISTS approvals_expiry ON approvals (expires_us)",
)
_BY_ID = "SELECT * FROM approvals WHERE id = ?"
_BY_BINDING = "SELECT * FROM approvals WHERE binding = ? ORDER BY created_us DESC, rowid DESC"
_ALL = "SELECT * FROM approvals ORDER BY created_us, rowid"
_IDS = "SELECT id FROM approvals ORDER BY id"
_INSERT = (
    "INSERT INTO approvals VALUES "
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, ?)"
)
_UPDATE = (
    "UPDATE approvals SET state = ?, created_us = ?, expires_us = ?, decided_by = ?, "
    "decided_us = ?, why = ?, taken_by = ? WHERE id = ?"
)
_FORGET = "DELETE FROM approvals WHERE run_id = ? OR taken_by = ?"
_PRUNE = "DELETE FROM approvals WHERE expires_us < ?"


def _new_id() -> str:
    return "".join(secrets.choice(_ID_SIGNS) for _ in range(_ID_CHARS))


class ApprovalQueue:
    """The requests of a store. Safe in threads, in processes and over fork.

    Args:
        state: the state of the store.
        new_id: gives ids; one that is taken is asked for again.
        redact: takes secrets out of arguments and names before they are written; the same
            write has the same binding all the same. None leaves them.
    """

    def __init__(
        self,
        state: SharedState,
        *,
        new_id: Callable[[], str] = _new_id,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self._redact = redact
        self._state = state
        self._new_id = new_id
        state.declare(*_TABLES)

    def ask(self, write: WriteRequest, now_s: float, *, valid_s: float) -> Approval:
        """The open, approved or denied request for exactly this write, or a new one.

        A denial answers the run that was told it for as long as it runs, and before
        that any one run until it expires; after that the write is asked for anew.

        Args:
            now_s: wall time, seconds since the Unix epoch.
            valid_s: how long a new request may be decided and its approval used, seconds.

        Raises:
            StoreError: the state cannot be used; nothing is approved then.
        """
        write = self._redacted(write)
        now_us, binding = _us(now_s), write.binding
        with self._state.transaction() as db:
            db.execute(_PRUNE, (now_us - _us(KEPT_S),))
            for row in db.execute(_BY_BINDING, (binding,)).fetchall():
                found = _brought_up(db, _approval(row), now_us)
                if _answers(found, write.run_id, now_us):
                    return found
            return self._opened(db, write, now_us, now_us + _us(valid_s))

    def collect(self, approval_id: str, write: WriteRequest, now_s: float) -> ApprovalState:
        """Takes the answer to a request for one write of one run.

        Returns:
            APPROVED exactly once, for the caller who may make the write; USED for
            everyone after; DENIED, EXPIRED, or PENDING while nobody has decided.

        Raises:
            StoreError: the state cannot be used, or the request is gone.
            DamagedError: the row is not what was asked for.
        """
        write = self._redacted(write)
        now_us = _us(now_s)
        with self._state.transaction() as db:
            found = _brought_up(db, _row(db, approval_id), now_us)
            _check_row(found)
            if found.write.binding != write.binding:
                raise DamagedError(
                    f"approval {approval_id} is for another write",
                    where=self._place,
                    hint="Ask again; nothing was approved.",
                )
            if found.state is ApprovalState.APPROVED:
                _save(db, replace(found, state=ApprovalState.USED, taken_by=write.run_id))
            elif found.state is ApprovalState.DENIED and found.taken_by is None:
                _save(db, replace(found, taken_by=write.run_id))
            return found.state

    def decide(
        self,
        approval_id: str,
        *,
        is_approved: bool,
        who: str,
        why: str,
        now_s: float,
        digest: str | None = None,
    ) -> Approval:
        """Approves or denies a pending request.

        Args:
            approval_id: whole id.
            digest: of the arguments that were looked at; None takes those of the row.

        Raises:
            UsageError: it is decided, expired or used already, or has other arguments.
            StoreError: the state cannot be used, or there is no such request.
            DamagedError: the row was changed since it was asked.
        """
        now_us = _us(now_s)
        with self._state.transaction() as db:
            found = _brought_up(db, _row(db, approval_id), now_us)
            if found.state is ApprovalState.PENDING:
                _check_row(found)
                if digest is not None and digest != found.write.args_digest:
                    raise UsageError(
                        f"approval {approval_id} is for arguments {found.write.args_digest}, "
                        f"not {digest}",
                        hint=f"Look at it with: flightlog approvals show {approval_id}",
                    )
                state = ApprovalState.APPROVED if is_approved else ApprovalState.DENIED
                decided = replace(
                    found,
                    state=state,
                    decided_by=self._clean(who),
                    decided_at_us=now_us,
                    why=self._clean(why),
                )
                _save(db, decided)
                return decided
        # After the transaction, which may have marked it as expired.
        use = "use it" if found.state is ApprovalState.APPROVED else "ask anew"
        raise UsageError(_closed_text(found), hint=f"Run the task again to {use}.")

    def get(self, approval_id: str, now_s: float) -> Approval | None:
        """The request of this id as it is now; None when there is none.

        Raises:
            StoreError: the state cannot be read.
        """
        rows = self._state.read(_BY_ID, (approval_id,))
        return _seen(_approval(rows[0]), _us(now_s)) if rows else None

    def find(self, start: str, now_s: float) -> Approval:
        """The one request whose id is or starts with `start`.

        Raises:
            UnknownNameError: there is none.
            UsageError: there are several.
            StoreError: the state cannot be read.
        """
        ids = [row[0] for row in self._state.read(_IDS)]
        wanted = start.strip().removesuffix(".").lower()  # as copied from the end of a sentence
        fitting = [one for one in ids if wanted and one.startswith(wanted)]
        if len(fitting) > 1:
            shown = ", ".join(fitting[:8])
            raise UsageError(f"{start!r} begins {len(fitting)} approvals", hint=f"One of: {shown}.")
        found = self.get(fitting[0], now_s) if fitting else None
        if found is None:
            raise UnknownNameError.of(
                "approval", start, ids, hint="All of them: flightlog approvals list --all"
            )
        return found

    def requests(self, now_s: float) -> list[Approval]:
        """All requests that are kept, oldest first.

        Raises:
            StoreError: the state cannot be read.
        """
        now_us = _us(now_s)
        return [_seen(_approval(row), now_us) for row in self._state.read(_ALL)]

    def _clean(self, text: str) -> str:
        text = clean_text(text)
        return text if self._redact is None else self._redact(text)

    def _redacted(self, write: WriteRequest) -> WriteRequest:
        """The write as it is kept."""
        if self._redact is None:
            return write
        names: dict[str, Any] = {
            name: self._clean(value)
            for name in ("tool", "agent", "tenant", "task_id", "run_id")
            if (value := getattr(write, name)) is not None
        }
        args = self._redact(write.args)
        if args == write.args:
            return replace(write, **names)
        canonical = canonical_args(args)
        return replace(write, **names, args=canonical.text, args_digest=canonical.digest)

    def forget(self, run_ids: Collection[str]) -> None:
        """Removes the requests of some runs, and every byte of them from the file.

        Raises:
            StoreError: the state cannot be used; do it again.
        """
        with self._state.transaction() as db:
            for run_id in run_ids:
                name = clean_text(run_id)
                db.execute(_FORGET, (name, name))
        self._state.scrub()

    @property
    def _place(self) -> str:
        return str(self._state.path or "state in memory")

    def _opened(
        self, db: sqlite3.Connection, write: WriteRequest, now_us: int, expires_us: int
    ) -> Approval:
        for _ in range(_ID_TRIES):
            made = Approval(self._new_id(), write, ApprovalState.PENDING, now_us, expires_us)
            if db.execute(_BY_ID, (made.id,)).fetchone() is None:
                db.execute(_INSERT, _columns(made))
                return made
        raise StoreError(
            "no free id for an approval was found",
            where=self._place,
            hint="Decide the requests that wait: flightlog approvals list",
        )


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _columns(made: Approval) -> tuple[str | int | None, ...]:
    """A new request as the values of its row."""
    write = made.write
    return (
        made.id,
        write.binding,
        made.state.value,
        write.agent,
        write.tenant,
        write.task_id,
        write.task_digest,
        write.run_id,
        write.step,
        write.tool,
        write.effect.value,
        write.args_digest,
        made.created_at_us,
        made.expires_at_us,
        write.args,
    )


def _approval(row: tuple[Any, ...]) -> Approval:
    """A row as it stands."""
    agent, tenant, task_id, task_digest, run_id, step, tool, effect, digest = row[3:12]
    write = WriteRequest(
        tool=tool,
        effect=Effect(effect),
        args=row[18],
        args_digest=digest,
        run_id=run_id,
        step=step,
        agent=agent,
        tenant=tenant,
        task_id=task_id,
        task_digest=task_digest,
    )
    return Approval(row[0], write, ApprovalState(row[2]), *row[12:18])


def _row(db: sqlite3.Connection, approval_id: str) -> Approval:
    row = db.execute(_BY_ID, (approval_id,)).fetchone()
    if row is None:
        raise StoreError(
            f"approval {approval_id} is gone",
            hint="The shared state was replaced since; run the task again to ask anew.",
        )
    return _approval(row)


def _check_row(found: Approval) -> None:
    """Raises when a row's arguments are not those that its digest was made of."""
    if canonical_args(found.write.args).digest != found.write.args_digest:
        raise DamagedError(
            f"approval {found.id} was changed: its arguments do not have the digest "
            f"{found.write.args_digest}",
            hint="It counts as denied; run the task again to ask anew.",
        )


def _seen(found: Approval, now_us: int) -> Approval:
    """A request as it is at this moment.

    One from the future (the clock went back) is dated to now, so that it is not
    valid for longer than it was to be.
    """
    if found.state not in (ApprovalState.PENDING, ApprovalState.APPROVED):
        return found
    ahead_us = max(0, found.created_at_us - now_us)
    if ahead_us:
        found = replace(found, created_at_us=now_us, expires_at_us=found.expires_at_us - ahead_us)
    return replace(found, state=ApprovalState.EXPIRED) if found.expires_at_us <= now_us else found


def _brought_up(db: sqlite3.Connection, found: Approval, now_us: int) -> Approval:
    """As `_seen`, and written down: what has expired stays so, whatever the clock does."""
    seen = _seen(found, now_us)
    if seen != found:
        _save(db, seen)
    return seen


def _answers(found: Approval, run_id: str, now_us: int) -> bool:
    """True when a run that asks for a write gets this request."""
    if found.state is ApprovalState.DENIED:
        is_fresh = found.taken_by is None and now_us < found.expires_at_us
        return is_fresh or found.taken_by == run_id
    return found.state in (ApprovalState.PENDING, ApprovalState.APPROVED)


def _save(db: sqlite3.Connection, one: Approval) -> None:
    db.execute(
        _UPDATE,
        (
            one.state.value,
            one.created_at_us,
            one.expires_at_us,
            one.decided_by,
            one.decided_at_us,
            one.why,
            one.taken_by,
            one.id,
        ),
    )


def _closed_text(found: Approval) -> str:
    """Why a request cannot be decided any more."""
    by = f", by {found.decided_by}" if found.decided_by else ""
    if found.state is ApprovalState.USED:
        return f"approval {found.id} is used already, by run {found.taken_by}"
    if found.state is ApprovalState.EXPIRED:
        return f"approval {found.id} has expired"
    return f"approval {found.id} is {found.state.value} already{by}"
