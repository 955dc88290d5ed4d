"""An analyst's own SQL, bounded: in a process of its own, which can only read the stores.

DuckDB alone does not hold it. Its list of allowed folders also grants writing, EXPLAIN
ANALYZE executes what it explains, `memory_limit` is passed by what lies outside the buffer
pool, and `interrupt` waits for an operator to look. So the process that runs the query has
given up the rest of the file system and the network (Landlock, where Linux has it), writing
files and more memory than it was given; and it is killed when its time is over.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

import flightlog.errors
from flightlog.analysis.export import QueryResult
from flightlog.errors import FlightlogError, UsageError
from flightlog.recorder.layout import Problem

_NO_PARAMS: Final = ""
_LEAST_MEMORY_BYTES: Final = 256 << 20

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from flightlog.analysis.sandbox.child import main; main()"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one query may take.

    Attributes:
        seconds: from the start of its process, which takes half a second itself.
        memory_bytes: for the query and its result, at least 256 MiB.
    """

    seconds: float = 60.0
    memory_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if self.memory_bytes < _LEAST_MEMORY_BYTES:
            raise UsageError(
                f"a query cannot be run in {self.memory_bytes:,} bytes",
                hint=f"Give it {_LEAST_MEMORY_BYTES >> 20} MiB or more.",
            )


DEFAULT_BOUNDS: Final = Bounds()


def user_sql(
    stores: Sequence[str | Path],
    query: str,
    *,
    params: Mapping[str, Any] | None = None,
    limit: int | None = None,
    strict: bool = False,
    explain: bool = False,
    bounds: Bounds = DEFAULT_BOUNDS,
    on_problem: Callable[[Problem], object] = lambda _: None,
) -> QueryResult:
    """Runs one SELECT of an analyst on the views of the stores.

    Args:
        stores: folders; column `store` tells them apart.
        query: a single SELECT (also FROM, VALUES, WITH, DESCRIBE, SUMMARIZE, SHOW).
        params: values for `$name` in the query.
        limit: stop after this many rows; None for all.
        strict: any damage of a store is an error.
        explain: give the plan of the query in place of its rows; nothing is executed.
        bounds: how long it may take, and with how much memory.
        on_problem: is told what is not as it was written, and left out.

    Raises:
        UsageError: another kind of statement, more than one, an error in the SQL
            (with the nearest names for an unknown table or column), an attempt to
            reach files or settings, or more time or memory than was given.
        DamagedError: a segment or a blob of a store has changed or is missing.
    """
    request = {
        "parent": os.getpid(),
        "stores": [str(Path(path)) for path in stores],
        "query": query,
        "limit": limit,
        "strict": strict,
        "explain": explain,
        "seconds": bounds.seconds,
        "memory_bytes": bounds.memory_bytes,
    }
    answer = _asked(json.dumps(request).encode() + b"\n" + _row(params or {}), bounds.seconds)
    head, table = _taken_apart(answer)
    for path, what in head.get("problems", ()):
        on_problem(Problem(Path(path), what))
    if "error" in head:
        raise _error(head["error"])
    if table is None:
        raise AssertionError("an answer without a table")
    return QueryResult(table, head["is_cut"])


def _row(params: Mapping[str, Any]) -> bytes:
    """The values as an Arrow stream of one row; so they keep their types."""
    try:
        table = pa.Table.from_pylist([dict(params)]) if params else pa.table({_NO_PARAMS: [None]})
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise UsageError(f"a parameter that SQL has no value for: {error}") from error
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _asked(request: bytes, seconds: float) -> bytes:
    path = [str(Path(entry).resolve()) for entry in sys.path if entry]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-I", "-c", _START, json.dumps(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Each arena of the C library takes 128 MiB of addresses, and those are limited.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    ) as child:
        try:
            answer, told = child.communicate(request, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"the query was stopped after {seconds:g} s",
                hint="Ask for less, or give it more time: --timeout SECONDS.",
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode == 0:
        return answer
    if child.returncode < 0:
        raise UsageError(
            f"the query ended its process ({signal.Signals(-child.returncode).name}),"
            " most often for want of memory",
            hint="Ask for less, or give it more: --max-memory SIZE.",
        )
    raise RuntimeError(f"the process of the query failed:\n{told.decode(errors='replace')}")


def _taken_apart(answer: bytes) -> tuple[dict[str, Any], pa.Table | None]:
    end = answer.index(b"\n") + 1
    head: dict[str, Any] = json.loads(answer[:end])
    if len(answer) == end:
        return head, None
    return head, pa.ipc.open_stream(pa.py_buffer(answer)[end:]).read_all()


def _error(told: Mapping[str, str]) -> FlightlogError:
    known = getattr(flightlog.errors, told["class"], FlightlogError)
    if not (isinstance(known, type) and issubclass(known, FlightlogError)):
        known = FlightlogError
    return known(told["what"], where=told["where"], hint=told["hint"])
