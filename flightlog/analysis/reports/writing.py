"""Reports as files."""

from __future__ import annotations

from pathlib import Path

from flightlog.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Writes a report; folders are made as needed.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"cannot write the report: {error.strerror}", where=str(path)) from error
