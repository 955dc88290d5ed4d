"""`flightlog runs`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option


@click.command()
@stores_option
@strict_option
@click.option("--variant", help="Only runs of this variant.")
@click.option("--model", help="Only runs of this model.")
@click.option("--agent", help="Only runs of this agent.")
@click.option("--suite", help="Only runs of this suite.")
@click.option("--tenant", help="Only runs of this tenant.")
@click.option("--task", help="Only runs of this task.")
@click.option("--session", help="Only runs of this session.")
@click.option("--stop-reason", help="Only runs that ended for this reason, or reason:tool.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="At most this many, the newest.",
)
def runs(stores: tuple[Path, ...], strict: bool, limit: int, **filters: str | None) -> None:
    """List the runs of a store, newest first.

    Columns without a value are left out, and in a narrow terminal the less telling ones.
    """
    from flightlog.analysis.runs import print_runs

    with opened_traces(stores, strict=strict) as traces:
        print_runs(traces, limit=limit, **filters)
