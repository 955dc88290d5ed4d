"""What is wrong with a store, or waits for somebody: writes in doubt first."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.control.approval import ApprovalState
from flightlog.control.breakers import BreakerState
from flightlog.control.control import Control
from flightlog.errors import FlightlogError, StoreError
from flightlog.recorder.journal_reader import is_alive, mapped, read_header
from flightlog.recorder.layout import Layout
from flightlog.recorder.life.pending import Pending, pending_removals
from flightlog.recorder.life.pins import pins_of
from flightlog.recorder.manifest import store_state
from flightlog.recorder.store import Store
from flightlog.recorder.unsealed import journal_rows, open_runs
from flightlog.recorder.verify import verify_store
from flightlog.trace.vocab import EventKind

MIN_FREE_BYTES: Final = 1_000_000_000
AHEAD_S: Final = 300.0
"""How far into the future an event may be dated, in seconds."""

KINDS: Final = (
    "write_in_doubt",
    "damage",
    "unreadable",
    "gap",
    "removal",
    "unsealed",
    "uncollected",
    "run_without_end",
    "quarantine",
    "kill_switch",
    "breaker",
    "approval",
    "permissions",
    "disk_space",
    "clock",
)
"""All kinds of findings, in the order in which they are told."""

_NAMED = 3
_COMMAND_BYTES = 1 << 16
_IN_DOUBT = """
SELECT * FROM writes
WHERE state = 'in_doubt' OR (state = 'running' AND list_contains($lost::VARCHAR[], run_id))
ORDER BY "at" NULLS FIRST, run_id, seq
"""
_RUNNING = "SELECT run_id FROM runs WHERE status = 'running' ORDER BY run_id"
_GAPS = """
SELECT
    coalesce(detail, 'unknown') AS why, sum(dropped_events)::BIGINT AS events,
    min("at") AS first_at, max("at") AS last_at
FROM events
WHERE kind = 'gap' AND ($since::TIMESTAMP IS NULL OR "at" IS NULL OR "at" >= $since)
GROUP BY ALL ORDER BY last_at, why
"""
_NEWEST = """
SELECT max("at") AS newest FROM events
LEFT JOIN runs USING (store, run_id) WHERE runs.origin IS DISTINCT FROM 'imported'
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should look at.

    Attributes:
        kind: one of `KINDS`.
        what: what was found, one sentence.
        do: what to do about it.
        at: when it happened, UTC; None where that is not known.
        details: the facts of it, by name; for a write in doubt its row in the view `writes`.
    """

    kind: str
    what: str
    do: str
    at: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)


def examine(
    path: str | Path,
    *,
    since: datetime | None = None,
    min_free_bytes: float = MIN_FREE_BYTES,
    now_s: float | None = None,
) -> list[Finding]:
    """All that is to be told of a store, in order of `KINDS`; empty for a healthy one.

    Args:
        path: folder of the store.
        since: gaps, quarantined pieces and expired approvals of before are not told, UTC.
        min_free_bytes: free space of the disk below which that is told.
        now_s: wall time, seconds since the Unix epoch; None is the machine's.

    Raises:
        StoreError: there is no store.
        NewerFormatError: a newer flightlog made it.
    """
    now_s = time.time() if now_s is None else now_s
    look = _Look(Path(path), since, min_free_bytes, now_s)
    return in_order(look.findings())


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order of `KINDS`."""
    return sorted(findings, key=lambda finding: KINDS.index(finding.kind))


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at a store."""

    path: Path
    since: datetime | None
    min_free_bytes: float
    now_s: float

    def findings(self) -> Iterator[Finding]:
        permissions = list(_permissions(self.path)) if self.path.is_dir() else []
        yield from permissions
        try:
            store = Store.open(self.path)
        except StoreError as error:
            if not permissions:
                raise
            yield _unreadable(error)
            return
        yield from self._bytes(store)
        yield from self._removals(store.layout)
        yield from self._journals(store.layout)
        yield from self._traces(store)
        yield from self._control()
        yield from self._space()

    @property
    def _option(self) -> str:
        return f"--store {shlex.quote(str(self.path))}"

    def _bytes(self, store: Store) -> Iterator[Finding]:
        try:
            problems = verify_store(store).problems
        except FlightlogError as error:
            yield _unreadable(error)
            return
        for problem in problems:
            if problem.path.parent != store.layout.quarantine:
                do = f"Restore it from a copy; all of it: flightlog verify {self._option}"
                yield Finding("damage", str(problem), do)
                continue
            at = _modified(problem.path)
            if self.since is None or at is None or at >= self.since:
                do = "Look into it, then move it away; rows are read without it."
                yield Finding("quarantine", str(problem), do, at)

    def _removals(self, layout: Layout) -> Iterator[Finding]:
        begun: list[Pending] = []
        try:
            pins_of(layout)
            begun = pending_removals(layout)
        except FlightlogError as error:
            yield Finding("damage", f"{error.where}: {error.what}", error.hint or "Remove it.")
        for one in begun:
            waiting = _alive_of(layout, one.journals) if one.is_applied else []
            name = "an erasure" if one.why == "erase" else "a removal of old runs"
            if waiting:
                journals = _counted(len(waiting), "journal")
                what = f"{name} waits for {journals} of living processes that hold such runs"
                do = "It is finished when these are sealed, at the latest when the processes end."
            else:
                what, do = f"{name} was begun and is not finished", f"flightlog seal {self._option}"
            details = {"id": one.id, "why": one.why, "journals": waiting}
            yield Finding("removal", what, do, _from_us(one.at_us), details)

    def _journals(self, layout: Layout) -> Iterator[Finding]:
        dead, size = _dead_journals(layout), 0
        for path in dead:
            with contextlib.suppress(FileNotFoundError):  # sealed just now
                size += path.stat().st_size
        if dead:
            yield Finding(
                "unsealed",
                f"{_counted(len(dead), 'journal')} of dead or closed writers, {size:,} bytes, "
                "not sealed yet",
                f"flightlog seal {self._option}",
                details={"journals": [path.stem for path in dead], "bytes": size},
            )

    def _traces(self, store: Store) -> Iterator[Finding]:
        try:
            with Traces(self.path) as traces:
                running = [row["run_id"] for row in traces.rows(_RUNNING)]
                lost = sorted(set(running) - (_living(store.layout) if running else set()))
                for row in traces.rows(_IN_DOUBT, {"lost": lost}):
                    yield self._in_doubt(row)
                since = None if self.since is None else self.since.replace(tzinfo=None)
                for row in traces.rows(_GAPS, {"since": since}):
                    yield _gap(row)
                [newest] = traces.rows(_NEWEST)
        except FlightlogError as error:
            yield _unreadable(error)
            return
        if lost:
            yield Finding(
                "run_without_end",
                f"{_counted(len(lost), 'run')} without an end, and no living process records "
                f"{'it' if len(lost) == 1 else 'them'}: {_some(lost)}",
                f"flightlog show {lost[0]} {self._option}",
                details={"runs": lost},
            )
        yield from self._clock(newest["newest"])

    def _in_doubt(self, row: dict[str, Any]) -> Finding:
        at = _utc(row["at"])
        where = f"run {row['run_id']}, step {_place(row['step'])}, call {_place(row['call_ix'])}"
        key = row["idempotency_key"]
        told = f"{row['tool_name']}({row['args'] or ''}), {where}: {row['why']}"
        look = f"Look whether {row['tool_name']} did it" + (f" (key {key})" if key else "")
        settle = (
            f"flightlog doctor settle {row['run_id']} {_place(row['step'])} "
            f"{_place(row['call_ix'])} --done|--not-done --why WHY {self._option}"
        )
        return Finding("write_in_doubt", told, f"{look}, then: {settle}", at, row)

    def _clock(self, newest: datetime | None) -> Iterator[Finding]:
        at = _utc(newest)
        if at is not None and at.timestamp() > self.now_s + AHEAD_S:
            ahead_s = at.timestamp() - self.now_s
            yield Finding(
                "clock",
                f"an event is dated {ahead_s:,.0f} s ahead of this machine's clock",
                "Set the clocks of the machines that record; retention and expiry go by them.",
                at,
                {"ahead_s": ahead_s},
            )

    def _control(self) -> Iterator[Finding]:
        control = Control.at(self.path, records_all=True)
        try:
            for rule in control.kill_switch.rules():
                whom = "all runs" if rule.tenant is None else f"tenant {rule.tenant!r}"
                why = f": {rule.why}" if rule.why else ""
                at = None if rule.at_us is None else _from_us(rule.at_us)
                yield Finding(
                    "kill_switch",
                    f"the kill switch is on: {rule.text} for {whom}, by {rule.who}{why}",
                    f"flightlog kill off {_tenant_option(rule.tenant)}{self._option}",
                    at,
                )
            for breaker in control.breakers.states():
                if breaker.state is not BreakerState.CLOSED:
                    yield Finding(
                        "breaker",
                        f"the breaker of {breaker.tool!r} is {breaker.state.value}",
                        "Mend the tool; the breaker tries it again by itself.",
                        _from_us(round(breaker.since_s * 1e6)),
                        {"tool": breaker.tool, "state": breaker.state.value},
                    )
            yield from self._approvals(control)
        except StoreError as error:
            yield _unreadable(error)
        finally:
            control.end()

    def _approvals(self, control: Control) -> Iterator[Finding]:
        for one in control.approvals.requests(self.now_s):
            at, expires = _from_us(one.created_at_us), _from_us(one.expires_at_us)
            asked = f"approval {one.id} of {one.write.tool!r} in run {one.write.run_id}"
            if one.state is ApprovalState.PENDING:
                what = f"{asked} waits for a decision until {expires:%Y-%m-%d %H:%M:%S} UTC"
                do = f"flightlog approvals show {one.id} {self._option}"
            elif one.state is ApprovalState.EXPIRED and (
                self.since is None or expires >= self.since
            ):
                what, do = f"{asked} expired undecided or unused", "Run the task again to ask anew."
            else:
                continue
            yield Finding("approval", what, do, at, {"id": one.id, "state": one.state.value})

    def _space(self) -> Iterator[Finding]:
        room = os.statvfs(self.path)
        free = room.f_bavail * room.f_frsize
        if free < self.min_free_bytes:
            yield Finding(
                "disk_space",
                f"{free:,} bytes are free on the disk of the store",
                "Make room, or remove old runs: flightlog retain --help",
                details={"free_bytes": free},
            )


def _gap(row: dict[str, Any]) -> Finding:
    return Finding(
        "gap",
        f"{_counted(row['events'], 'event')} dropped: {row['why']}",
        "What they held is lost; mend the cause. Leave it out next time with --since.",
        _utc(row["last_at"]),
        row,
    )


def _unreadable(error: FlightlogError) -> Finding:
    place = f"{error.where}: " if error.where else ""
    return Finding(
        "unreadable", f"not looked into: {place}{error.what}", error.hint or "Mend it first."
    )


def _alive_of(layout: Layout, journals: Iterable[str]) -> list[str]:
    """Those of the journals that somebody writes to."""
    found = []
    for journal_id in journals:
        with contextlib.suppress(FileNotFoundError):
            if is_alive(layout.journal_file(journal_id)):
                found.append(journal_id)
    return found


def _dead_journals(layout: Layout) -> list[Path]:
    """Journals that nobody writes to, nor seals because it goes on in another journal."""
    sealed = store_state(layout).sealed_journals
    dead: dict[str, Path] = {}
    continued: dict[str, str | None] = {}
    going_on: list[str | None] = []
    for path in layout.journal_files():
        with contextlib.suppress(FileNotFoundError), mapped(path) as data:
            before = read_header(data, path.stem).continues
            if is_alive(path):
                going_on.append(before)
            elif path.stem not in sealed and not _is_of_a_command(path):
                dead[path.stem] = path
                continued[path.stem] = before
    while going_on:
        journal = going_on.pop()
        if journal is not None and dead.pop(journal, None) is not None:
            going_on.append(continued[journal])
    return list(dead.values())


def _is_of_a_command(path: Path) -> bool:
    """True for a journal that nobody waits for: changes by commands, which seal nothing."""
    if path.stat().st_size > _COMMAND_BYTES:
        return False
    kinds = {kind for events, _ in journal_rows(path) for kind in events["kind"].to_pylist()}
    return kinds == {EventKind.STATE_CHANGED.value}


def _living(layout: Layout) -> set[str]:
    """Runs that living processes record."""
    found: set[str] = set()
    for path in layout.journal_files():
        with contextlib.suppress(FileNotFoundError):
            if is_alive(path):
                found.update(open_runs(path))
                for events, _ in journal_rows(path):
                    found.update(events.column("run_id").to_pylist())
    return found


def _permissions(root: Path) -> Iterator[Finding]:
    owner = root.stat().st_uid
    open_to_all, foreign = [], []
    for folder, folders, files in os.walk(root):
        for name in (*sorted(files), *sorted(folders), *([""] if folder == str(root) else [])):
            path = Path(folder, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if found.st_mode & stat.S_IWOTH and not stat.S_ISLNK(found.st_mode):
                open_to_all.append(str(path))
            if found.st_uid != owner:
                foreign.append(str(path))
    quoted = shlex.quote(str(root))
    if open_to_all:
        yield Finding(
            "permissions",
            f"everybody may write to {_some(open_to_all)}",
            f"chmod -R go-w {quoted}",
            details={"paths": open_to_all},
        )
    if foreign:
        yield Finding(
            "permissions",
            f"not of the owner of the store: {_some(foreign)}",
            f"chown -R {owner} {quoted}",
            details={"paths": foreign},
        )


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _tenant_option(tenant: str | None) -> str:
    return "" if tenant is None else f"--tenant {shlex.quote(tenant)} "


def _from_us(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)


def _place(number: int | None) -> str:
    return "-" if number is None else str(number)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
