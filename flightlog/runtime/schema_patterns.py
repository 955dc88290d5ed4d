"""Regular expressions of schemas, matched in linear time by Rust's engine.

Python's `re` never sees a schema's pattern: a pattern such as `^(a+)+$` would
let a text of thirty characters hold the process for minutes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import jsonschema_rs

MAX_COMPILED_BYTES: Final = 4 * 2**20
"""A pattern that takes more memory than this when compiled is refused."""

MAX_WORK: Final = 6_000_000
"""Longest text, characters times KiB of the compiled pattern: about 0.25 s at the worst."""

_STEPS: Final = tuple(2**power for power in (10, 12, 14, 16, 18, 20, 22))


class PatternError(ValueError):
    """A pattern that the linear engine does not take."""


class TooMuchWorkError(Exception):
    """A value that cannot be checked within the time that a check may take."""


class Pattern:
    """One regular expression of a schema.

    Attributes:
        kib: memory of the compiled pattern, KiB, as an upper bound.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        for limit in _STEPS:
            options = jsonschema_rs.RegexOptions(size_limit=limit)
            try:
                self._validator = jsonschema_rs.Draft202012Validator(
                    {"pattern": text}, pattern_options=options, offline=True
                )
            except (ValueError, jsonschema_rs.ValidationError):
                continue
            self.kib = limit // 2**10
            return
        raise PatternError(text)

    def is_in(self, text: str) -> bool:
        """True when the pattern matches somewhere in the text.

        Raises:
            TooMuchWorkError: the text is too long for a pattern of this size.
        """
        if len(text) * self.kib > MAX_WORK:
            raise TooMuchWorkError(
                f"a text of {len(text)} characters is too long for the pattern {self._text!r}"
            )
        try:
            return self._validator.is_valid(text)
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8
            return self._validator.is_valid(text.encode("utf-8", "replace").decode())


@lru_cache(maxsize=1024)
def pattern_of(text: str) -> Pattern:
    """The compiled pattern.

    Raises:
        PatternError: it is malformed, larger than `MAX_COMPILED_BYTES`, or needs
            backtracking (look-around, back-references).
    """
    return Pattern(text)
