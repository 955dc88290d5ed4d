"""The file of the kill switch: read with one `stat` while it is unchanged, replaced as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flightlog.control.kill_format import END_OF_TIME_US, MAX_BYTES, decoded, encoded
from flightlog.control.kill_rule import KillMode, KillRule
from flightlog.control.owner import give_to_owner, lock_file
from flightlog.errors import StoreError

DEFAULT_TIMEOUT_S: Final = 2.0
_LOCK_RETRY_S: Final = 0.002
_READ_TRIES: Final = 5
_TEMPORARY_SUFFIX: Final = ".tmp"
_stat = os.stat

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the file says at one moment.

    Attributes:
        by_tenant: rules in force by tenant, None for all runs; without empty entries.
            A single `stop_all` where there is a problem.
        problem: why the file is not understood; None when it is, or is absent.
        identity: of the file that was read; None when it must be read again.
    """

    by_tenant: Mapping[str | None, tuple[KillRule, ...]] = field(default_factory=dict)
    problem: str | None = None
    identity: Identity | None = None

    @classmethod
    def of(
        cls,
        rules: Sequence[KillRule],
        problem: str | None = None,
        found: os.stat_result | None = None,
    ) -> Reading:
        """The reading of these rules, from the file that was found."""
        lists: dict[str | None, list[KillRule]] = {}
        for rule in rules:
            lists.setdefault(rule.tenant, []).append(rule)
        by_tenant = {tenant: tuple(rules) for tenant, rules in lists.items()}
        return cls(by_tenant, problem, None if found is None else _identity(found))

    @property
    def rules(self) -> tuple[KillRule, ...]:
        """All rules in force."""
        return tuple(rule for rules in self.by_tenant.values() for rule in rules)


class KillFile:
    """The rules in one file, for threads and processes.

    Args:
        path: the file; it is made, with its folder, at the first change.
        timeout_s: longest wait for another process that changes it, seconds.
    """

    def __init__(self, path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        # Absolute, so that a process that changes its folder still finds it.
        self.path = path.absolute()
        self._name = str(self.path)
        self._timeout_s = timeout_s
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
                content = encoded(changed(before))
                self._remove_leftovers()
                self._replace(content, before.identity, at_us)
                self.current()
        except OSError as error:
            raise StoreError(
                f"the kill switch cannot be changed: {error.strerror or error}",
                where=self._name,
                hint="It is as it was. Look at the free space and at the rights of the folder. "
                "An empty file in this place stops everything, and needs no space.",
            ) from error

    def _without_file(self) -> Reading:
        if not self._reading.by_tenant or self.path.parent.is_dir():
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
        except FileNotFoundError:  # removed since it was seen
            return self._without_file()
        except OSError as error:
            return _unreadable(error.strerror or str(error), None)
        return _unreadable("it is being written", None)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.path.with_suffix(".lock")
        descriptor = self._opened(lock)
        try:
            until = time.monotonic() + self._timeout_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise StoreError(
                            "another process has been changing the kill switch for longer "
                            f"than {self._timeout_s:g} s",
                            where=str(lock),
                            hint="The switch is as it was. Find the process with fuser, end it "
                            "and try again.",
                        ) from None
                    time.sleep(_LOCK_RETRY_S)
            try:
                yield
            finally:
                # Said aloud: a child forked by another thread in between holds it open, too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _opened(self, lock: Path) -> int:
        """The lock file; made when absent."""
        with contextlib.suppress(PermissionError):
            return lock_file(lock)
        # Another user made it; on a local disk it can be locked all the same.
        return os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

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
                give_to_owner(file.fileno(), self.path.parent)
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
        try:
            _sync_folder(self.path.parent)
        except OSError as error:
            raise StoreError(
                f"the kill switch is changed, but a loss of power may undo that: {error.strerror}",
                where=self._name,
                hint="Look at the disk.",
            ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _understood(content: bytes, found: os.stat_result) -> Reading:
    rules, problem = decoded(content)
    if problem is not None:
        return _unreadable(problem, found)
    return Reading.of(rules, None, found)


def _unreadable(problem: str, found: os.stat_result | None) -> Reading:
    """Everything stops; read again at the next check where the failure may pass."""
    at_us = found.st_mtime_ns // 1000 if found else -1
    rule = KillRule(
        KillMode.STOP_ALL,
        who="flightlog",
        why=f"the file of the kill switch cannot be understood: {problem}",
        at_us=at_us if 0 <= at_us < END_OF_TIME_US else None,
    )
    return Reading.of([rule], problem, found)


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
