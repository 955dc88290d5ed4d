"""The process that an analyst's query is run in; see `flightlog.analysis.sandbox.bounded`.

It takes the snapshots, then forks: the Landlock rules hold for a thread and what it starts,
so the one that asks has to be alone in its process.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa

from flightlog.analysis.db import damage_named
from flightlog.analysis.sandbox.inside import user_sql_on
from flightlog.analysis.sandbox.landlock import only_read
from flightlog.errors import FlightlogError
from flightlog.recorder.store import Snapshot, Store

_DIE_WITH_PARENT: Final = 1
_GRACE_S: Final = 5
_READABLE: Final = (
    "/usr/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/urandom",
    "/sys/devices/system/cpu",
    # DuckDB asks how many threads and how much memory it may use.
    "/proc/self/cgroup",
    "/sys/fs/cgroup",
    "/proc/meminfo",
    "/proc/cpuinfo",
)
"""What Python and DuckDB read for themselves; none of it is the user's."""


def main() -> None:
    """Reads one request from standard input, and answers on standard output."""
    request = json.loads(sys.stdin.buffer.readline())
    _die_with(request["parent"])
    params = pa.ipc.open_stream(sys.stdin.buffer).read_all().to_pylist()[0]
    params.pop("", None)
    try:
        opened = {path: Store.open(path) for path in request["stores"]}
        with damage_named(opened.values()):
            snapshots = {
                path: store.snapshot(strict=request["strict"]) for path, store in opened.items()
            }
    except FlightlogError as error:
        _answer({"error": _told(error)})
        return
    sys.stdout.flush()
    worker = os.fork()
    if worker:
        # The leases of the snapshots are held here until the worker is done.
        _, status = os.waitpid(worker, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)
    _die_with(os.getppid())
    code = 1
    try:
        _work(request, params, opened, snapshots)
        code = 0
    except BaseException:  # a fork must not go on in what its parent had begun
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _work(
    request: dict[str, Any],
    params: dict[str, Any],
    opened: dict[str, Store],
    snapshots: dict[str, Snapshot],
) -> None:
    memory: int = request["memory_bytes"]
    _give_up(request["stores"], seconds=request["seconds"], memory_bytes=memory)
    problems = [
        [str(problem.path), problem.what] for one in snapshots.values() for problem in one.problems
    ]
    try:
        with damage_named(opened.values()):
            found = user_sql_on(
                snapshots,
                request["query"],
                params=params or None,
                limit=request["limit"],
                explain=request["explain"],
                memory_bytes=memory,
            )
    except FlightlogError as error:
        _answer({"error": _told(error), "problems": problems})
        return
    _answer({"is_cut": found.is_cut, "problems": problems}, found.table)


def _give_up(stores: list[str], *, seconds: float, memory_bytes: int) -> None:
    """Everything that a query does not need."""
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":
        # The limit is of addresses: what is there already, libraries above all, is added.
        limit = memory_bytes + _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # Whoever waits ends this earlier; the alarm is for when nobody waits any more.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_S)
    modules = [path for path in sys.path if path]
    only_read([*stores, *modules, sys.base_prefix, *_READABLE])


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _told(error: FlightlogError) -> dict[str, str]:
    return {
        "class": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
    }


def _answer(head: dict[str, Any], table: pa.Table | None = None) -> None:
    out: BinaryIO = sys.stdout.buffer
    out.write(json.dumps(head).encode() + b"\n")
    if table is not None:
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
    out.flush()
