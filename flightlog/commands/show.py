"""`flightlog show`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import stores_option


@click.command()
@click.argument("run", help="Run id, a unique start of one, or 'last'.")
@stores_option
@click.option("--full", is_flag=True, help="Show arguments and results whole.")
def show(run: str, stores: tuple[Path, ...], full: bool) -> None:
    """Show one run as a timeline."""
    from flightlog.analysis.db import Traces
    from flightlog.analysis.timeline import print_timeline, resolve_run, timeline

    with Traces(*stores) as traces:
        print_timeline(timeline(traces, resolve_run(traces, run)), full=full)
