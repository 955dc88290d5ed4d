"""The table of metrics of one comparison: the built-in ones, changed and extended by settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from flightlog.analysis.gate.metrics import METRICS, Kind, Metric
from flightlog.analysis.sql_files import VIEW_KEYS
from flightlog.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from flightlog.config import Config

DEFAULT_TOLERANCE: Final = {
    Kind.RATIO: 0.10,
    Kind.QUANTILE: 0.25,
    Kind.POINTS: 0.05,
    Kind.MIX: 0.10,
}
KINDS: Final = {"ratio": Kind.RATIO, "points": Kind.POINTS, "p95": Kind.QUANTILE}
"""What a file calls the kinds that a metric of your own may have."""
SETTING: Final = "monitoring.metrics"
TRACK: Final = "monitoring.track"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
_FROM: Final = re.compile(r"\s+from\s+(\w+)\s*\Z", re.IGNORECASE)


def metric_table(
    config: Config | None = None,
    *,
    tolerances: Mapping[str, float] | None = None,
    defined: Mapping[str, str] | None = None,
) -> tuple[Metric, ...]:
    """Every metric that there is, as settings and options say.

    Args:
        config: settings; their `monitoring.metrics` changes built-in metrics and adds others.
        tolerances: metric -> largest harmless change, as a share; over the settings.
        defined: name -> `EXPRESSION FROM VIEW`, for a metric of your own that gates; without
            a view it is over `runs`.

    Raises:
        UnknownNameError: a tolerance of a metric that is none, or a view that is none.
        UsageError: a name that is taken or is none, or a tolerance that is no share.
    """
    table = {metric.name: metric for metric in METRICS}
    entries: Mapping[str, Mapping[str, Any]] = config[SETTING] if config is not None else {}
    for name, entry in entries.items():
        assert config is not None
        table[name] = _changed(table.get(name), name, entry, config.where(SETTING, name))
    for name, text in (defined or {}).items():
        table[name] = _defined(name, text, list(table))
    for name, tolerance in (tolerances or {}).items():
        if name not in table:
            raise UnknownNameError.of("metric", name, list(table))
        if not 0 < tolerance < 100:
            raise UsageError(
                f"tolerance {tolerance:g} of {name}", hint="A share above 0: 0.1 is 10 %."
            )
        table[name] = replace(table[name], tolerance=tolerance)
    return tuple(table.values())


def gated_of(config: Config | None) -> frozenset[str] | None:
    """Names of the metrics that settings choose to gate; None leaves it to the table."""
    if config is None or not config.is_set(TRACK):
        return None
    entries: Mapping[str, Mapping[str, Any]] = config[SETTING]
    chosen = set(config[TRACK])
    for name, entry in entries.items():
        if "gate" in entry:
            chosen = chosen | {name} if entry["gate"] else chosen - {name}
    return frozenset(chosen)


def custom_of(table: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics of your own in a table."""
    return tuple(metric for metric in table if metric.sql is not None)


def _changed(known: Metric | None, name: str, entry: Mapping[str, Any], origin: str) -> Metric:
    changes: dict[str, Any] = {}
    if known is None:
        kind = KINDS[entry.get("kind", "ratio")]
        known = Metric(
            name=name,
            column="",
            unit=entry.get("unit", ""),
            kind=kind,
            tolerance=DEFAULT_TOLERANCE[kind],
            description=f"{entry['sql']} over {entry.get('from', 'runs')}",
            higher_is_worse=entry.get("worse", "higher") == "higher",
            sql=entry["sql"],
            view=entry.get("from", "runs"),
            origin=origin,
        )
    if "tolerance" in entry:
        changes["tolerance"] = float(entry["tolerance"])
    if "gate" in entry:
        changes["gates"] = entry["gate"]
    return replace(known, **changes)


def _defined(name: str, text: str, taken: Sequence[str]) -> Metric:
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} is no name of a metric",
            hint="Small letters, digits and _, such as searches.",
        )
    if name in taken:
        raise UsageError(f"there is a metric {name!r} already", hint="Choose another name.")
    found = _FROM.search(text)
    sql, view = (text[: found.start()], found[1].lower()) if found else (text, "runs")
    if view not in VIEW_KEYS:
        raise UnknownNameError.of("view", view, list(VIEW_KEYS), where=f"metric {name!r}")
    return Metric(
        name=name,
        column="",
        unit="",
        kind=Kind.RATIO,
        tolerance=DEFAULT_TOLERANCE[Kind.RATIO],
        description=f"{sql} over {view}",
        sql=sql,
        view=view,
        origin="--define",
    )
