"""Files of JSON values of any shape: one document, a list of them, or one a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import ForeignRun, microseconds
from flightlog.integrations.importers.json_input import (
    LineFile,
    decode,
    read_document,
    read_head,
)

Item = Mapping[str, Any]
_HINT: Final = "Nothing was imported."


class DocumentFile:
    """The runs of a file of JSON objects; each iteration reads it anew.

    A file of lines is read in flat memory; a document is in memory as a whole.

    Args:
        path: the file.
        runs_of: gives the runs of one object; gets where it stands, for messages.
        looks_like: what a file of this format is, in words.

    Raises:
        TraceFormatError: while iterating, where it is no such file.
    """

    def __init__(
        self, path: Path, runs_of: Callable[[Item, str], Iterable[ForeignRun]], *, looks_like: str
    ) -> None:
        self._path = path
        self._runs_of = runs_of
        self._looks_like = looks_like

    def __iter__(self) -> Iterator[ForeignRun]:
        for where, value in self._items():
            if not isinstance(value, dict):
                raise not_of_format(f"a {type(value).__name__}", where, self._looks_like)
            yield from self._guarded(value, where)

    def _guarded(self, value: Item, where: str) -> Iterator[ForeignRun]:
        """The runs of an object; one of another shape is told as such."""
        try:
            yield from self._runs_of(value, where)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise not_of_format(what, where, self._looks_like) from error

    def _items(self) -> Iterator[tuple[str, Any]]:
        if self._is_of_lines():
            for number, line in LineFile(self._path):
                where = f"{self._path}:{number}"
                yield where, decode(line, Any, where=where, looks_like=self._looks_like)
            return
        document = read_document(self._path, Any, looks_like=self._looks_like)
        if isinstance(document, list):
            yield from ((f"{self._path}: item {ix}", one) for ix, one in enumerate(document))
        else:
            yield str(self._path), document

    def _is_of_lines(self) -> bool:
        """True when the first line is a whole object and another follows."""
        head = read_head(self._path)
        first, end, rest = head.partition(b"\n")
        is_whole = head.startswith(b"{") and first.rstrip().endswith(b"}")
        return is_whole and bool(end) and bool(rest.strip())


def not_of_format(what: str, where: str, looks_like: str) -> TraceFormatError:
    """The error for a value that is not of its format."""
    return TraceFormatError(
        f"not the shape of this format: {what[:300]}",
        where=where,
        hint=f"Expected {looks_like}. {_HINT}",
    )


def text_at(value: Any, *path: str) -> str | None:
    """The text at a path of names; None where there is none, or an empty one."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and value else None


def count_at(value: Any, *path: str) -> int | None:
    """The count at a path of names; None where there is none."""
    number = number_at(value, *path)
    return int(number) if number is not None and number >= 0 and number == int(number) else None


def number_at(value: Any, *path: str) -> float | None:
    """The finite number at a path of names; None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and abs(value) < 1 << 53 else None


def items_at(value: Any, *path: str) -> list[Item]:
    """The objects of the list at a path of names."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def time_at(value: Any, *path: str) -> int | None:
    """The time at a path of names, in microseconds: ISO 8601 or seconds since 1970."""
    found = text_at(value, *path)
    if found is not None:
        try:
            return microseconds(found)
        except ValueError:
            return None
    seconds = number_at(value, *path)
    return round(seconds * 1e6) if seconds is not None and 0 < seconds < 253_402_300_799 else None
