"""`flightlog golden`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import store_option

DEFAULT_GOLDENS = "goldens"
_folder = click.Path(path_type=Path, file_okay=False)


@click.group()
def golden() -> None:
    """Pin and list golden tasks."""


@golden.command()
@click.argument("runs", nargs=-1, required=True, help="Run ids; 'last' works.")
@store_option
@click.option(
    "--goldens",
    type=_folder,
    default=DEFAULT_GOLDENS,
    show_default=True,
    help="Folder of the golden tasks.",
)
@click.option(
    "--tools",
    "tools_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Declarations (effect, scopes) for tools that the runs did not declare.",
)
def pin(runs: tuple[str, ...], store: Path, goldens: Path, tools_file: Path | None) -> None:
    """Pin recorded runs as golden tasks."""
    from flightlog.analysis.db import Traces
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.timeline import resolve_run
    from flightlog.golden.pin import pin_runs
    from flightlog.recorder.store import Store

    with Traces(store) as traces:
        run_ids = [resolve_run(traces, text) for text in runs]
    report = pin_runs(Store.open(store), run_ids, goldens, tools_file=tools_file)
    for line in report.lines():
        click.echo(escape_terminal(line))


@golden.command("list")
@click.argument("goldens", type=_folder, default=DEFAULT_GOLDENS)
def list_(goldens: Path) -> None:
    """List golden tasks: recordings, accepted writes, tools."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.suite import load_suite

    for task in load_suite(goldens):
        click.echo(escape_terminal(task.summary()))
