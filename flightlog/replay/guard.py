"""Sockets are shut during a replay, but for those of the candidate's model.

Every way out of the process that CPython knows raises an audit event before anything is
sent (PEP 578); the guard refuses it there. That covers all threads, event loops and
libraries that use Python's own `socket`, and the start of other programs. It does not
cover C extensions with sockets of their own (gRPC, some database drivers): those raise no
audit event.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from flightlog.errors import NetworkRefusedError
from flightlog.trace.canonical import clean_text

MAX_REFUSED: Final = 1000
"""Refusals that are kept in words; further ones are only counted."""

_SEALER: Final = "flightlog.recorder.background"
_CONNECTS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKUPS: Final = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_STARTS: Final = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
)
_WATCHED: Final = _CONNECTS | _LOOKUPS | _STARTS


class Endpoint(NamedTuple):
    """A host that may be reached; port 0 stands for every port of it."""

    host: str
    port: int = 0


def endpoints_of(model: object) -> tuple[Endpoint, ...]:
    """The hosts that a model says it is reached at; none for one that says nothing.

    Args:
        model: with an attribute `endpoints` of pairs (host, port), or any other object.
    """
    return tuple(Endpoint(host, port) for host, port in getattr(model, "endpoints", ()))


def programs_of(model: object) -> tuple[str, ...]:
    """The programs that a model says it is reached by; none for one that says nothing."""
    return tuple(str(name) for name in getattr(model, "programs", ()))


class NetworkGuard:
    """What a guarded stretch of time let through, and what it refused.

    Attributes:
        allowed: what may be reached.
        programs: names of the programs that may be started.
        refused: what was tried, such as `connect api.example:443`, in order.
        refusals: how often; also those beyond the first 1,000.
    """

    def __init__(self, allowed: Sequence[Endpoint], programs: Sequence[str] = ()) -> None:
        self.programs = frozenset(programs)
        self.allowed = tuple(Endpoint(_plain(host), port) for host, port in allowed)
        self.refused: list[str] = []
        self.refusals = 0
        self._addresses: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()

    def allows(self, host: str, port: int | None) -> bool:
        """True for an allowed host, by name or by one of its addresses."""
        host = _plain(host)
        for one in self.allowed:
            if port is not None and one.port not in (0, port):
                continue
            if host == one.host or (_is_address(host) and self._is_of(host, one.host)):
                return True
        return False

    def refuse(self, what: str) -> None:
        """Counts an attempt and ends it.

        Raises:
            NetworkRefusedError: always.
        """
        with self._lock:
            self.refusals += 1
            if len(self.refused) < MAX_REFUSED:
                self.refused.append(what)
        may = ", ".join(f"{host}:{port or '*'}" for host, port in self.allowed) or "nothing"
        raise NetworkRefusedError(
            f"a replay runs nothing live, and this was tried: {what}",
            hint=f"Allowed is {may}. Serve the call from a recording, a stub or a fixture, or "
            "allow the endpoint of the candidate's model by name.",
        )

    def _is_of(self, address: str, host: str) -> bool:
        if address in self._addresses.get(host, ()):
            return True
        # Names have several addresses, and other ones later.
        found = self._addresses[host] = self._addresses.get(host, frozenset()) | _resolved(host)
        return address in found


@contextmanager
def no_network(
    allowed: Sequence[Endpoint] = (), programs: Sequence[str] = ()
) -> Iterator[NetworkGuard]:
    """Refuses connections and the start of programs, in this whole process, until it ends.

    Where several are open at once, what one of them allows is allowed, and a refusal counts
    in each.

    Args:
        allowed: hosts (and ports) of the candidate's model.
        programs: names of the programs that it is reached by.
    """
    guard = NetworkGuard(allowed, programs)
    _install()
    with _lock:
        _guards.append(guard)
    try:
        yield guard
    finally:
        with _lock:
            _guards.remove(guard)


_lock = threading.Lock()
_guards: list[NetworkGuard] = []
_installed: list[bool] = []
_resolving = threading.local()


def _install() -> None:
    """Adds the hook, once; an audit hook cannot be removed, and does nothing without guards."""
    with _lock:
        if not _installed:
            sys.addaudithook(_hook)
            _installed.append(True)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _guards or event not in _WATCHED or getattr(_resolving, "is_ours", False):
        return
    guards = tuple(_guards)
    if event in _STARTS and any(_name_of(event, args) in one.programs for one in guards):
        return
    what, host, port = _described(event, args)
    if not what or (host and any(guard.allows(host, port) for guard in guards)):
        return
    for other in guards[1:]:
        with other._lock:
            other.refusals += 1
            if len(other.refused) < MAX_REFUSED:
                other.refused.append(what)
    guards[0].refuse(what)


def _described(event: str, args: tuple[Any, ...]) -> tuple[str, str, int | None]:
    """What is tried, in words, empty where it is harmless; with host and port, if any."""
    if event in _STARTS:
        program = _program(event, args)
        return (f"start {program}" if program else "", "", None)
    if event in _LOOKUPS:
        host = _text(args[0]) if args else ""
        return (f"look up {host}" if host and not _is_address(host) else "", host, None)
    address = args[1] if len(args) > 1 else None
    if address is None:  # a datagram on a connected socket
        return ("", "", None)
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[1], int):
        host = _text(address[0])
        return (f"connect {host}:{address[1]}", host, address[1])
    return (f"connect {_text(address)}", "", None)


def _program(event: str, args: tuple[Any, ...]) -> str:
    if event == "os.system":
        return _text(args[0])
    if event == "os.spawn":  # the mode comes first
        args = args[1:]
    words = args[1] if len(args) > 1 else ()
    is_list = isinstance(words, (list, tuple))
    if event == "os.posix_spawn" and is_list and _SEALER in map(_text, words):
        return ""
    path = _text(args[0]) if args else ""
    return path if path not in ("", "None") else _text(words[0] if is_list and words else words)


def _name_of(event: str, args: tuple[Any, ...]) -> str:
    return PurePath(_program(event, args)).name


def _text(value: object) -> str:
    if isinstance(value, (bytes, os.PathLike)):
        try:
            value = os.fsdecode(value)
        except (TypeError, ValueError):
            return "?"
    return clean_text(str(value))[:200]


def _plain(host: object) -> str:
    return _text(host).strip("[]").rstrip(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(_plain(host).partition("%")[0])
    except ValueError:
        return False
    return True


def _resolved(host: str) -> frozenset[str]:
    _resolving.is_ours = True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    finally:
        _resolving.is_ours = False
    return frozenset(_plain(info[4][0]) for info in found)
