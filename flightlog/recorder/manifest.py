"""The manifests: what a store has sealed, merged and removed, each naming the one before.

A manifest is one change of the store, written as a whole. The newest say which segments
are live; all together are the store's history, which a checkpoint moves into one file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec

from flightlog.control.owner import lock_file
from flightlog.errors import DamagedError, StoreError
from flightlog.recorder.layout import Layout, Problem, segment_files, write_file
from flightlog.trace.versions import FORMAT_VERSION, check_format

HISTORY: Final = "history.jsonl"
MERGED_PREFIX: Final = "m-"
"""Names of segments that count only when a manifest lists them."""

_READ_BYTES: Final = 1 << 20
_SEGMENT_PATH: Final = re.compile(r"(events|messages)/date=[0-9-]+/[^/\0]+\.parquet")

Why = Literal["seal", "compact", "erase", "retain", "rekey", "checkpoint"]


class Part(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The rows of one journal in a segment, in their order.

    Attributes:
        journal_id: the journal.
        rows: how many rows are in the segment.
        head: end of the journal's chain over its events, in hex; empty for messages.
        dropped: rows that were removed for good; their commitments are in the
            segment's file of dropped commitments.
        erased: those of the rows that have lost their payload, and of which only the commitment
            is left to go by.
    """

    journal_id: str
    rows: int
    head: str = ""
    dropped: int = 0
    erased: int = 0


class SegmentEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One segment as a manifest knows it.

    Attributes:
        path: below the store, with slashes.
        sha256: of the file.
        bytes: size of the file.
        rows: rows in the file.
        parts: where the rows come from; empty in format 1.
        dropped_sha256: of the file that holds the commitments of dropped rows.
        key: id of the key that it is encrypted with; None where it is not.
    """

    path: str
    sha256: str
    bytes: int
    rows: int
    parts: tuple[Part, ...] = ()
    dropped_sha256: str | None = None
    key: str | None = None


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One change of a store.

    Attributes:
        format: FORMAT_VERSION of the writer.
        number: from 1, without a hole.
        previous_sha256: of the manifest before it; None for the first.
        segments: added; in a checkpoint all that are live.
        replaced: paths of segments that are no longer live.
        why: what changed the store.
        at_us: when, microseconds since the epoch, UTC.
        detail: what was removed, in words.
    """

    format: int
    number: int
    previous_sha256: str | None
    segments: tuple[SegmentEntry, ...]
    replaced: tuple[str, ...] = ()
    why: Why = "seal"
    at_us: int | None = None
    detail: str | None = None


@dataclass(slots=True)
class StoreState:
    """What the manifests say of a store.

    Attributes:
        live: entry of each live segment by its path.
        replaced: paths that are no longer live, with the number of the manifest that tells; their
            files may still be there.
        sealed_journals: journals whose events are in live segments that were merged.
        number: of the newest manifest; 0 without one.
        sha256: of the newest manifest; None without one.
        problems: what is wrong with the manifests.
    """

    live: dict[str, SegmentEntry] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    sealed_journals: set[str] = field(default_factory=set)
    number: int = 0
    sha256: str | None = None
    problems: list[Problem] = field(default_factory=list)

    def apply(self, manifest: Manifest) -> None:
        """Takes one change over."""
        if manifest.why == "checkpoint":
            self.live.clear()
        for path in manifest.replaced:
            self.live.pop(path, None)
            self.replaced[path] = manifest.number
        for entry in manifest.segments:
            self.live[entry.path] = entry
            self.replaced.pop(entry.path, None)
            if Path(entry.path).name.startswith(MERGED_PREFIX):
                self.sealed_journals.update(part.journal_id for part in entry.parts)

    def journals_of(self, paths: Sequence[str]) -> set[str]:
        """The journals whose rows are in these live segments."""
        return {part.journal_id for path in paths for part in self.live[path].parts}


@contextmanager
def sealing_lock(layout: Layout) -> Iterator[None]:
    """Only one process at a time seals, merges or removes in a store; others wait.

    Raises:
        StoreError: the store cannot be written to.
    """
    try:
        layout.disk.mkdir(layout.manifests)
        descriptor = lock_file(layout.manifests / ".lock")
    except OSError as error:
        raise StoreError(
            f"the store cannot be changed: {error.strerror or error}",
            where=str(layout.manifests),
            hint="Run it as a user that may write to the store; readers need no rights to write.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Who wrote the newest manifest may have died before its name was synced. What is
        # removed because of it must not be missing when the name is lost with the power.
        layout.disk.sync_folder(layout.manifests)
        yield
    finally:
        os.close(descriptor)


def add_manifest(
    layout: Layout,
    segments: Sequence[SegmentEntry],
    *,
    replaced: Sequence[str] = (),
    why: Why = "seal",
    detail: str | None = None,
) -> Manifest:
    """Writes the next manifest, which makes a change count; the caller holds the sealing lock."""
    state = store_state(layout)
    manifest = Manifest(
        FORMAT_VERSION,
        state.number + 1,
        state.sha256,
        tuple(segments),
        tuple(replaced),
        why,
        time.time_ns() // 1000,
        detail,
    )
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_file(layout, layout.manifests / f"{manifest.number:08d}.json", content)
    return manifest


def add_checkpoint(layout: Layout) -> None:
    """Moves all manifests into the history and goes on from one that lists all live segments.

    The caller holds the sealing lock. A crash at any point leaves a manifest both in
    the history and as a file, which is the same manifest.
    """
    state = store_state(layout)
    if state.problems:
        raise StoreError(
            f"the manifests are damaged: {state.problems[0].what}",
            where=str(state.problems[0].path),
            hint="Restore them from a copy of the store; flightlog verify lists everything.",
        )
    on_disk = sorted(path for path in state.replaced if (layout.root / path).exists())
    old = manifest_files(layout)
    add_manifest(layout, list(state.live.values()), replaced=on_disk, why="checkpoint")
    lines = [*history_lines(layout), *(path.read_bytes() for path in old)]
    unique = dict.fromkeys(msgspec.json.encode(text) for text in map(bytes.decode, lines))
    write_file(layout, layout.manifests / HISTORY, b"".join(line + b"\n" for line in unique))
    for path in old:
        layout.disk.unlink(path)
    layout.disk.sync_folder(layout.manifests)


def manifest_files(layout: Layout) -> list[Path]:
    """All manifests that are files of their own, oldest first."""
    return sorted(
        path for path in layout.manifests.glob("*.json") if path.stem.isdecimal() and path.is_file()
    )


def history_lines(layout: Layout) -> list[bytes]:
    """The texts of the manifests that a checkpoint moved away, oldest first.

    Raises:
        DamagedError: it is not as it was written.
    """
    if not (layout.manifests / HISTORY).is_file():  # none, or a pipe that would never end
        return []
    try:
        lines = (layout.manifests / HISTORY).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    try:
        return [msgspec.json.decode(line, type=str).encode() for line in lines]
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise DamagedError(
            f"the history of manifests cannot be read ({error})",
            where=str(layout.manifests / HISTORY),
            hint="Restore it from a copy of the store; flightlog verify lists everything.",
        ) from error


def store_state(layout: Layout) -> StoreState:
    """What the manifests say is live, from the newest checkpoint on.

    Raises:
        NewerFormatError: a newer flightlog wrote a manifest.
    """
    while True:
        try:
            contents = [(path, path.read_bytes()) for path in manifest_files(layout)]
        except FileNotFoundError:  # a checkpoint has just moved it into the history
            continue
        # While a checkpoint removes files, a list of them may lack old ones and the new one.
        if manifest_files(layout) == [path for path, _ in contents]:
            state = _state_of(contents)
            if not contents and (history := layout.manifests / HISTORY).exists():
                what = "all manifests after the history are gone: what it lists may be, too"
                state.problems.append(Problem(history, what))
            return state


def _state_of(contents: Sequence[tuple[Path, bytes]]) -> StoreState:
    state = StoreState()
    decoded = [_decoded(path, content, state) for path, content in contents]
    places = [at for at, one in enumerate(decoded) if one and one.why == "checkpoint"]
    first = places[-1] if places else 0
    for (path, content), manifest in list(zip(contents, decoded, strict=True))[first:]:
        if manifest is not None:
            is_start = manifest.why == "checkpoint" and state.number == 0
            follows = manifest.previous_sha256 == state.sha256
            if not is_start and not (follows and manifest.number == state.number + 1):
                what = "the manifest does not follow the one before it: one was changed or removed"
                state.problems.append(Problem(path, what))
            unknown = [name for name in manifest.replaced if name not in state.live]
            if unknown and manifest.why != "checkpoint":
                what = f"the manifest replaces {unknown[0][:200]!r}, which was not there"
                state.problems.append(Problem(path, what))
            state.apply(manifest)
        state.number = int(path.stem)
        state.sha256 = hashlib.sha256(content).hexdigest()
    return state


def _decoded(path: Path, content: bytes, state: StoreState) -> Manifest | None:
    try:
        return read_manifest(content, where=str(path))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        state.problems.append(Problem(path, f"the manifest cannot be read ({error})"))
        return None


def read_manifest(content: bytes, *, where: str) -> Manifest:
    """A manifest out of its bytes.

    Raises:
        NewerFormatError: a newer flightlog wrote it.
        msgspec.MsgspecError: it is none.
        ValueError: it names what is no segment of the store; files that are replaced are removed,
            so that nobody may be led to others.
    """
    check_format(msgspec.json.decode(content, type=_Version).format, where=where)
    manifest = msgspec.json.decode(content, type=Manifest)
    for name in (*manifest.replaced, *(entry.path for entry in manifest.segments)):
        if _SEGMENT_PATH.fullmatch(name) is None:
            raise ValueError(f"{name[:200]!r} is not the path of a segment")
    return manifest


class _Version(msgspec.Struct):
    format: int


def live_files(layout: Layout, folder: Path, state: StoreState) -> list[Path]:
    """The Parquet files below `folder` (events or messages) that count, by day and name.

    A sealed journal counts from when its file is there, all else when a manifest says so.
    """
    found = []
    for path in segment_files(folder):
        name = path.relative_to(layout.root).as_posix()
        is_listed = name in state.live
        is_new = name not in state.replaced and not path.name.startswith(MERGED_PREFIX)
        if is_listed or is_new:
            found.append(path)
    return found


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()
