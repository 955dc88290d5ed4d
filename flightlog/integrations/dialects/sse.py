"""Server-sent events: read piece by piece within bounds, and written.

Source: WHATWG HTML, "Server-sent events", interpretation of an event stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_EVENT_BYTES: Final = 16 << 20
"""Largest single event that is read."""
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Reads events out of the pieces of a stream, however it is cut.

    Args:
        max_event_bytes: longest event; a longer one ends the reading.

    Attributes:
        is_lost: True after an event that was too long: nothing further is read.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.is_lost = False
        self._most = max_event_bytes
        self._rest = bytearray()
        self._searched = 0
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[tuple[str, str]]:
        """Name and data of each event that is whole now; the name is empty where none is given."""
        if self.is_lost:
            return
        self._rest += piece
        start = 0
        while (end := _LINE_END.search(self._rest, max(start, self._searched))) is not None:
            if end.group() == b"\r" and end.end() == len(self._rest):
                break  # the other half of the line's end may come yet
            yield from self._line(bytes(self._rest[start : end.start()]))
            start = self._searched = end.end()
        del self._rest[:start]
        self._searched = max(0, len(self._rest) - 1)
        if self._size + len(self._rest) > self._most:
            self.is_lost = True
            self._rest.clear()
            self._data.clear()

    def _line(self, line: bytes) -> Iterator[tuple[str, str]]:
        if not line:
            if self._data:
                yield self._name, b"\n".join(self._data).decode("utf-8", "replace")
            self._name, self._data, self._size = "", [], 0
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._name = value[:200].decode("utf-8", "replace")


def event(data: Mapping[str, Any] | str, name: str = "") -> bytes:
    """One event as it goes over the wire."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")
