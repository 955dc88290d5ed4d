"""Values of a trace as short text that is harmless for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flightlog.trace.terminal_text import escape_terminal

__all__ = ["UNKNOWN", "cell_text", "escape_terminal", "number_text", "share_text"]

UNKNOWN = "-"
"""How a null is shown: unknown or absent, never zero."""


def cell_text(value: Any, *, max_chars: int | None = None) -> str:
    """One value as a table shows it: short numbers, UTC times to the second, JSON for lists."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return escape_terminal(value, max_chars=max_chars)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, (Mapping, list, tuple)):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return escape_terminal(text, max_chars=max_chars)
    return escape_terminal(str(value), max_chars=max_chars)


def number_text(value: float) -> str:
    """A number to six significant digits, never in exponent form where it can be helped."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.6g}"
    if 1e6 <= abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value:.6g}"


def share_text(value: float) -> str:
    """A share as percent, to three significant digits; 1 is 100 %."""
    percent = 100 * value
    return f"{percent:.0f} %" if 1000 <= abs(percent) < 1e15 else f"{percent:.3g} %"
