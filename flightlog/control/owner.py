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
