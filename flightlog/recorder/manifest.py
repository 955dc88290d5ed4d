"""The manifests: which segments a store has, with their sha256, each naming the one before."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flightlog.control.owner import lock_file, make_folder
from flightlog.errors import StoreError
from flightlog.recorder.layout import Layout, Problem, write_file
from flightlog.trace.versions import FORMAT_VERSION, check_format

_READ_BYTES = 1 << 20


class SegmentEntry(msgspec.Struct, frozen=True):
    """One segment as a manifest knows it.

    Attributes:
        path: below the store, with slashes.
        sha256: of the file.
        bytes: size of the file.
        rows: rows in the file.
    """

    path: str
    sha256: str
    bytes: int
    rows: int


class Manifest(msgspec.Struct, frozen=True):
    """What one sealing added, and the sha256 of the manifest before it (None for the first)."""

    format: int
    number: int
    previous_sha256: str | None
    segments: tuple[SegmentEntry, ...]


@contextmanager
def sealing_lock(layout: Layout) -> Iterator[None]:
    """Only one process at a time seals a store; others wait.

    Raises:
        StoreError: the store cannot be written to.
    """
    try:
        make_folder(layout.manifests)
        descriptor = lock_file(layout.manifests / ".lock")
    except OSError as error:
        raise StoreError(
            f"cannot seal: {error.strerror or error}",
            where=str(layout.manifests),
            hint="Run it as a user that may write to the store; reading needs no sealing.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add_manifest(layout: Layout, segments: Sequence[SegmentEntry]) -> None:
    """Writes the next manifest; the sealing lock is held by the caller."""
    files = manifest_files(layout)
    number = int(files[-1].stem) + 1 if files else 1
    previous = sha256_of(files[-1]) if files else None
    manifest = Manifest(FORMAT_VERSION, number, previous, tuple(segments))
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_file(layout.manifests / f"{number:08d}.json", content)


def manifest_files(layout: Layout) -> list[Path]:
    """All manifests, oldest first."""
    return sorted(path for path in layout.manifests.glob("*.json") if path.stem.isdecimal())


def known_segments(layout: Layout) -> tuple[dict[str, SegmentEntry], list[Problem]]:
    """The newest entry of every segment by its path, and what is wrong with the manifests.

    Raises:
        NewerFormatError: a newer flightlog wrote a manifest.
    """
    known: dict[str, SegmentEntry] = {}
    problems: list[Problem] = []
    previous_sha256, number = None, 0
    for path in manifest_files(layout):
        try:
            content = path.read_bytes()
            manifest = msgspec.json.decode(content, type=Manifest)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            problems.append(Problem(path, f"the manifest cannot be read ({error})"))
            previous_sha256, number = sha256_of(path), number + 1
            continue
        check_format(manifest.format, where=str(path))
        number += 1
        if manifest.previous_sha256 != previous_sha256 or manifest.number != number:
            problems.append(
                Problem(path, "the manifest does not follow the one before it: one was changed")
            )
            number = manifest.number
        known.update({entry.path: entry for entry in manifest.segments})
        previous_sha256 = hashlib.sha256(content).hexdigest()
    return known, problems


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            state.update(block)
    return state.hexdigest()
