"""The difference of two JSON values as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from flightlog.trace.canonical import canonical_json

Operation: TypeAlias = dict[str, Any]


def json_patch(before: Any, after: Any) -> list[Operation]:
    """The `add`, `remove` and `replace` operations that turn one value into the other.

    Lists of one length are compared item by item; a list of another length is replaced.

    Source: RFC 6902 (operations), RFC 6901 (pointers).
    """
    return list(_operations("", before, after))


def _operations(path: str, before: Any, after: Any) -> Iterator[Operation]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            at = f"{path}/{_escaped(name)}"
            if name not in after:
                yield {"op": "remove", "path": at}
            elif name not in before:
                yield {"op": "add", "path": at, "value": after[name]}
            else:
                yield from _operations(at, before[name], after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _operations(f"{path}/{place}", one, other)
    elif canonical_json(before) != canonical_json(after):
        yield {"op": "replace", "path": path, "value": after}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
