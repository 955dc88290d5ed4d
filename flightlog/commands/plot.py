"""`flightlog plot`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option
from flightlog.commands.windowing import scope_of, window_options

_GROUPS: Final = ("agent", "model", "tenant", "variant")


@click.group()
def plot() -> None:
    """Plot what a store holds."""


def _by_option(default: str) -> Callable[..., Any]:
    return click.option(
        "--by",
        type=click.Choice(_GROUPS),
        default=default,
        show_default=True,
        help="What tells series of runs apart.",
    )


@plot.command()
@stores_option
@strict_option
@window_options
@click.option("--variant", "variants", multiple=True, help="Only this variant; repeat for more.")
@_by_option("variant")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="budgets.png",
    show_default=True,
    help="PNG or SVG file to write.",
)
def budgets(
    stores: tuple[Path, ...],
    strict: bool,
    variants: tuple[str, ...],
    by: str,
    out: Path,
    **how: Any,
) -> None:
    """Plot the use of each budget as a share of its limit."""
    from flightlog.analysis.plots import plot_budgets

    with opened_traces(stores, strict=strict) as traces:
        made = plot_budgets(traces, out, variants=variants, by=by, scope=scope_of(traces, how))
        click.echo(f"wrote {made}")


def _over_time(name: str, about: str) -> click.Command:
    """A command that draws one figure over time."""

    def draw(stores: tuple[Path, ...], strict: bool, by: str, out: Path, **how: Any) -> None:
        from flightlog.analysis.plots.over_time import plot_over_time

        with opened_traces(stores, strict=strict) as traces:
            scope = scope_of(traces, how)
            click.echo(f"wrote {plot_over_time(traces, name, out, by=by, scope=scope)}")

    out = click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        default=f"{name}.png",
        show_default=True,
        help="PNG or SVG file to write.",
    )
    draw.__doc__ = about
    command = stores_option(strict_option(window_options(_by_option("agent")(out(draw)))))
    return click.command(name=name)(command)


for _name, _about in (
    ("cost", "Plot what runs cost, and how many there are, over time."),
    ("latency", "Plot the latency of models and tools over time."),
    ("stop-reasons", "Plot how runs end, over time."),
    ("tools", "Plot calls of tools and their failures over time."),
    ("drift", "Plot calls, tokens, cost, time and success over time."),
    ("overview", "Plot all of it on one sheet."),
):
    plot.add_command(_over_time(_name, _about))
