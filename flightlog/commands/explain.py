"""`flightlog explain`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("verdict", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--metric", help="Explain this metric; else the whole verdict.")
def explain(verdict: Path, metric: str | None) -> None:
    """Explain a verdict in plain sentences, from the JSON that check or gate wrote.

    Says what was tested and on how many runs, the estimate and its bounds, and what would
    change the verdict.
    """
    import textwrap

    from flightlog.analysis.reports.plain import explain as sentences
    from flightlog.analysis.reports.reading import read_verdict
    from flightlog.analysis.terminal import escape_terminal

    for number, text in enumerate(sentences(read_verdict(verdict), metric)):
        if number:
            click.echo()
        for line in textwrap.wrap(escape_terminal(text), 80, break_on_hyphens=False):
            click.echo(line)
