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
    from flightlog.analysis.wording import counted
    from flightlog.recorder.seal import seal_store
    from flightlog.recorder.store import Store

    report = seal_store(Store.open(store))
    rows = f"{counted(report.events, 'event')}, {counted(report.messages, 'message')}"
    click.echo(f"sealed {counted(report.sealed_journals, 'journal')}: {rows}")
    for problem in report.problems:
        click.echo(escape_terminal(f"warning: {problem.path}: {problem.what}"), err=True)
