"""Removals that were begun: what is left to do, for whoever seals or removes next.

A record is written before anything is changed and removed when all is done, so that
a removal that was interrupted is finished. Names of erased subjects do not stand in it.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from flightlog.config.regular_file import read_regular
from flightlog.errors import DamagedError
from flightlog.recorder.layout import MAX_RECORD_BYTES, Layout, write_file

_SALT_BYTES: Final = 16

Column = Literal["data_subject", "conversation_id", "tenant"]


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """One removal.

    Attributes:
        id: of the removal.
        why: what is done: `erase` or `retain`.
        at_us: when it was asked for, microseconds since the epoch, UTC.
        blobs: digests of texts that perhaps nobody refers to any more.
        salt: of `names`, in hex.
        names: column of `run_started` and salted hashes of the values that an erasure is about.
        run_ids: runs to be erased.
        journals: those of living writers that hold such runs.
        held: all journals that held such runs; damaged pieces of them are removed.
        reason: why it was asked for, in the words of who did.
        is_begun: `run_ids` and `journals` are known.
        is_applied: all is done but for what is in `journals`.
    """

    id: str
    why: Literal["erase", "retain"]
    at_us: int
    blobs: tuple[str, ...] = ()
    salt: str = ""
    names: tuple[tuple[Column, str], ...] = ()
    run_ids: tuple[str, ...] = ()
    journals: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    reason: str | None = None
    is_begun: bool = False
    is_applied: bool = False

    def names_value(self, column: str, value: str) -> bool:
        """True when it is about this value of the column."""
        return any(name == column and told == _hash(self.salt, value) for name, told in self.names)


def new_pending(
    why: Literal["erase", "retain"],
    *,
    names: Iterable[tuple[Column, str]] = (),
    run_ids: Iterable[str] = (),
    blobs: Iterable[str] = (),
    reason: str | None = None,
) -> Pending:
    """A removal that is to begin; the values of `names` are hashed."""
    salt = os.urandom(_SALT_BYTES).hex()
    return Pending(
        uuid.uuid4().hex,
        why,
        time.time_ns() // 1000,
        tuple(sorted(blobs)),
        salt,
        tuple((column, _hash(salt, value)) for column, value in names),
        tuple(sorted(run_ids)),
        reason=reason,
    )


def _hash(salt: str, value: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + value.encode("utf-8", "surrogatepass")).hexdigest()


def save_pending(layout: Layout, pending: Pending) -> None:
    """Writes the record, or what has changed in it."""
    layout.disk.mkdir(layout.pending)
    layout.disk.sync_folder(layout.root)
    content = msgspec.json.format(msgspec.json.encode(pending), indent=1) + b"\n"
    write_file(layout, layout.pending / f"{pending.id}.json", content)


def end_pending(layout: Layout, pending: Pending) -> None:
    """Removes the record: all is done."""
    layout.disk.unlink(layout.pending / f"{pending.id}.json")
    layout.disk.sync_folder(layout.pending)


def pending_removals(layout: Layout) -> list[Pending]:
    """All that were begun and are not finished, oldest first.

    Raises:
        DamagedError: a record cannot be read.
    """
    found = []
    for path in sorted(layout.pending.glob("*.json")):
        try:
            found.append(
                pending := msgspec.json.decode(read_regular(path, MAX_RECORD_BYTES), type=Pending)
            )
            if pending.id != path.stem:  # it names the file that is removed in the end
                raise ValueError(f"its id is {pending.id[:80]!r}")
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            raise DamagedError(
                f"the record of a removal cannot be read ({error})",
                where=str(path),
                hint="Remove the file and erase again what was to be erased.",
            ) from error
    return sorted(found, key=lambda one: (one.at_us, one.id))
