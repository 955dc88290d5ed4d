"""What the shape of a secret is: a head that is searched for, and a tail that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flightlog.redact import checks

WORD: Final = rb"[A-Za-z0-9]*"
WORD_: Final = rb"[A-Za-z0-9_]*"
WORD_DASH: Final = rb"[A-Za-z0-9_-]*"
WORD_DOT: Final = rb"[A-Za-z0-9_.-]*"
HEX: Final = rb"[0-9a-fA-F]*"
BASE64: Final = rb"[A-Za-z0-9+/=]*"
MIXED: Final = "a1B2c3D4"
UUID: Final = "1b2c3d4e-1111-2222-3333-444455556666"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One shape.

    Attributes:
        kind: what a pseudonym of it is called.
        head: RE2 of its beginning, of bounded length.
        tail: the characters that may follow, as one class.
        min_bytes: least length of head and tail together; shorter ones are something else.
        max_bytes: largest length; None for no limit.
        check: says of a whole value whether it is one, beyond its shape.
        examples: made up, and each one found.
    """

    kind: str
    head: bytes
    tail: bytes
    min_bytes: int
    max_bytes: int | None = None
    check: Callable[[bytes], bool] | None = None
    examples: tuple[str, ...] = ()


def exact(kind: str, head: bytes, tail: bytes, length: int, *examples: str) -> Pattern:
    """A shape of one length."""
    return Pattern(kind, head, tail, length, length, None, examples)


def at_least(kind: str, head: bytes, tail: bytes, length: int, *examples: str) -> Pattern:
    """A shape of so many bytes or more."""
    return Pattern(kind, head, tail, length, None, None, examples)


def random(kind: str, head: bytes, tail: bytes, length: int, *examples: str) -> Pattern:
    """A shape that also words could have; digits and letters must be mixed in it."""
    return Pattern(kind, head, tail, length, None, checks.is_random_key, examples)
