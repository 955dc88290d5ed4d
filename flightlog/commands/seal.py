"""`flightlog seal`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import store_option


@click.command()
@store_option
def seal(store: Path) -> None:
    """Turn the journals of closed or dead processes into Parquet segments."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.recorder.seal import seal_store
    from flightlog.recorder.store import Store

    report = seal_store(Store.open(store))
    click.echo(
        f"sealed {report.sealed_journals} journals: {report.events} events, "
        f"{report.messages} messages"
    )
    for problem in report.problems:
        click.echo(escape_terminal(f"warning: {problem.path}: {problem.what}"), err=True)
