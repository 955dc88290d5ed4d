"""`flightlog golden check`, `lint`, `quarantine`, `prune`: whether golden tasks can be trusted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.golden_life import DEFAULT_GOLDENS, FOLDER, goldens_option
from flightlog.commands.options import store_option

if TYPE_CHECKING:
    from datetime import date


def today() -> date:
    """The day in UTC."""
    return datetime.now(tz=UTC).date()


@click.command()
@click.argument("goldens", type=FOLDER, default=DEFAULT_GOLDENS)
def check(goldens: Path) -> int:
    """Look for missing, stale, pending and overdue golden tasks.

    Nothing is written. Exit codes: 0 all is well, 3 something is not. With runs of a candidate
    `flightlog check --goldens` also finds those that nobody replayed.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.wording import counted
    from flightlog.golden.life.health import check_goldens

    health = check_goldens(goldens, today=today())
    for line in health.lines():
        click.echo(escape_terminal(line))
    bad = sum(not one.is_quarantined for one in health.findings)
    click.echo(
        f"{counted(health.tasks, 'golden task')}, {counted(bad, 'finding')}, "
        f"{len(health.quarantined)} in quarantine"
    )
    return health.exit_code


@click.command()
@click.argument("task", help="Its id, or the name of its folder.")
@goldens_option
@click.option("--reason", default="", help="Why it is left out.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="Last day that it is left out.")
@click.option("--lift", is_flag=True, help="Take it out of quarantine.")
def quarantine(
    task: str, goldens: Path, reason: str, until: datetime | None, *, lift: bool
) -> None:
    """Leave a golden task out for a reason and until a day.

    After that day it fails the check.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.errors import UsageError
    from flightlog.golden.life.quarantine import lift_quarantine, put_in_quarantine

    if lift:
        folder = lift_quarantine(goldens, task)
        click.echo(escape_terminal(f"{folder} is in force again"))
        return
    if until is None:
        raise UsageError("the quarantine has no end", hint="Give --until YYYY-MM-DD.")
    folder = put_in_quarantine(goldens, task, reason=reason, until=until.date(), today=today())
    click.echo(escape_terminal(f"{folder} is left out until {until.date()}"))


@click.command()
@click.argument("goldens", type=FOLDER, default=DEFAULT_GOLDENS)
@click.option(
    "--fixture",
    help="module:function that gives the tools' functions, by name, over a fresh initial state.",
)
def lint(goldens: Path, fixture: str | None) -> int:
    """Look for contradictions, races, unsound scopes, misspelt names.

    With a fixture every recorded read is asked again after each write. Exit codes: 0 no error,
    1 an error, 3 a stale golden task.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.life.lint import lint as lint_goldens
    from flightlog.golden.life.lint import load_fixture_factory

    report = lint_goldens(goldens, fixture=load_fixture_factory(fixture) if fixture else None)
    for line in report.lines():
        click.echo(escape_terminal(line))
    return report.exit_code


@click.command()
@click.argument("goldens", type=FOLDER, default=DEFAULT_GOLDENS)
@store_option
@click.option("--session", help="Session of the replay.  [default: the newest]")
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def prune(goldens: Path, store: Path, session: str | None, *, dry_run: bool) -> None:
    """Remove recordings that a full green replay did not need.

    Prints every path that it removes.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.life.prune import prune as prune_goldens

    done = prune_goldens(goldens, store, today=today(), session_id=session, dry_run=dry_run)
    for line in done.lines(dry_run=dry_run):
        click.echo(escape_terminal(line))
