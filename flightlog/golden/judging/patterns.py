"""Regular expressions of contracts, in linear time: an answer cannot make one run for ever."""

from __future__ import annotations

from functools import lru_cache

from flightlog.redact.linear import Linear, LinearError, linear

__all__ = ["LinearError", "found_in", "groups_of"]


def found_in(pattern: str, text: str) -> str | None:
    """What a pattern finds first: its first group where it has one, else the whole match.

    Args:
        pattern: RE2.
        text: any text; lone surrogates count as U+FFFD.

    Returns:
        None where the pattern is not found; empty where its group took no part.

    Raises:
        LinearError: the pattern is not RE2.
    """
    compiled = _compiled(pattern)
    data = text.encode("utf-8", "replace")
    match = compiled.search(data)
    if match is None:
        return None
    start, end = match.span(1 if compiled.groups else 0)
    return data[start:end].decode("utf-8", "replace") if start >= 0 else ""


def groups_of(pattern: str) -> int:
    """How many groups a pattern has.

    Raises:
        LinearError: the pattern is not RE2.
    """
    return _compiled(pattern).groups


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Linear:
    return linear(pattern, has_groups=True)
