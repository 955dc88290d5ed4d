"""`flightlog ask`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from flightlog.commands.amounts import MOMENT
from flightlog.commands.options import (
    format_option,
    key_values,
    opened_traces,
    stores_option,
    strict_option,
)
from flightlog.commands.windowing import require_known
from flightlog.errors import UsageError


@click.command()
@click.argument("name", required=False, help="A question; without one, all are listed.")
@stores_option
@strict_option
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    callback=key_values,
    help="KEY=VALUE: a parameter of the question; repeat for more.",
)
@click.option("--agent", help="Only runs of this agent.")
@click.option("--tenant", help="Only runs for this tenant.")
@click.option("--since", type=MOMENT, help="Only runs that began then or later; or 7d.")
@click.option("--until", type=MOMENT, help="Only runs that began before.")
@click.option("--by", help="Group by some of source, suite, model, variant, agent, tenant.")
@click.option("--sql", "shows_sql", is_flag=True, help="Print the SQL of the question instead.")
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Write to a new file instead.")
def ask(
    name: str | None,
    stores: tuple[Path, ...],
    strict: bool,
    params: dict[str, str],
    agent: str | None,
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    by: str | None,
    shows_sql: bool,
    form: str,
    out: Path | None,
) -> None:
    """Ask one of the ready questions; each is one SQL file.

    Without a name (or with LIST) all are listed. Parameters that every question takes:
    source, suite, model, variant, agent, tenant (only runs of that one), since, until, and by
    (group by some of the first six, joined by commas).
    """
    from flightlog.analysis.questions import question, questions, without_empty_groups
    from flightlog.analysis.sandbox import write_result

    if name is None or name.lower() == "list":
        for known in questions():
            click.echo(f"{known.name:<24} {known.title}")
        return
    asked = question(name)
    if shows_sql:
        click.echo(asked.file.sql, nl=False)
        return
    options = {"agent": agent, "tenant": tenant, "since": since, "until": until, "by": by}
    given = {key: value for key, value in options.items() if value is not None}
    if twice := sorted(given.keys() & params.keys()):
        raise UsageError(f"{twice[0]} was given twice", hint=f"As --{twice[0]} or as --param.")
    with opened_traces(stores, strict=strict) as traces:
        require_known(traces, options)
        values: dict[str, str | datetime] = {**params, **given}
        groups = values.pop("by", None)
        answer = asked.ask(traces, by=None if groups is None else str(groups), **values)
    write_result(without_empty_groups(answer) if form == "table" else answer, form=form, out=out)
