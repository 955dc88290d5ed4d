"""Long texts in slices: their size, their bytes and their damage without a second copy of them.

A text of 100 MB is measured, hashed, searched and written piece by piece, so that what
recording needs beside the caller's own string does not grow with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SLICE_CHARS: Final = 1 << 18
"""Characters that are looked at at once: at most 1 MiB of UTF-8."""


def text_slices(text: str, *, chars: int = SLICE_CHARS) -> Iterator[str]:
    """The text in pieces of so many characters; a short text is its own one piece."""
    if len(text) <= chars:
        yield text
        return
    for start in range(0, len(text), chars):
        yield text[start : start + chars]


def utf8_size(text: str) -> int:
    """Bytes of the text in UTF-8; a lone surrogate counts the three that it would have."""
    if text.isascii():
        return len(text)
    return sum(len(piece.encode("utf-8", "surrogatepass")) for piece in text_slices(text))


def is_valid_utf8(text: str) -> bool:
    """False when the text holds a lone surrogate, which no file in UTF-8 can."""
    if text.isascii():
        return True
    try:
        for piece in text_slices(text):
            piece.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean_slice(piece: str) -> str:
    """The piece with each byte of a lone surrogate as U+FFFD, so that it is valid UTF-8."""
    try:
        piece.encode()
    except UnicodeEncodeError:
        return piece.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return piece


def utf8_slices(text: str) -> Iterator[bytes]:
    """The cleaned text in UTF-8, in pieces."""
    for piece in text_slices(text):
        try:
            yield piece.encode()
        except UnicodeEncodeError:
            yield clean_slice(piece).encode()


def cut_to_bytes(text: str, max_bytes: int) -> str:
    """The longest beginning of the text that has at most so many bytes in UTF-8."""
    if len(text) * 4 <= max_bytes:
        return text
    head = text[:max_bytes]
    if head.isascii():
        return head
    raw = head.encode("utf-8", "surrogatepass")
    if len(raw) <= max_bytes:
        return head
    # A sign that is cut in two is left out; lone surrogates before it stay.
    stop = max_bytes
    while raw[stop] & 0xC0 == 0x80:
        stop -= 1
    return raw[:stop].decode("utf-8", "surrogatepass")
