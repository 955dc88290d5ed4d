"""How much of its budgets each run used: the numbers behind the budget plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flightlog.analysis.window import EVERYTHING, Scope
from flightlog.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

BUDGETS = ("max_steps", "max_tool_calls", "max_seconds", "max_tokens", "max_usd")
NO_VARIANT = "(no variant)"
MAX_VARIANTS = 6
GROUPS = ("variant", "agent", "model", "tenant")
_DAY_US = 86_400_000_000

_USE = """
SELECT
    budget, unit, allowed, share, coalesce(is_hit, FALSE) AS is_hit,
    coalesce(
        CASE $by
            WHEN 'variant' THEN runs.variant WHEN 'agent' THEN runs.agent
            WHEN 'model' THEN runs.model WHEN 'tenant' THEN runs.tenant END, $no_name
    ) AS variant,
    epoch_us(runs.started_at) AS started_us,
    dense_rank() OVER (ORDER BY runs.started_at NULLS LAST, run_id, store) AS run_number
FROM budgets
JOIN chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
) AS runs USING (store, run_id)
WHERE scope = 'run'
ORDER BY run_number
"""
_TENANT_STOPS = """
SELECT
    coalesce(
        CASE $by
            WHEN 'variant' THEN runs.variant WHEN 'agent' THEN runs.agent
            WHEN 'model' THEN runs.model WHEN 'tenant' THEN runs.tenant END, $no_name
    ) AS variant,
    count(DISTINCT (store, run_id)) AS runs
FROM budgets
JOIN chosen_runs(
    NULL, NULL, NULL, NULL, $agent::VARCHAR, $tenant::VARCHAR, $since::TIMESTAMP,
    $until::TIMESTAMP, NULL
) AS runs USING (store, run_id)
WHERE scope <> 'run' AND is_hit
GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """Use over the runs of one variant; quantiles by linear interpolation.

    Attributes:
        runs: runs with a known use.
        median: share of the limit; 1 is the limit.
        p95: 95th percentile of the shares.
        largest: largest share.
        hits: runs that this limit stopped.
    """

    runs: int
    median: float
    p95: float
    largest: float
    hits: int


@dataclass(frozen=True, slots=True)
class Series:
    """The runs of one variant under one budget, oldest first.

    Attributes:
        variant: its name.
        x: start of each run (days since the Unix epoch, UTC) or its number from 1.
        share: used / allowed of each run.
        is_hit: True where this limit stopped the run.
    """

    variant: str
    x: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    is_hit: npt.NDArray[np.bool_]

    @property
    def spread(self) -> Spread:
        """Median, p95 and largest share."""
        median, p95 = np.quantile(self.share, [0.5, 0.95])
        return Spread(
            len(self.share),
            float(median),
            float(p95),
            float(self.share.max()),
            int(self.is_hit.sum()),
        )


@dataclass(frozen=True, slots=True)
class BudgetPanel:
    """One budget over all variants.

    Attributes:
        budget: its name.
        unit: unit of the limit.
        limits: smallest and largest limit that a run had.
        series: one per variant with known use.
        unknown: runs whose use of this budget is not known.
    """

    budget: str
    unit: str
    limits: tuple[float, float]
    series: tuple[Series, ...]
    unknown: int


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """Everything that the plot shows.

    Attributes:
        panels: one per budget with known use.
        variants: those shown, in order.
        variants_left_out: those beyond MAX_VARIANTS, fewest runs first to go.
        runs: runs with a limit, of the variants shown.
        is_timed: True when x is the start time, False when it is the run's number.
        tenant_stops: runs, of the variants shown, that a limit of their tenant stopped.
    """

    panels: tuple[BudgetPanel, ...]
    variants: tuple[str, ...]
    variants_left_out: tuple[str, ...]
    runs: int
    is_timed: bool
    tenant_stops: int


def budget_use(
    traces: Traces,
    *,
    variants: Sequence[str] = (),
    by: str = "variant",
    scope: Scope = EVERYTHING,
) -> BudgetUse:
    """Share of each limit that each run used.

    Args:
        traces: the stores.
        variants: only these, in this order; empty for all (the MAX_VARIANTS with the
            most runs).
        by: what tells series apart: variant, agent, model or tenant.
        scope: which runs.

    Raises:
        UnknownNameError: no run with a limit has a variant that was asked for, or another group.
        UsageError: no run has a limit, or none has a known use.
    """
    if by not in GROUPS:
        raise UnknownNameError.of("group", by, GROUPS)
    no_name = NO_VARIANT if by == "variant" else f"(no {by})"
    params = {"no_name": no_name, "by": by, **scope.narrowing()}
    rows = traces.rows(_USE, params)
    if not rows:
        raise UsageError(
            "no run of the store has a budget limit, so there is nothing to plot",
            hint="Give the agent a budget, or set budgets: in flightlog.yaml",
        )
    shown, left_out = _chosen(rows, variants, by)
    rows = [row for row in rows if row["variant"] in shown]
    starts = {row["started_us"] for row in rows}
    is_timed = None not in starts and len(starts) > 1
    panels = [_panel(name, rows, shown, is_timed=is_timed) for name in BUDGETS]
    known = tuple(panel for panel in panels if panel.series)
    if not known:
        raise UsageError("no run with a limit has a known use", hint="Did any run end?")
    runs = len({row["run_number"] for row in rows})
    by_tenant = traces.rows(_TENANT_STOPS, params)
    tenant_stops = sum(row["runs"] for row in by_tenant if row["variant"] in shown)
    return BudgetUse(known, shown, left_out, runs, is_timed, tenant_stops)


def _chosen(
    rows: list[dict[str, Any]], wanted: Sequence[str], by: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    runs: dict[str, set[int]] = {}
    for row in rows:
        runs.setdefault(row["variant"], set()).add(row["run_number"])
    for name in wanted:
        if name not in runs:
            raise UnknownNameError.of(by, name, runs)
    if wanted:
        if len(wanted) > MAX_VARIANTS:
            raise UsageError(f"at most {MAX_VARIANTS} {by}s in one plot, not {len(wanted)}")
        return tuple(dict.fromkeys(wanted)), ()
    by_size = sorted(runs, key=lambda name: (-len(runs[name]), name))
    return tuple(sorted(by_size[:MAX_VARIANTS])), tuple(by_size[MAX_VARIANTS:])


def _panel(
    budget: str, rows: list[dict[str, Any]], variants: Sequence[str], *, is_timed: bool
) -> BudgetPanel:
    own = [row for row in rows if row["budget"] == budget]
    known = [row for row in own if row["share"] is not None]
    limits = [row["allowed"] for row in own]
    series = []
    for variant in variants:
        its = [row for row in known if row["variant"] == variant]
        if its:
            x = np.array([_position(row, is_timed=is_timed) for row in its], dtype=np.float64)
            share = np.array([row["share"] for row in its], dtype=np.float64)
            is_hit = np.array([row["is_hit"] for row in its], dtype=np.bool_)
            series.append(Series(variant, x, share, is_hit))
    return BudgetPanel(
        budget,
        own[0]["unit"] if own else "",
        (min(limits), max(limits)) if limits else (0.0, 0.0),
        tuple(series),
        len(own) - len(known),
    )


def _position(row: dict[str, Any], *, is_timed: bool) -> float:
    return float(row["started_us"] / _DAY_US if is_timed else row["run_number"])
