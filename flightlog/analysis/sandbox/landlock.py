"""Landlock: a process gives up what it does not need of the file system, for good.

Source: https://docs.kernel.org/userspace-api/landlock.html (ABI 1 to 7). The numbers of the
system calls are the same on every architecture. No package of Python is used, since the
three calls are all that is needed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each ABI knows."""
_FIRST_WITH_NETWORK: Final = 4
_FIRST_WITH_SCOPES: Final = 6
_BIND_AND_CONNECT: Final = 0b11
_SOCKETS_AND_SIGNALS: Final = 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The ABI of the kernel; 0 where it has no Landlock."""
    if sys.platform != "linux":
        return 0
    return max(int(_libc().syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)), 0)


def only_read(paths: Iterable[str | Path]) -> bool:
    """Leaves this thread, and all that it starts, nothing but reading these paths.

    Also gone, where the kernel knows how: TCP, abstract sockets and signals to the outside.
    Files that are open stay usable. What does not exist is passed over.

    Returns:
        False where the kernel has no Landlock: nothing has changed then.

    Raises:
        OSError: the kernel has it, and refused.
    """
    abi = version()
    if abi < 1:
        return False
    handled = (1 << _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]) - 1
    wanted = _Ruleset(
        handled,
        _BIND_AND_CONNECT if abi >= _FIRST_WITH_NETWORK else 0,
        _SOCKETS_AND_SIGNALS if abi >= _FIRST_WITH_SCOPES else 0,
    )
    size = ctypes.sizeof(wanted) if abi >= _FIRST_WITH_SCOPES else _size_for(abi)
    rules = _called(_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(size), 0)
    try:
        for path in paths:
            _allow_reading(rules, path)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _called(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return True


def _size_for(abi: int) -> int:
    return 16 if abi >= _FIRST_WITH_NETWORK else 8


def _allow_reading(rules: int, path: str | Path) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_DIR if Path(path).is_dir() else 0)
        rule = _PathBeneath(rights, opened)
        _called(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(opened)


def _called(number: int, *arguments: object) -> int:
    answer = int(_libc().syscall(number, *arguments))
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock call {number}: {os.strerror(error)}")
    return answer


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
