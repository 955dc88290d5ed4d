"""Where the examples put what they record: made anew each time, so that numbers never add up."""

from __future__ import annotations

import shutil
from pathlib import Path

from flightlog.errors import UsageError

MARK = "FLIGHTLOG-INCIDENT"


def fresh_store(folder: Path, name: str) -> Path:
    """An empty place for a store in a folder of the examples.

    Raises:
        UsageError: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UsageError(
            f"{folder} is not empty and not a folder of this example",
            hint="Choose another one: --dir NAME",
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Made by examples/incident; may be deleted.\n", encoding="utf-8")
    store = folder / name
    if store.exists():
        shutil.rmtree(store)
    return store
