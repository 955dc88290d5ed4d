"""Ways in which the bytes of a file get damaged, and a store with files of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.manifest import HISTORY, add_checkpoint, manifest_files, sealing_lock
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.run_writer import RunWriter
from tests.unit.recorder.store_life import SYSTEM, canary, write_run

Damage = Callable[[bytes, bytes, random.Random], bytes]


def _range(content: bytes, rng: random.Random, longest: int = 400) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.randrange(1, longest))


def flipped_bits(content: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _bit in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeros(content: bytes, _: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def other_bytes(content: bytes, _: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + rng.randbytes(end - start) + content[end:]


def deleted_range(content: bytes, _: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng)
    return content[:start] + content[end:]


def swapped_ranges(content: bytes, _: bytes, rng: random.Random) -> bytes:
    a, b, c, d = sorted(rng.randrange(len(content) + 1) for _place in range(4))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def doubled_block(content: bytes, _: bytes, rng: random.Random) -> bytes:
    start, end = _range(content, rng, longest=5_000)
    at = rng.choice([end, rng.randrange(len(content) + 1), len(content)])
    return content[:at] + content[start:end] + content[at:]


def cut_off(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def emptied(*_: object) -> bytes:
    return b""


def garbage_after(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 600))


def another_file(_: bytes, other: bytes, __: random.Random) -> bytes:
    return other


def block_of_another(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """As a disk that writes a block to the wrong place."""
    start, end = _range(content, rng, longest=5_000)
    return content[:start] + other[start:end] + content[end:]


DAMAGES: Final[tuple[Damage, ...]] = (
    flipped_bits,
    flipped_bits,
    zeros,
    other_bytes,
    deleted_range,
    swapped_ranges,
    doubled_block,
    cut_off,
    emptied,
    garbage_after,
    another_file,
    block_of_another,
)


@dataclass(frozen=True)
class Sound:
    """A store as it should be.

    Attributes:
        store: it.
        files: those that are damaged, by their kind.
    """

    store: Store
    files: dict[str, list[Path]] = field(default_factory=dict)


def sound_store(path: Path, *, is_tiny: bool = False) -> Sound:
    """A store with merged and sealed segments, long texts, a history, and journals of the dead.

    Args:
        path: where it is made.
        is_tiny: it has a few files, most of them small.
    """
    number = 0

    def journal(*, is_sealed: bool, has_end: bool = True) -> None:
        nonlocal number
        number += 1
        with Recorder(path, seal_on_close=is_sealed) as recorder:
            for run in range(1 if is_tiny else 2):
                who = ("alice", "bob")[run]
                is_long = number == 1 if is_tiny else run == 0
                write_run(recorder, f"{number}-{run}-{who}", who, long=is_long)
            if not has_end:
                writer = RunWriter.with_system_clock(recorder, f"{number}-2-open")
                writer.started(messages=[SYSTEM], agent="shop")
                writer.tool_call(tool_name="refund", args={}, result=canary("open", "result"))

    for _ in range(2):
        journal(is_sealed=True)
    store = Store.open(path)
    compact_store(store)
    with sealing_lock(store.layout):
        add_checkpoint(store.layout)
    for _ in range(1 if is_tiny else 2):
        journal(is_sealed=True)
    for has_end in (True,) if is_tiny else (True, False, True):
        journal(is_sealed=False, has_end=has_end)
    layout = store.layout
    snapshot = store.snapshot(strict=True)
    return Sound(
        store,
        {
            "journal": layout.journal_files(),
            "events": list(snapshot.event_files),
            "messages": list(snapshot.message_files),
            "manifest": manifest_files(layout),
            "history": [layout.manifests / HISTORY],
            "blob": layout.blob_files(),
        },
    )
