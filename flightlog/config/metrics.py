"""What JSON Schema cannot say of the metrics of a settings file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flightlog.config.reading import Lines
from flightlog.config.settings import TRACKABLE_METRICS
from flightlog.errors import ConfigError, nearest_text

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
_OF_YOUR_OWN: Final = ("from", "kind", "unit", "worse")
_KEYS: Final = ("monitoring", "metrics")


def check_metrics(value: Any, lines: Lines, file: str) -> None:
    """Checks that every metric that is named is one, and that every new one is defined.

    Args:
        value: what the file holds, valid by its schema.
        lines: line of every key.
        file: as in errors.

    Raises:
        ConfigError: a tracked metric that nothing defines; a metric of your own without `sql`;
            `sql` of a built-in one; a name that is none; a share whose tolerance is 1 or more.
    """
    monitoring = (value or {}).get("monitoring") or {}
    entries: Mapping[str, Mapping[str, Any]] = monitoring.get("metrics") or {}
    for name, entry in entries.items():
        problem = _problem(name, entry)
        if problem is not None:
            what, hint = problem
            where = f"{file}:{lines[(*_KEYS, name)]}"
            raise ConfigError(f"monitoring.metrics.{name}: {what}", where=where, hint=hint)
    known = {*TRACKABLE_METRICS, *entries}
    for place, name in enumerate(monitoring.get("track") or ()):
        if name not in known:
            raise ConfigError(
                f"monitoring.track[{place}]: {name[:60]!r} is unknown",
                where=f"{file}:{lines[('monitoring', 'track', place)]}",
                hint=f"{nearest_text(name, known, shown=20)}. Define your own under "
                "monitoring.metrics.",
            )


def _problem(name: str, entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with one entry, and what to do; None when nothing is."""
    if not _NAME.match(name):
        return "no name of a metric", "Small letters, digits and _, such as searches_per_run."
    falls = entry.get("kind") == "points" or entry.get("worse") == "lower"
    if falls and entry.get("tolerance", 0) >= 1:
        return "a tolerance of 1 or more lets everything pass", "Write a share, such as 0.05."
    if name in TRACKABLE_METRICS:
        own = [key for key in ("sql", *_OF_YOUR_OWN) if key in entry]
        if own:
            return (
                f"{own[0]} of a metric that is built in",
                "Choose another name; tolerance and gate can be set here.",
            )
        return None
    if "sql" not in entry:
        return "sql is missing", f"{nearest_text(name, TRACKABLE_METRICS, shown=20)}. Or add sql."
    return None
