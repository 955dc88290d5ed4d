"""Ids of runs and journals: UUIDv7, unique and in order of creation."""

from __future__ import annotations

import datetime
import uuid

import uuid_utils


def new_run_id() -> str:
    """A fresh run id; ids made later sort later."""
    return str(uuid_utils.uuid7())


def new_journal_id() -> str:
    """A fresh journal id; its creation day can be read from it (`day_of`)."""
    return str(uuid_utils.uuid7())


def day_of(journal_id: str) -> str:
    """UTC day (YYYY-MM-DD) on which a journal id was made; an odd id gives 1970-01-01.

    The day is a function of the name, so a redone sealing writes to the same place.
    """
    try:
        parsed = uuid.UUID(journal_id)
    except ValueError:
        return "1970-01-01"
    if parsed.version != 7:
        return "1970-01-01"
    milliseconds = parsed.int >> 80
    try:
        return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "1970-01-01"
