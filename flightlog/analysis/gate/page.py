"""The documentation page of all metrics, made from their table.

Write it anew with `python -m flightlog.analysis.gate.page > docs/metrics.md`.
"""

from __future__ import annotations

import sys

from flightlog.analysis.gate.metrics import METRICS, Kind, Metric

_KINDS = {
    Kind.RATIO: "ratio of means",
    Kind.QUANTILE: "ratio of 95th percentiles",
    Kind.POINTS: "points of a share",
    Kind.MIX: "points that moved",
}
_INTRO = """\
# Metrics

What `flightlog check` and `flightlog gate` compare. This page is made from the table of metrics; do
not edit it. The kinds and the decisions: [checks](checks.md).

| metric | what it measures | unit | change as | tolerance | gates |
|---|---|---|---|--:|---|
"""
_END = """
*Gates*: yes can fail a check; *together* does where both sides ran in one session, and is advisory
where they did not (cost also gates against a baseline of 3 or more sessions, as a guard against the
day); no is advisory. `monitoring.track`, `--metric` and `monitoring.metrics.<metric>.gate` say
otherwise.

A metric that is unknown (or, for tokens and cost, 0) in half of the runs of a side is UNAVAILABLE;
where it gates, or is tokens or cost, that forbids an OK.
"""


def metrics_page() -> str:
    """The page as Markdown."""
    return _INTRO + "".join(_row(metric) for metric in METRICS) + _END


def _row(metric: Metric) -> str:
    unit = "pts" if metric.kind.is_share else "%"
    gates = "no"
    if metric.gates:
        gates = "yes" if metric.gates_confounded else "together"
    worse = "" if metric.higher_is_worse else " Less is worse."
    cells = (
        f"`{metric.name}`",
        f"{metric.description}{worse}",
        metric.unit,
        _KINDS[metric.kind],
        f"{metric.tolerance * 100:g} {unit}",
        gates,
    )
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
