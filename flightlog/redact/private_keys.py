"""Private keys: as PEM, also in part, of PuTTY, and as JSON Web Keys."""

from __future__ import annotations

import re
from typing import Final

from flightlog.redact import patterns
from flightlog.redact.escapes import behind_escape, is_word
from flightlog.redact.finds import Find, Work
from flightlog.redact.pseudonyms import PSEUDONYM

PRIVATE_KEYS: Final = "private_key"
_MOST_OF_TAIL: Final = 8192
_BREAK_BEFORE: Final = re.compile(rb"(?:(?:\\+r)?\\+n|\r?\n)\Z")


def pem(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
    """A key from its first line to its last, or to where it was cut off."""
    body = patterns.PEM_BODY.match(data, stop)
    end = body.end() if body else stop
    closing = patterns.PEM_END.match(data, end)
    if closing is None and (lines := patterns.PEM_LINES.match(data, stop)) is not None:
        closing = patterns.PEM_END.match(data, lines.end())  # quoted, or lines of a program
    if closing is not None:
        end = closing.end()
    else:  # cut off
        while end > stop and data[end - 1] in b"\\ \t\r\n,.:nr":
            end -= 1
    work.spend((end - begin) >> 2)
    value = re.sub(rb"\\+[nr]|[\s\\]", b"", data[begin:end])
    if PSEUDONYM.search(value):
        return None
    return Find(begin, end, PRIVATE_KEYS, value, b"", PRIVATE_KEYS, begin)


def pem_tail(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
    """The lines of a key whose beginning was cut off, or of one of PuTTY."""
    if data[begin : begin + 1] == b"P":
        found = patterns.KEY_LINES.match(data, stop)
        work.spend(found.end() - begin if found else 0)
        if found is None:
            return None
        start, end = found.span(1)
    else:
        start, end = _lines_before(data, begin), begin
        work.spend(end - start)
    value = re.sub(rb"\\+[nr]|[\s\\]", b"", data[start:end])
    if len(value) < 16:
        return None
    return Find(start, end, PRIVATE_KEYS, value, b"", PRIVATE_KEYS, start)


def _lines_before(data: bytes, end: int) -> int:
    """Where the lines of Base64 begin that end there; the end itself where none do."""
    first, least = end, max(0, end - _MOST_OF_TAIL)
    while True:
        start = end
        while start > least and (is_word(data[start - 1 : start]) or data[start - 1] in b"+/="):
            start -= 1
        start = behind_escape(data, start, end)
        if end - start < 16:
            return first
        first = start
        before = _BREAK_BEFORE.search(data[max(0, start - 8) : start])
        if before is None:
            return first
        end = start - len(before[0])


def jwk(data: bytes, begin: int, stop: int, work: Work) -> Find | None:
    """A private part of a JSON Web Key (RFC 7518, section 6)."""
    found = patterns.JWK_VALUE.match(data, stop - 22)
    if found is None or b"kty" not in data[max(0, begin - 4096) : found.end() + 4096]:
        return None
    work.spend(8192)
    start, end = found.span()
    return Find(start, end, PRIVATE_KEYS, found[0], b"", PRIVATE_KEYS, begin)
