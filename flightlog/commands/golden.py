"""`flightlog golden`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from flightlog.commands.golden_life import DEFAULT_GOLDENS, FOLDER, accept, goldens_option, review
from flightlog.commands.golden_watch import check, lint, prune, quarantine
from flightlog.commands.options import config_option, redaction_of, store_option


@click.group()
def golden() -> None:
    """Pin, review, accept and watch golden tasks."""


for command in (review, accept, check, lint, quarantine, prune):
    golden.add_command(command)


@golden.command()
@click.argument("runs", nargs=-1, required=True, help="Run ids; 'last' works.")
@store_option
@goldens_option
@click.option(
    "--tools",
    "tools_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Declarations (effect, scopes) for tools that the runs did not declare.",
)
@click.option(
    "--fixture",
    metavar="MODULE:FUNCTION",
    help="Gives tools over a fresh initial state; shows unsound scopes.",
)
@click.option("--apply-drafts", is_flag=True, help="Put what is only suggested in force too.")
@click.option("--pending", is_flag=True, help="Only propose the runs, for tasks that are golden.")
@config_option
def pin(
    runs: tuple[str, ...],
    store: Path,
    goldens: Path,
    tools_file: Path | None,
    config_file: Path | None,
    fixture: str | None,
    *,
    apply_drafts: bool,
    pending: bool,
) -> None:
    """Pin recorded runs as golden tasks, with a drafted contract.

    A run that holds a secret is refused, and so is a further run of a task that is golden
    already: review and accept it.
    """
    from flightlog.analysis.db import Traces
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.timeline import resolve_run
    from flightlog.golden.life.lint import load_fixture_factory
    from flightlog.golden.life.pending import propose
    from flightlog.golden.pin import pin_runs
    from flightlog.recorder.store import Store
    from flightlog.replay.recordings import read_recordings

    redaction = redaction_of(config_file)
    with Traces(store) as traces:
        run_ids = [resolve_run(traces, text) for text in runs]
    if pending:
        recordings = read_recordings(Store.open(store), run_ids)
        for path in propose(goldens, recordings, redaction=redaction):
            click.echo(escape_terminal(f"pending: {goldens / path}"))
        return
    report = pin_runs(
        Store.open(store),
        run_ids,
        goldens,
        tools_file=tools_file,
        redaction=redaction,
        apply_drafts=apply_drafts,
        only_new=True,
        fixture=load_fixture_factory(fixture) if fixture else None,
    )
    for line in report.lines():
        click.echo(escape_terminal(line))


@golden.command("list")
@click.argument("goldens", type=FOLDER, default=DEFAULT_GOLDENS)
def list_(goldens: Path) -> None:
    """List golden tasks: recordings, accepted writes, tools."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.suite import load_suite

    for task in load_suite(goldens):
        click.echo(escape_terminal(task.summary()))


@golden.command()
def schema() -> None:
    """Print the JSON Schema of task.yaml."""
    from flightlog.golden.life.schema import task_schema

    click.echo(json.dumps(task_schema(), indent=2))
