"""Where things lie in a store folder, and the check that a folder is one.

FORMAT      journal/<id>.journal
events/date=YYYY-MM-DD/<id>.parquet      messages/date=YYYY-MM-DD/<id>.parquet
blobs/<2>/<digest>      manifest/      quarantine/      control/ (no traces: kill switch, breakers)
"""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flightlog.control.control import CONTROL_FOLDER
from flightlog.control.owner import give_to_owner, make_folder
from flightlog.errors import DamagedError, StoreError
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
_FOLDERS: Final = (
    "journal",
    "events",
    "messages",
    "blobs",
    "manifest",
    "quarantine",
    CONTROL_FOLDER,  # so that it belongs to whoever records, and not to who switches first
)


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
    """The paths of one store."""

    root: Path

    @property
    def format_file(self) -> Path:
        return self.root / "FORMAT"

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

    def journal_file(self, journal_id: str) -> Path:
        """The journal of this id."""
        return self.journals / (journal_id + JOURNAL_SUFFIX)

    def events_segment(self, journal_id: str) -> Path:
        """The events segment that the journal of this id becomes."""
        return self.events / f"date={day_of(journal_id)}" / (journal_id + SEGMENT_SUFFIX)

    def messages_segment(self, journal_id: str) -> Path:
        """The messages segment that the journal of this id becomes."""
        return self.messages / f"date={day_of(journal_id)}" / (journal_id + SEGMENT_SUFFIX)

    def blob_file(self, digest: str) -> Path:
        """The blob of this digest."""
        return self.blobs / digest[:2] / digest

    def journal_files(self) -> list[Path]:
        """All journals, oldest first."""
        return _files(self.journals, f"*{JOURNAL_SUFFIX}")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def segment_files(folder: Path) -> list[Path]:
    """All Parquet files below `folder` (events or messages), in order of day and name."""
    return _files(folder, f"**/*{SEGMENT_SUFFIX}")


def open_layout(path: str | Path) -> Layout:
    """The layout of an existing store.

    Raises:
        StoreError: nothing is there, or it is not a store.
        NewerFormatError: a newer flightlog made it.
        DamagedError: its FORMAT file cannot be read as one.
    """
    layout = Layout(Path(path))
    if not layout.root.is_dir():
        what = "is a file" if layout.root.exists() else "does not exist"
        raise StoreError(
            f"the store {what}",
            where=str(layout.root),
            hint="Give the folder that Recorder(...) or record(...) wrote to; commands take it "
            "from --store or FLIGHTLOG_STORE.",
        )
    try:
        text = layout.format_file.read_text(encoding="utf-8")
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


def create_layout(path: str | Path) -> Layout:
    """The layout of a store that is made when absent; several processes may do so at once.

    Raises:
        StoreError: the path is a file, a folder with foreign content, or not writable.
        NewerFormatError: a newer flightlog made the store.
    """
    layout = Layout(Path(path))
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        if not layout.format_file.exists():
            _refuse_foreign_content(layout.root)
            write_file(layout.format_file, f"{FORMAT_WORD} {FORMAT_VERSION}\n".encode())
        open_layout(layout.root)
        for name in _FOLDERS:
            mode = 0o700 if name == "journal" else 0o777
            make_folder(layout.root / name, mode=mode)
    except OSError as error:
        raise StoreError(
            f"cannot create or write the store: {error.strerror or error}",
            where=str(layout.root),
            hint="Give a folder that this user may write to.",
        ) from error
    return layout


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


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that readers see all of it or none, even after a crash."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    give_to_owner(descriptor, path.parent)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def write_all(descriptor: int, content: bytes) -> None:
    """Writes all bytes, however many calls that takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Makes new and renamed names in a folder survive the loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
