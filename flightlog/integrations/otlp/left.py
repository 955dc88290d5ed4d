"""What a collector acknowledged and left behind when it ended; `flightlog doctor` tells it."""

from __future__ import annotations

import fcntl
import os
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from flightlog.analysis.health import Finding
from flightlog.integrations.otlp.inbox import FOLDER, INBOX_FILE, LOCK_FILE, VERSION, unusable

_WAITING = (
    "SELECT coalesce(sum(waiting), 0), count(*), min(last_ms), max(last_ms) "
    "FROM traces WHERE waiting > 0"
)


def left_behind(store: Path) -> list[Finding]:
    """Spans that wait in the inbox of a store while nobody collects into it.

    Args:
        store: its folder. Nothing in it is changed.

    Returns:
        One finding for all of them, or for an inbox that cannot be read; or none.
    """
    path = store / FOLDER / INBOX_FILE
    if not path.is_file() or _is_held(path.parent / LOCK_FILE):
        return []
    # Without a log beside it the file is all there is, and SQLite need not make one to read it.
    mode = "ro" if path.with_name(f"{INBOX_FILE}-wal").exists() else "ro&immutable=1"
    try:
        address = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, uri=True)) as inbox:
            [version] = inbox.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                told = f"{path}: an inbox of another version ({version}, known {VERSION})"
                return [Finding("unreadable", told, "Collect with the version that wrote it.")]
            spans, traces, first_ms, last_ms = inbox.execute(_WAITING).fetchone()
    except sqlite3.DatabaseError as error:
        found = unusable(path, error)
        return [Finding("damage", f"{path}: {found.what}", found.hint or "Mend it first.")]
    if not spans:
        return []
    return [
        Finding(
            "uncollected",
            f"{spans:,} spans of {traces:,} traces are acknowledged and not recorded yet, "
            "and nobody collects",
            f"flightlog collect --idle 0 --store {shlex.quote(str(store))}",
            datetime.fromtimestamp(last_ms / 1000, UTC),
            {"spans": spans, "traces": traces, "first_ms": first_ms, "last_ms": last_ms},
        )
    ]


def _is_held(lock: Path) -> bool:
    """Whether a living process collects."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not ours to look at; who may read it is told of the rest
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
