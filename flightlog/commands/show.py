"""`flightlog show`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option


@click.command()
@click.argument("run", help="Run id, a unique start of one, or 'last'.")
@stores_option
@strict_option
@click.option("--full", is_flag=True, help="Show arguments and results whole.")
def show(run: str, stores: tuple[Path, ...], strict: bool, full: bool) -> None:
    """Show one run as a timeline."""
    from flightlog.analysis.timeline import print_timeline, resolve_run, timeline

    with opened_traces(stores, strict=strict) as traces:
        print_timeline(timeline(traces, resolve_run(traces, run)), full=full)
