"""Pins: which runs of a store goldens were made of, so that `retain` does not remove them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flightlog.config.regular_file import read_regular
from flightlog.errors import DamagedError
from flightlog.recorder.layout import MAX_RECORD_BYTES, Layout, write_file


class Pin(msgspec.Struct, frozen=True):
    """One run that a golden holds.

    Attributes:
        run_id: the run.
        goldens: folder of the golden tasks, as an absolute path.
        at_us: when it was pinned, microseconds since the epoch, UTC.
    """

    run_id: str
    goldens: str
    at_us: int


def add_pins(layout: Layout, run_ids: Sequence[str], goldens: Path) -> None:
    """Remembers that these runs are pinned.

    Raises:
        OSError: the store cannot be written to.
    """
    folder = str(goldens.absolute())
    for run_id in run_ids:
        path = layout.pins / f"{_name(folder, run_id)}.json"
        if path.exists():
            continue
        layout.disk.mkdir(layout.pins)
        pin = Pin(run_id, folder, time.time_ns() // 1000)
        write_file(layout, path, msgspec.json.format(msgspec.json.encode(pin), indent=1) + b"\n")
    if run_ids and layout.pins.is_dir():
        layout.disk.sync_folder(layout.root)


def _name(goldens: str, run_id: str) -> str:
    told = f"{len(goldens)} {goldens} {run_id}"
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def pins_of(layout: Layout) -> dict[Path, Pin]:
    """All pins by their files; who unpins a run removes the file.

    Raises:
        DamagedError: a pin cannot be read; nothing should be removed then.
    """
    found = {}
    for path in sorted(layout.pins.glob("*.json")):
        try:
            found[path] = msgspec.json.decode(read_regular(path, MAX_RECORD_BYTES), type=Pin)
        except (msgspec.MsgspecError, OSError) as error:
            raise DamagedError(
                f"the pin cannot be read ({error})",
                where=str(path),
                hint="Remove the file and pin the run again.",
            ) from error
    return found
