"""Versions of what flightlog writes, and the refusal of what it cannot know.

FORMAT_VERSION counts changes of the event columns, of the journal framing or of the
manifests; GOLDEN_VERSION those of golden tasks. A reader reads every version up to its
own and refuses newer ones by name.
"""

from __future__ import annotations

from flightlog.errors import NewerFormatError

FORMAT_VERSION = 2
GOLDEN_VERSION = 1
CANON_VERSION = "canon/1"


def check_format(version: int, *, where: str, newest: int = FORMAT_VERSION) -> None:
    """Refuses a file of a newer format.

    Raises:
        NewerFormatError: `version` is above `newest`.
    """
    if version > newest:
        raise NewerFormatError(
            f"format {version} is newer than format {newest}, the newest that this flightlog reads",
            where=where,
            hint="Upgrade: pip install --upgrade flightlog",
        )
