"""`flightlog runs`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import stores_option


@click.command()
@stores_option
@click.option("--variant", help="Only runs of this variant.")
@click.option("--model", help="Only runs of this model.")
@click.option("--agent", help="Only runs of this agent.")
@click.option("--suite", help="Only runs of this suite.")
@click.option("--stop-reason", help="Only runs that ended for this reason.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
def runs(
    stores: tuple[Path, ...],
    variant: str | None,
    model: str | None,
    agent: str | None,
    suite: str | None,
    stop_reason: str | None,
    limit: int,
) -> None:
    """List the runs of a store, newest first."""
    from flightlog.analysis.db import Traces
    from flightlog.analysis.runs import print_runs

    filters = {
        "variant": variant,
        "model": model,
        "agent": agent,
        "suite": suite,
        "stop_reason": stop_reason,
    }
    with Traces(*stores) as traces:
        print_runs(traces, limit=limit, **filters)
