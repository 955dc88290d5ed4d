"""The file of the kill switch: read with one `stat` while it is unchanged, replaced as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from flightlog.control.kill_rule import KillMode, KillRule
from flightlog.errors import StoreError, UsageError
from flightlog.trace.canonical import clean_text

FILE_VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
"""Largest file that is read; a longer one counts as one that is not understood."""

LOCK_TIMEOUT_S: Final = 2.0
_LOCK_RETRY_S: Final = 0.002
_READ_TRIES: Final = 5
_TEMPORARY_SUFFIX: Final = ".tmp"
_stat = os.stat

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the file says at one moment.

    Attributes:
        rules: in force; a single `stop_all` where there is a problem.
        problem: why the file is not understood; None when it is, or is absent.
        identity: of the file that was read; None when it must be read again.
    """

    rules: tuple[KillRule, ...] = ()
    problem: str | None = None
    identity: Identity | None = None


class KillFile:
    """The rules in one file, for threads and processes.

    Args:
        path: the file; it is made, with its folder, at the first change.
    """

    def __init__(self, path: Path) -> None:
        # Absolute, so that a process that changes its folder still finds it.
        self.path = path.absolute()
        self._name = str(self.path)
        self._reading = Reading()

    def current(self) -> Reading:
        """What is in force now; does not raise."""
        reading = self._reading
        try:
            found = _stat(self._name)
        except (FileNotFoundError, NotADirectoryError):
            return self._without_file()
        except OSError as error:
            return _unreadable(error.strerror or str(error), None)
        if reading.identity == _identity(found):
            return reading
        self._reading = reading = self._read()
        return reading

    def change(
        self, changed: Callable[[Reading], tuple[KillRule, ...]], *, at_us: int | None
    ) -> None:
        """Replaces the rules by what `changed` makes of those in force; one process at a time.

        Raises:
            StoreError: the file cannot be written, or another process holds it too long.
            UsageError: the rules cannot be written so that readers understand them.
        """
        try:
            self.path.parent.mkdir(exist_ok=True)
            with self._alone():
                before = self.current()
                content = _encoded(changed(before))
                self._remove_leftovers()
                self._replace(content, before.identity, at_us)
        except OSError as error:
            raise StoreError(
                f"the kill switch cannot be changed: {error.strerror or error}",
                where=self._name,
                hint="It is as it was. Look at the free space and at the rights of the folder; "
                "to stop agents now, end their processes.",
            ) from error

    def _without_file(self) -> Reading:
        if not self._reading.rules or self.path.parent.is_dir():
            self._reading = Reading()
        return self._reading

    def _read(self) -> Reading:
        try:
            for _ in range(_READ_TRIES):
                # A pipe must not make the agent wait.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
                descriptor = os.open(self._name, flags)
                try:
                    before = os.fstat(descriptor)
                    identity = _identity(before)
                    if not stat.S_ISREG(before.st_mode):
                        return _unreadable("it is not a regular file", before)
                    content = _all_bytes(descriptor)
                    is_whole = _identity(os.fstat(descriptor)) == identity
                finally:
                    os.close(descriptor)
                if is_whole:
                    return _understood(content, before)
        except OSError as error:
            return _unreadable(error.strerror or str(error), None)
        return _unreadable("it is being written", None)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.path.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            until = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise StoreError(
                            "another process has been changing the kill switch for longer "
                            f"than {LOCK_TIMEOUT_S:g} s",
                            where=str(lock),
                            hint="The switch is as it was. Find the process with fuser, end it "
                            "and try again.",
                        ) from None
                    time.sleep(_LOCK_RETRY_S)
            yield
        finally:
            os.close(descriptor)

    def _remove_leftovers(self) -> None:
        """Removes files of processes that died before they could rename them."""
        for path in self.path.parent.glob(f".{self.path.name}.*{_TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)

    def _replace(self, content: bytes, before: Identity | None, at_us: int | None) -> None:
        name = f".{self.path.name}.{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
        temporary = self.path.with_name(name)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                # Agents of other users must be able to read it, whatever the umask here.
                os.fchmod(file.fileno(), 0o644)
                # A new file may get the number of an older one and the same length. Its
                # time is always later, so readers see that it is another one.
                later = before[1] + 1 if before else 0
                at_ns = max(time.time_ns() if at_us is None else at_us * 1000, later)
                os.utime(file.fileno(), ns=(at_ns, at_ns))
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Row(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One rule as it stands in the file."""

    mode: KillMode
    tools: str | None = None
    tenant: str | None = None
    who: str = "unknown"
    why: str = ""
    at_us: Annotated[int, Meta(ge=0, lt=1 << 53)] | None = None


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    rules: list[_Row]


class _Versioned(msgspec.Struct):
    version: int


def _encoded(rules: tuple[KillRule, ...]) -> bytes:
    """The content of a file with these rules.

    Raises:
        UsageError: readers would not understand it.
    """
    rows = [
        _Row(
            rule.mode,
            clean_text(rule.tools) if rule.tools is not None else None,
            clean_text(rule.tenant) if rule.tenant is not None else None,
            clean_text(rule.who),
            clean_text(rule.why),
            rule.at_us,
        )
        for rule in rules
    ]
    content = msgspec.json.format(msgspec.json.encode(_Content(FILE_VERSION, rows))) + b"\n"
    problem = _decoded(content)[1]
    if problem is not None:
        raise UsageError(
            f"the kill switch does not take this: {problem}", hint="Nothing was changed."
        )
    return content


def _understood(content: bytes, found: os.stat_result) -> Reading:
    rules, problem = _decoded(content)
    if problem is not None:
        return _unreadable(problem, found)
    return Reading(rules, None, _identity(found))


def _decoded(content: bytes) -> tuple[tuple[KillRule, ...], str | None]:
    """The rules in a file, or what is wrong with it."""
    if len(content) > MAX_BYTES:
        return (), f"it is longer than {MAX_BYTES} bytes"
    if not content.strip():
        return (), "it is empty"
    try:
        version = msgspec.json.decode(content, type=_Versioned).version
        if version != FILE_VERSION:
            return (), (
                f"it has version {version}, this flightlog knows {FILE_VERSION}; "
                "upgrade flightlog in this process"
            )
        rows = msgspec.json.decode(content, type=_Content).rules
        rules = tuple(_rule(row) for row in rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return (), clean_text(str(error))
    except UsageError as error:
        return (), error.what
    return rules, None


def _rule(row: _Row) -> KillRule:
    rule = KillRule(row.mode, row.tools, row.tenant, row.who, row.why, row.at_us)
    rule.check()
    return rule


def _unreadable(problem: str, found: os.stat_result | None) -> Reading:
    """Everything stops; read again at the next check where the failure may pass."""
    rule = KillRule(
        KillMode.STOP_ALL,
        who="flightlog",
        why=f"the file of the kill switch cannot be understood: {problem}",
        at_us=_plausible(found.st_mtime_ns // 1000) if found else None,
    )
    return Reading((rule,), problem, _identity(found) if found else None)


def _plausible(at_us: int) -> int | None:
    return at_us if 0 <= at_us < 1 << 53 else None


def _identity(found: os.stat_result) -> Identity:
    return (found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns)


def _all_bytes(descriptor: int) -> bytes:
    """The whole file, or a little more than is accepted."""
    parts: list[bytes] = []
    size = 0
    while size <= MAX_BYTES and (part := os.read(descriptor, MAX_BYTES + 1)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
