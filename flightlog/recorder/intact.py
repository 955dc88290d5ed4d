"""Are the bytes of segments those that were sealed? Asked before any of their rows is read.

Engines that read Parquet do not look at page checksums unless they are told to, and footers
have none: a flipped bit comes out as another value. So the sha256 of each file is compared
with the manifest, on all cores; a digest of a file in memory costs about a nanosecond a byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flightlog.errors import DamagedError
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.manifest import SegmentEntry, sha256_of

CHANGED = "the bytes are not those that were sealed"
_SHOWN = 5
_ALONE_BYTES = 32 << 20
"""So much is digested before threads would have begun."""


def changed_segments(layout: Layout, entries: Iterable[SegmentEntry]) -> dict[Path, str]:
    """What is wrong with those segments that are not as they were sealed, by their paths."""
    wanted = list(entries)
    if sum(entry.bytes for entry in wanted) < _ALONE_BYTES:
        found = [_why_changed(layout, entry) for entry in wanted]
    else:
        with ThreadPoolExecutor(thread_name_prefix="flightlog-sha256") as pool:
            found = list(pool.map(lambda entry: _why_changed(layout, entry), wanted))
    return {
        layout.root / entry.path: what
        for entry, what in zip(wanted, found, strict=True)
        if what is not None
    }


def _why_changed(layout: Layout, entry: SegmentEntry) -> str | None:
    path = layout.root / entry.path
    try:
        if path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256:
            return None
    except FileNotFoundError:
        return missing_text(entry)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return CHANGED


def missing_text(entry: SegmentEntry) -> str:
    """What is told of a segment that is listed and not there."""
    return f"the segment is missing ({entry.rows} rows)"


def require_sound(problems: Iterable[Problem], *, where: object) -> None:
    """Makes any damage an error: what `--strict` asks for.

    Raises:
        DamagedError: there is a problem.
    """
    found = list(dict.fromkeys(problems))
    if not found:
        return
    shown = "\n  ".join(map(str, found[:_SHOWN]))
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise DamagedError(
        f"the store is damaged, and nothing is read from it because of --strict\n  {shown}{more}",
        where=str(where),
        hint="Restore the files from a copy; flightlog verify lists everything. What was put "
        "into quarantine/ counts until it is moved away.",
    )
