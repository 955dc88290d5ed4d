r"""Escapes around and in values: JSON within JSON puts `\\\"` where a quote was."""

from __future__ import annotations

import re
from typing import Final

MAX_QUOTED: Final = 1 << 16
"""Longest text between quotes that is looked at as one value, in bytes."""

_ESCAPES: Final = re.compile(rb"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_SHORT: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_NAME_AND_COLON: Final = re.compile(rb"(\\*[\"'])[ \t]*:(?:[ \t]|\\*[nrt]|[\r\n])*\Z")
_AFTER_NUMBER: Final = re.compile(rb"[,}\] \t\r\n]|\\+[nrt]|\Z")
_LONGEST_SPACE: Final = 80


def unescaped(value: bytes, slashes: int) -> bytes:
    """A text between quotes without the escapes of JSON.

    Args:
        value: what is between the quotes.
        slashes: backslashes before each of these; they tell how deep in JSON the text is.
    """
    for _ in range((slashes + 1).bit_length()):
        if b"\\" not in value:
            break
        value = _ESCAPES.sub(_sign_of, value)
    return value


def _sign_of(found: re.Match[bytes]) -> bytes:
    sign = found[1]
    if len(sign) == 5:
        return chr(int(sign[1:], 16)).encode("utf-8", "surrogatepass")
    return _SHORT.get(sign, sign)


def is_word(sign: bytes) -> bool:
    """True for a letter, a digit or an underscore; False for nothing."""
    return sign.isalnum() or sign == b"_"


def behind_escape(data: bytes, start: int, stop: int) -> int:
    r"""Where a text begins that seemed to begin with the letters of an escape, such as `\n`."""
    if start == 0 or data[start - 1 : start] != b"\\" or start >= stop:
        return start
    sign = data[start : start + 1]
    if sign == b"u":
        return min(start + 5, stop)
    return start + 1 if sign in b"nrtbf" else start


def closing_quote(data: bytes, start: int, slashes: int, quote: bytes) -> int | None:
    """Where the text ends whose opening quote had so many backslashes before it.

    In JSON within JSON a quote of the text itself has more backslashes than the one that
    ends it: of every 2 * (slashes + 1) all but one.

    Returns:
        None where no end is within `MAX_QUOTED` bytes.
    """
    period, at = 2 * (slashes + 1), start
    limit = min(len(data), start + MAX_QUOTED)
    while (at := data.find(quote, at, limit)) >= 0:
        run = at
        while run > start and data[run - 1] == 92:
            run -= 1
        if (at - run) % period != period - 1:
            return at - min(at - run, slashes)
        at += 1
    return None


def number_quote(data: bytes, start: int, end: int) -> bytes:
    """The quote that a bare JSON number needs when a text takes its place; empty for none."""
    before = _NAME_AND_COLON.search(data[max(0, start - _LONGEST_SPACE) : start])
    if before is None:
        return b""
    if not _AFTER_NUMBER.match(data, end):
        return b""
    # Of the backslashes before the quote some may be the end of the name: those that belong to
    # the quote are 0, 1, 3, 7 ..., the trailing ones of their number in binary.
    slashes = len(before[1]) - 1
    return before[1][slashes - ((slashes ^ (slashes + 1)) >> 1) :]
