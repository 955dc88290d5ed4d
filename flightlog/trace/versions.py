"""Versions of what flightlog writes, and the refusal of what it cannot know.

FORMAT_VERSION counts changes of the event columns or of the journal framing.
A reader reads every version up to its own and refuses newer ones by name.
"""

from __future__ import annotations

from flightlog.errors import NewerFormatError

FORMAT_VERSION = 1
CANON_VERSION = "canon/1"


def check_format(version: int, *, where: str) -> None:
    """Refuses a file of a newer format.

    Raises:
        NewerFormatError: `version` is above FORMAT_VERSION.
    """
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"format {version} is newer than format {FORMAT_VERSION}, the newest that this "
            "flightlog reads",
            where=where,
            hint="Upgrade: pip install --upgrade flightlog",
        )
