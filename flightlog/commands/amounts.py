"""Sizes and spans of time as people write them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_BYTES: Final = {
    "": 1,
    "b": 1,
    **{f"{sign}b": 1000**power for power, sign in enumerate("kmgt", start=1)},
    **{f"{sign}ib": 1024**power for power, sign in enumerate("kmgt", start=1)},
}


class Amount(click.ParamType[float]):
    """A number with a unit, up to as many of the smallest unit."""

    def __init__(self, name: str, units: Mapping[str, float], example: str, *, most: float) -> None:
        self.name = name
        self._units = units
        self._example = example
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The amount in the smallest unit."""
        if isinstance(value, int | float):
            return float(value)
        found = _AMOUNT.fullmatch(value)
        if found is None or found[2].lower() not in self._units:
            known = ", ".join(unit for unit in self._units if unit)
            self.fail(
                f"{value!r} is not an amount like {self._example} (units: {known})", param, ctx
            )
        amount = float(found[1]) * self._units[found[2].lower()]
        if amount > self._most:
            self.fail(f"{value[:40]!r} is too much", param, ctx)
        return amount


SPAN: Final = Amount("span", _SECONDS, "30d", most=1000 * 366 * 86_400.0)
"""A span of time up to a thousand years, in seconds."""

SIZE: Final = Amount("size", _BYTES, "10GB", most=1e24)
"""A size in bytes; kB is 1000, KiB is 1024."""


class Moment(click.ParamType[datetime]):
    """A date or time, UTC unless it says otherwise; or how long ago."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return datetime.fromtimestamp(time.time() - SPAN.convert(value, param, ctx), UTC)
        try:
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except OverflowError:
            self.fail(f"{value!r} is beyond the calendar", param, ctx)


MOMENT: Final = Moment()
"""A date or time in UTC, or how long ago."""


def size_text(size: float) -> str:
    """A size as people read it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
