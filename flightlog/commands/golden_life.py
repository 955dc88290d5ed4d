"""`flightlog golden review`, `accept`: what may change a golden task, and by whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.options import config_option, redaction_of, store_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightlog.golden.life.review import Review
    from flightlog.replay.cassette import Recording

DEFAULT_GOLDENS = "goldens"
FOLDER = click.Path(path_type=Path, file_okay=False)
FORMS = ("text", "json", "markdown")

goldens_option = click.option(
    "--goldens",
    type=FOLDER,
    default=DEFAULT_GOLDENS,
    show_default=True,
    help="Folder of the golden tasks.",
)


def recordings_of(store: Path, runs: Sequence[str]) -> list[Recording]:
    """Runs of a store, by what a person calls them."""
    from flightlog.analysis.db import Traces
    from flightlog.analysis.timeline import resolve_run
    from flightlog.recorder.store import Store
    from flightlog.replay.recordings import read_recordings

    with Traces(store) as traces:
        run_ids = [resolve_run(traces, text) for text in runs]
    return read_recordings(Store.open(store), run_ids)


def echo_reviews(reviews: Sequence[Review], form: str) -> None:
    """Prints reviews in one of `FORMS`."""
    from flightlog.golden.life.review_text import review_lines, review_markdown

    if form == "json":
        plain = [one.as_plain() for one in reviews]
        click.echo(json.dumps({"reviews": plain}, indent=2))
    elif form == "markdown":
        click.echo(review_markdown(reviews))
    else:
        for line in review_lines(reviews) or ["nothing is pending"]:
            click.echo(line)


@click.command()
@click.argument("runs", nargs=-1, help="Run ids; 'last' works. None: what is pending.")
@store_option
@goldens_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    default=FORMS[0],
    show_default=True,
    help="How the differences are shown.",
)
@click.option("--json", "is_json", is_flag=True, help="The same as --format json.")
def review(runs: tuple[str, ...], store: Path, goldens: Path, form: str, *, is_json: bool) -> None:
    """Show what runs would change in the golden tasks.

    Calls added and removed, arguments, answers, cost, latency, verdict. Nothing is written.
    Without a run it shows the recordings that are pending.
    """
    from flightlog.golden.life.accept import review_pending, review_runs

    reviews = review_runs(goldens, recordings_of(store, runs)) if runs else review_pending(goldens)
    echo_reviews(reviews, "json" if is_json else form)


@click.command()
@click.argument("task", help="Its id, or the name of its folder.")
@click.option("--run", "runs", multiple=True, help="This run of the store; repeat for more.")
@click.option("--add", "mode", flag_value="add", default="add", help="Beside the others (default).")
@click.option("--replace", "mode", flag_value="replace", help="In place of the others.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@store_option
@goldens_option
@config_option
def accept(
    task: str,
    runs: tuple[str, ...],
    mode: str,
    store: Path,
    goldens: Path,
    config_file: Path | None,
    *,
    dry_run: bool,
) -> None:
    """Accept runs, or what is pending, as recordings of a golden task.

    Shows what it changes, and changes all of it or nothing.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.life.accept import Mode
    from flightlog.golden.life.accept import accept as accept_runs

    done = accept_runs(
        goldens,
        task,
        recordings_of(store, runs) if runs else None,
        mode=Mode(mode),
        redaction=redaction_of(config_file),
        dry_run=dry_run,
    )
    echo_reviews(done.reviews, FORMS[0])
    for note in done.notes:
        click.echo(escape_terminal(f"note: {note}"))
    click.echo(escape_terminal(done.sentence(dry_run=dry_run)))
