"""JSON Pointers: where in a JSON value something stands.

Source: RFC 6901.
"""

from __future__ import annotations

import re
from typing import Any, Final

_MALFORMED_ESCAPE: Final = re.compile(r"~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def steps_of(pointer: str) -> list[str] | None:
    """The names and indices that a pointer goes through; None for one that is malformed."""
    if pointer == "":
        return []
    if not pointer.startswith("/") or _MALFORMED_ESCAPE.search(pointer):
        return None
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/")]


def value_at(value: Any, pointer: str) -> Any:
    """What stands at a pointer.

    Raises:
        LookupError: nothing does, or the pointer is malformed.
    """
    steps = steps_of(pointer)
    if steps is None:
        raise LookupError(pointer)
    for step in steps:
        if isinstance(value, dict):
            value = value[step]
        elif isinstance(value, list) and _INDEX.fullmatch(step):
            value = value[int(step)]
        else:
            raise LookupError(pointer)
    return value
