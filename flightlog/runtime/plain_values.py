"""Results as plain JSON values: models, dataclasses, enums and dates within them."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Mapping
from typing import Any, Final

MAX_LEVELS: Final = 200


def plain_of(value: Any, levels: int = MAX_LEVELS) -> Any:
    """The value with all that has an obvious JSON form in that form; all else is left alone.

    Raises:
        ValueError: nested deeper than `levels`.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if levels <= 0:
        raise ValueError(f"nested deeper than {MAX_LEVELS} levels")
    is_class = isinstance(value, type)
    dump = None if is_class else getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True)  # by alias, as its JSON Schema has it
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not is_class:
        fields = dataclasses.fields(value)
        return {one.name: plain_of(getattr(value, one.name), levels - 1) for one in fields}
    if isinstance(value, Mapping):
        return {name: plain_of(one, levels - 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_of(one, levels - 1) for one in value]
    return value


def plain_result(value: Any) -> Any:
    """What a tool returned, plain as far as it can be; what cannot is the gateway's to refuse."""
    try:
        return plain_of(value)
    except Exception:  # a model's own serialisers are foreign code
        return value
