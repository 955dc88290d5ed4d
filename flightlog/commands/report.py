"""`flightlog report`: HTML pages about runs."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flightlog.commands.options import opened_traces, stores_option, strict_option
from flightlog.commands.windowing import scope_of, window_options


@click.group()
def report() -> None:
    """Write HTML pages: a run, two runs side by side, or all of a store.

    Each is one static file without scripts that loads nothing. `flightlog check -o x.html` and
    `flightlog postmortem -o x.html` write those of a verdict and of an incident.
    """


def _page_options(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        out = click.option(
            "-o",
            "--output",
            "out",
            type=click.Path(path_type=Path, dir_okay=False),
            default=name,
            show_default=True,
            help="File to write; an existing one is replaced.",
        )
        shown = click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
        return stores_option(strict_option(out(shown(command))))

    return added


@report.command()
@click.argument("run", help="Run id, a unique start of one, or 'last'.")
@_page_options("run.html")
def run(run: str, stores: tuple[Path, ...], strict: bool, out: Path, opens: bool) -> None:
    """Write the page of one run."""
    from flightlog.analysis.reports.pages import run_page
    from flightlog.analysis.timeline import resolve_run

    with opened_traces(stores, strict=strict) as traces:
        _write(out, run_page(traces, resolve_run(traces, run)), opens=opens)


@report.command()
@click.argument("left", help="Run id, a unique start of one, or 'last'.")
@click.argument("right", help="The run to set beside it.")
@_page_options("diff.html")
def diff(
    left: str, right: str, stores: tuple[Path, ...], strict: bool, out: Path, opens: bool
) -> None:
    """Write two runs side by side, with their first divergence."""
    from flightlog.analysis.reports.pages import diff_page
    from flightlog.analysis.timeline import resolve_run

    with opened_traces(stores, strict=strict) as traces:
        page = diff_page(traces, resolve_run(traces, left), resolve_run(traces, right))
        _write(out, page, opens=opens)


@report.command()
@_page_options("overview.html")
@window_options
@click.option(
    "--by",
    type=click.Choice(["agent", "model", "tenant", "variant"]),
    default="agent",
    show_default=True,
    help="What tells runs apart in the plots.",
)
def overview(
    stores: tuple[Path, ...], strict: bool, out: Path, opens: bool, by: str, **how: Any
) -> None:
    """Write all runs on one page: figures, tables and plots."""
    from flightlog.analysis.reports.pages import overview_page

    with opened_traces(stores, strict=strict) as traces:
        _write(out, overview_page(traces, scope=scope_of(traces, how), by=by), opens=opens)


def _write(out: Path, page: str, *, opens: bool) -> None:
    from flightlog.analysis.reports.writing import write_text

    write_text(out, page)
    click.echo(f"wrote {out}")
    if opens:
        webbrowser.open(out.resolve().as_uri())
