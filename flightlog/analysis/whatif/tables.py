"""Curves and advice as tables."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flightlog.analysis.whatif.advice import Advice
from flightlog.analysis.whatif.curve import Point


def curve_table(name: str | None, points: Sequence[Point]) -> pa.Table:
    """A row per point: the value, what is saved with half its 95 % interval, what is lost."""
    columns: dict[str, list[object]] = {}
    if name is not None:
        columns[name] = [point.value for point in points]
    saved = [point.saved for point in points]
    columns |= {
        "runs_cut": [one.runs_cut for one in saved],
        "tool_calls_saved": [one.tool_calls for one in saved],
        "model_calls_saved": [one.model_calls for one in saved],
        "usd_saved": [round(one.usd, 6) for one in saved],
        "usd_plus_minus": [round(one.usd_error, 6) for one in saved],
        "usd_saved_share": [one.usd_share for one in saved],
        "successes_lost": [one.successes_lost for one in saved],
        "successes_lost_share": [one.lost_share for one in saved],
        "lost_share_low": [one.lost_interval[0] for one in saved],
        "lost_share_high": [one.lost_interval[1] for one in saved],
    }
    return pa.table(columns)


def advice_table(advice: Advice) -> pa.Table:
    """A row per budget: what is proposed, and what runs with a success needed."""
    rows = advice.proposals
    return pa.table(
        {
            "budget": [one.name for one in rows],
            "proposed": [one.value for one in rows],
            "unit": [one.unit for one in rows],
            "needed_p50": [round(one.median, 6) for one in rows],
            "needed_p95": [round(one.p95, 6) for one in rows],
            "needed_max": [round(one.largest, 6) for one in rows],
            "successes_lost": [one.lost for one in rows],
        }
    )
