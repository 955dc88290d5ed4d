"""`flightlog plot`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option


@click.group()
def plot() -> None:
    """Plot what a store holds."""


@plot.command()
@stores_option
@strict_option
@click.option("--variant", "variants", multiple=True, help="Only this variant; repeat for more.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="budgets.png",
    show_default=True,
    help="PNG or SVG file to write.",
)
def budgets(stores: tuple[Path, ...], strict: bool, variants: tuple[str, ...], out: Path) -> None:
    """Plot the use of each budget as a share of its limit."""
    from flightlog.analysis.plots import plot_budgets

    with opened_traces(stores, strict=strict) as traces:
        click.echo(f"wrote {plot_budgets(traces, out, variants=variants)}")
