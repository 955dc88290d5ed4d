"""What root makes in the store of another user is that user's, or it shuts them out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Gives a file that this process has just made to the owner of its folder, as root only.

    The file must have been opened with O_EXCL: one that was there before might be a
    link to somebody else's. Where the file system refuses, nothing changes.
    """
    if os.geteuid() == 0:
        with suppress(OSError):
            owner = folder.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_folder(folder: Path, *, mode: int = 0o700) -> None:
    """Makes a folder, and those above it that are missing, where there is none.

    Only its owner may enter it, unless `mode` says otherwise.

    As root each is given to the owner of the one above.

    Raises:
        OSError: it cannot be made, or a file is in its place.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    if os.geteuid() == 0:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                give_to_owner(descriptor, folder.parent)
            finally:
                os.close(descriptor)


def lock_file(path: Path) -> int:
    """Opens a lock file for reading and writing, made when absent; the descriptor.

    Raises:
        OSError: it cannot be opened so, by this user.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileExistsError):
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        give_to_owner(descriptor, path.parent)
        return descriptor
    return os.open(path, flags)
