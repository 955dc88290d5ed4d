"""Where things lie in a store folder, and the check that a folder is one.

FORMAT      ENCRYPTION (of encrypted stores)      journal/<id>.journal
events/date=YYYY-MM-DD/<id>.parquet      messages/date=YYYY-MM-DD/<id>.parquet
blobs/<2>/<digest>      manifest/      quarantine/      control/ (no traces: kill switch, breakers)
pins/ (runs that goldens hold)      pending/ (removals that are not finished)
inbox/ (spans that a collector keeps until their runs are recorded)
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flightlog.config.regular_file import read_regular
from flightlog.control.control import CONTROL_FOLDER
from flightlog.errors import DamagedError, StoreError
from flightlog.recorder.disk import DISK, Disk
from flightlog.recorder.encryption.keys import StoreKeys
from flightlog.recorder.ids import day_of
from flightlog.trace.versions import FORMAT_VERSION, check_format

FORMAT_WORD: Final = "flightlog"
JOURNAL_SUFFIX: Final = ".journal"
SEGMENT_SUFFIX: Final = ".parquet"
TEMPORARY_SUFFIX: Final = ".tmp"
DAMAGED_SUFFIX: Final = ".damaged"
"""Suffix of a damaged part of a journal in quarantine/."""
MISFIT_SUFFIX: Final = ".misfits"
"""Suffix there of whole records, one per line, of which some values fit no column."""
TORN_SUFFIX: Final = ".torn"
"""Suffix there of a record that was cut off while it was written, so never acknowledged."""
MAX_RECORD_BYTES: Final = 1 << 30
"""Most that is read of a file of a store that is one JSON record."""
_DIGEST: Final = re.compile("[0-9a-f]{32}")
_MAX_FORMAT_BYTES: Final = 256
_FOLDERS: Final = (
    "journal",
    "events",
    "messages",
    "blobs",
    "manifest",
    "quarantine",
    CONTROL_FOLDER,  # so that it belongs to whoever records, and not to who switches first
)
_LATER_FOLDERS: Final = ("pins", "pending", "inbox")
"""Made when they are needed."""


def is_digest(text: str) -> bool:
    """True for what names a blob: 32 hex digits, in lower case."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that is not as it was written.

    Attributes:
        path: the file concerned.
        what: what is wrong and what it means for the rows, one sentence.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store.

    Attributes:
        root: the store's folder.
        disk: what changes files in it.
        keys: the keys that were given; None for a store that is not encrypted, without
            any, and for who needs none.
        trusts_cache: False once a sync has failed: a file that reads well may then be on
            the disk no more, and is written anew rather than synced again.
    """

    root: Path
    disk: Disk = field(default=DISK, compare=False, repr=False)
    keys: StoreKeys | None = field(default=None, compare=False, repr=False)
    trusts_cache: bool = field(default=True, compare=False, repr=False)

    @property
    def format_file(self) -> Path:
        return self.root / "FORMAT"

    @property
    def encryption_file(self) -> Path:
        """Names the key of an encrypted store."""
        return self.root / "ENCRYPTION"

    @property
    def journals(self) -> Path:
        return self.root / "journal"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def messages(self) -> Path:
        return self.root / "messages"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def manifests(self) -> Path:
        return self.root / "manifest"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def pins(self) -> Path:
        return self.root / "pins"

    @property
    def pending(self) -> Path:
        return self.root / "pending"

    def journal_file(self, journal_id: str) -> Path:
        """The journal of this id."""
        return self.journals / (journal_id + JOURNAL_SUFFIX)

    def events_segment(self, journal_id: str) -> Path:
        """The events segment that the journal of this id becomes."""
        return self.events / f"date={day_of(journal_id)}" / (journal_id + SEGMENT_SUFFIX)

    def messages_segment(self, journal_id: str) -> Path:
        """The messages segment that the journal of this id becomes."""
        return self.messages / f"date={day_of(journal_id)}" / (journal_id + SEGMENT_SUFFIX)

    @property
    def has_blobs(self) -> bool:
        """True when a long text was stored beside its row."""
        return self.blobs.is_dir() and next(self.blobs.iterdir(), None) is not None

    def blob_file(self, digest: str) -> Path:
        """The file of the blob of this digest: the one that is there, or that it would get.

        Raises:
            StoreError: it is no digest; recorded texts never become paths.
        """
        places = self.blob_places(digest)
        return next((path for path in places if path.exists()), places[0])

    def blob_places(self, digest: str) -> list[Path]:
        """Where the blob of this digest may lie, the place of a new one first.

        Raises:
            StoreError: it is no digest; recorded texts never become paths.
        """
        if not is_digest(digest):
            raise StoreError(
                f"no blob {digest[:80]!r}: it is not a digest",
                where=str(self.blobs),
                hint="Blobs are named by 32 hex digits, as in the column result_blob.",
            )
        # A digest tells who knows the text that it is there, so encrypted blobs do not bear it.
        names = [key.blob_name(digest) for key in self.keys or ()]
        return [self.blobs / name[:2] / name for name in (*names, digest)]

    def blob_files(self) -> list[Path]:
        """All blobs, by name."""
        paths = self.blobs.glob("*/*")
        return sorted(path for path in paths if not path.name.startswith("."))

    def journal_files(self) -> list[Path]:
        """All journals, oldest first."""
        return _files(self.journals, f"*{JOURNAL_SUFFIX}")


def _files(folder: Path, pattern: str) -> list[Path]:
    # A symbolic link would lead out of the store; `links_in` tells of it.
    return sorted(p for p in folder.glob(pattern) if p.is_file() and not p.is_symlink())


def links_in(layout: Layout) -> list[Problem]:
    """Symbolic links below a store; none is ever followed."""
    return [
        Problem(Path(folder, name), "a symbolic link, which is not followed. Remove it.")
        for folder, folders, files in os.walk(layout.root)
        for name in sorted((*folders, *files))
        if Path(folder, name).is_symlink()
    ]


def segment_files(folder: Path) -> list[Path]:
    """All Parquet files below `folder` (events or messages), in order of day and name."""
    return _files(folder, f"**/*{SEGMENT_SUFFIX}")


def open_layout(path: str | Path, *, disk: Disk = DISK) -> Layout:
    """The layout of an existing store.

    Raises:
        StoreError: nothing is there, or it is not a store.
        NewerFormatError: a newer flightlog made it.
        DamagedError: its FORMAT file cannot be read as one.
    """
    layout = Layout(Path(path), disk)
    if not layout.root.is_dir():
        what = "is a file" if layout.root.exists() else "does not exist"
        raise StoreError(
            f"the store {what}",
            where=str(layout.root),
            hint="Give the folder that Recorder(...) or record(...) wrote to; commands take it "
            "from --store or FLIGHTLOG_STORE.",
        )
    _refuse_open_to_all(layout.root)
    try:
        text = read_regular(layout.format_file, _MAX_FORMAT_BYTES).decode()
    except FileNotFoundError:
        raise StoreError(
            "the folder is not a flightlog store: it has no FORMAT file",
            where=str(layout.root),
            hint="Give the folder that holds journal/ and events/.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"cannot read: {error}", where=str(layout.format_file)) from error
    word, _, number = text.strip().partition(" ")
    if word != FORMAT_WORD or not number.isdecimal():
        raise DamagedError(
            f"holds {text[:40]!r} instead of '{FORMAT_WORD} {FORMAT_VERSION}'",
            where=str(layout.format_file),
            hint=f"If the folder is a flightlog store, write '{FORMAT_WORD} 1' into the file.",
        )
    check_format(int(number), where=str(layout.format_file))
    return layout


def create_layout(path: str | Path, *, disk: Disk = DISK) -> Layout:
    """The layout of a store that is made when absent; several processes may do so at once.

    Raises:
        StoreError: the path is a file, a folder with foreign content, or not writable.
        NewerFormatError: a newer flightlog made the store.
    """
    layout = Layout(Path(path), disk)
    try:
        disk.mkdir(layout.root)
        if not layout.format_file.exists():
            _refuse_foreign_content(layout.root)
            _sync_folders_above(layout)
            write_file(layout, layout.format_file, f"{FORMAT_WORD} {FORMAT_VERSION}\n".encode())
        open_layout(layout.root, disk=disk)
        absent = [folder for name in _FOLDERS if not (folder := layout.root / name).is_dir()]
        for folder in absent:
            disk.mkdir(folder)
        if absent:
            disk.sync_folder(layout.root)
    except OSError as error:
        raise StoreError(
            f"cannot create or write the store: {error.strerror or error}",
            where=str(layout.root),
            hint="Give a folder that this user may write to.",
        ) from error
    return layout


def _sync_folders_above(layout: Layout) -> None:
    """Makes the name of the store survive the loss of power, before it has a FORMAT file.

    All folders above, since whoever made them may have been killed before syncing them.
    """
    for folder in layout.root.absolute().parents:
        # One that this user may not read was not made by it either.
        with contextlib.suppress(PermissionError):
            layout.disk.sync_folder(folder)


def _refuse_open_to_all(root: Path) -> None:
    """Refuses what anybody could put events into, or lead elsewhere."""
    for folder in (root, *(root / name for name in (*_FOLDERS, *_LATER_FOLDERS))):
        try:
            found = folder.lstat()
        except FileNotFoundError:
            continue
        if folder != root and stat.S_ISLNK(found.st_mode):
            raise StoreError(
                "the folder of the store is a symbolic link",
                where=str(folder),
                hint="Put the folder itself there; only the store as a whole may be a link.",
            )
        if folder.stat().st_mode & stat.S_IWOTH:
            raise StoreError(
                "everybody may write to the store, so nothing in it can be trusted",
                where=str(folder),
                hint=f"Keep it to yourself: chmod -R go-w {shlex.quote(str(root))}",
            )


def _refuse_foreign_content(root: Path) -> None:
    # Another process may be creating the same store: its entries are not foreign.
    foreign = [
        entry.name
        for entry in root.iterdir()
        if entry.name not in _FOLDERS and not entry.name.startswith(("FORMAT", ".FORMAT"))
    ]
    if foreign:
        raise StoreError(
            f"the folder is not a flightlog store and holds other things ({sorted(foreign)[0]})",
            where=str(root),
            hint="Give an empty or a new folder.",
        )


def write_file(layout: Layout, path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or none, even after a crash."""
    disk = layout.disk
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        descriptor = disk.create(temporary)
        try:
            disk.write_all(descriptor, content)
            disk.fsync(descriptor)
        finally:
            disk.close(descriptor)
        disk.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    disk.sync_folder(path.parent)
