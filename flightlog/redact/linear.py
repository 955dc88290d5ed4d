"""Patterns in linear time (RE2), over bytes; the one module that knows the library."""

from __future__ import annotations

from typing import Protocol

import re2  # type: ignore[import-untyped]


class LinearError(ValueError):
    """A pattern that RE2 does not take."""


class Match(Protocol):
    """Where a pattern matched."""

    def span(self, group: int = ...) -> tuple[int, int]: ...


class Linear(Protocol):
    """A compiled pattern."""

    @property
    def groups(self) -> int: ...
    def search(self, data: bytes, pos: int = ...) -> Match | None: ...


def linear(pattern: str | bytes, *, max_mem: int = 64 << 20, has_groups: bool = False) -> Linear:
    """The pattern, compiled.

    Args:
        pattern: as text it is over the UTF-8 of texts, as bytes over the bytes themselves.
        max_mem: bytes that its states may take.
        has_groups: keeps where its groups matched.

    Raises:
        LinearError: it is not RE2, or too large.
    """
    options = re2.Options()
    if isinstance(pattern, bytes):
        options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = not has_groups
    options.log_errors = False
    options.max_mem = max_mem
    try:
        compiled: Linear = re2.compile(
            pattern.encode() if isinstance(pattern, str) else pattern, options
        )
    except (re2.error, UnicodeEncodeError) as error:
        raise LinearError(str(error)) from error
    return compiled
