"""Ids of journals: the day of a journal is in its id."""

from __future__ import annotations

import datetime
import uuid


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
