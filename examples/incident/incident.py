"""The incident with and without bounds: the same agent and the same outage of its browse tool.

    python examples/incident/incident.py [--dir flightlog-incident]

The whole day passes on a virtual clock, in seconds. Every call is recorded, and all that
is printed is asked of the store.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from day import HOUR_S, Days
from fresh_store import fresh_store

import flightlog
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.window_budget import WindowBudget
from flightlog.runtime.from_config import policy_from, prices_from
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.retry import RetryPolicy

SETTINGS = Path(__file__).with_name("flightlog.yaml")
WIDTH = 33

UNBOUNDED = flightlog.Policy(
    allow=["browse"],
    budget=flightlog.Budget(max_steps=None, max_seconds=None, max_tool_calls=None),
)
DEFAULT = policy_from(flightlog.load_config(SETTINGS))
PATIENT = replace(
    DEFAULT,
    budget=replace(DEFAULT.budget, max_seconds=900),
    retries={"browse": RetryPolicy(max_attempts=3, initial_s=2)},
)
LOOP_GUARD = replace(
    PATIENT, guards=GuardPolicy(actions={Guard.NO_PROGRESS: GuardAction.STOP}, stalled_steps=3)
)
BREAKER = replace(
    PATIENT, breakers={"browse": BreakerPolicy(min_calls=3, window_s=600, open_s=HOUR_S)}
)
DAILY_BUDGET = replace(
    DEFAULT, tenant_budgets={"*": WindowBudget(window_s=24 * HOUR_S, max_usd=2.0)}
)

SIDES = """
WITH calls AS (
    SELECT
        session_id,
        variant,
        count(*) FILTER (served_how = 'live') AS made,
        count(*) FILTER (served_how IS NULL) AS refused
    FROM tool_calls
    JOIN runs USING (run_id, variant)
    GROUP BY ALL
),
degraded AS (
    SELECT DISTINCT run_id, tool_name
    FROM events
    WHERE kind = 'state_changed' AND subject = 'degrade' AND state_to = 'without_tool'
),
ends AS (
    SELECT
        session_id,
        variant,
        stop_reason || coalesce(' without ' || tool_name, '') AS way,
        count(*) AS runs,
        sum(cost_usd) AS usd,
        min(started_at) AS started_at,
        max(ended_at) AS ended_at,
        bool_or(success) AS is_written,
        min(run_id) AS first_run
    FROM runs
    LEFT JOIN degraded USING (run_id)
    GROUP BY ALL
)
SELECT
    session_id,
    variant,
    sum(runs),
    any_value(made),
    any_value(refused),
    sum(usd),
    (epoch_ms(max(ended_at)) - epoch_ms(min(started_at))) / 1000,
    bool_or(is_written),
    string_agg(if(runs = 1, '', runs || ' ') || way, ', ' ORDER BY first_run)
FROM ends
JOIN calls USING (session_id, variant)
GROUP BY ALL
ORDER BY min(first_run)
"""


def play(sink: flightlog.Recorder) -> None:
    """Records every side."""
    days = Days(sink, prices_from(flightlog.load_config(SETTINGS)))
    days.run_once("unbounded", UNBOUNDED)
    days.run_until_switched_off("kill switch", UNBOUNDED, after_s=HOUR_S)
    days.run_once("flightlog.yaml", DEFAULT)
    days.run_once("patient", PATIENT)
    days.run_once("loop guard", LOOP_GUARD)
    days.run_once("breaker", BREAKER)
    days.run_until_written("flightlog.yaml", DEFAULT)
    days.run_until_written("daily budget", DAILY_BUDGET)
    days.run_until_written("breaker", BREAKER)


def row(*cells: str) -> str:
    """One line of the table."""
    side, runs, made, refused, usd, time, is_written, ends = cells
    counts = f"{runs:>4}{made:>8}{refused:>9}{usd:>11}{time:>8}"
    return f"  {side:<16}{counts}  {is_written:<7}{ends}"


def table(rows: Sequence[tuple[Any, ...]]) -> str:
    """The sides below one another, by session."""
    lines, last = (
        [row("", "runs", "browse", "refused", "spent", "time", "brief", "stop reason")],
        "",
    )
    for session, side, runs, made, refused, usd, seconds, is_written, ends in rows:
        if session != last:
            lines, last = [*lines, session], session
        time = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
        counts = (f"{runs:,}", f"{made:,}", f"{refused:,}", f"${usd:,.2f}")
        lines.append(row(side, *counts, time, "yes" if is_written else "no", ends))
    return "\n".join(lines)


def main() -> int:
    """Runs every side and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=Path("flightlog-incident"))
    store = fresh_store(parser.parse_args().dir, "store")
    with flightlog.Recorder(store) as recorder:
        play(recorder)
    with flightlog.open(store) as traces:
        print(table(traces.sql(SIDES).fetchall()))
    print("\nTry next:")
    print(f"  flightlog ask stop_reasons -p by=variant --store {store}")
    print(f"  flightlog ask state_changes -p variant=breaker --store {store}")
    print(f"  flightlog show last --store {store}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except flightlog.FlightlogError as error:
        sys.exit(f"error: {error}")
