"""Can the segments of a store be read at all? Asked when a reader has failed on one.

A sha256 tells that a segment is as it was sealed, and a store that a stranger made can have
sealed anything. What an engine says of such a file varies; this names the file.
"""

from __future__ import annotations

import pyarrow as pa

from flightlog.errors import DamagedError
from flightlog.recorder.encryption.parquet import open_segment
from flightlog.recorder.store import Store

_BATCH_ROWS = 1024


def require_readable(store: Store) -> None:
    """Reads every segment of a store from its first row to its last, and keeps nothing.

    Raises:
        DamagedError: a segment cannot be read; it is named.
        StoreKeyError: the key of a segment is not given.
    """
    snapshot = store.snapshot(compares_bytes=False)
    for path in (*snapshot.event_files, *snapshot.message_files):
        try:
            for _ in open_segment(store.layout, path).iter_batches(_BATCH_ROWS):
                pass
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise DamagedError(
                f"the segment cannot be read ({what}), and its bytes are those that were sealed",
                where=str(path),
                hint="Who made the store sealed it so. Restore it from a copy, or move it away.",
            ) from error
