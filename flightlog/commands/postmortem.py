"""`flightlog postmortem`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import click

from flightlog.commands.amounts import MOMENT
from flightlog.commands.options import opened_traces, stores_option, strict_option
from flightlog.commands.outputs import forms_of, json_option
from flightlog.commands.windowing import require_known
from flightlog.errors import ExitCode, UsageError

ENDINGS: Final = {".html": "html", ".md": "md", ".json": "json", ".txt": "text"}


@click.command()
@click.argument("runs", nargs=-1, help="Run ids, unique starts of them, or 'last'.")
@stores_option
@strict_option
@click.option("--since", type=MOMENT, help="Only runs that began then or later; or 6h.")
@click.option("--until", type=MOMENT, help="Only runs that began before.")
@click.option("--agent", help="Only runs of this agent.")
@click.option("--tenant", help="Only runs for this tenant.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report, in the form of its ending: .html, .md, .json, .txt; repeat for more.",
)
@json_option
@click.option(
    "--fail",
    is_flag=True,
    help="Exit with 1 when something was found, with 2 when there was nothing to look at.",
)
@click.pass_context
def postmortem(
    ctx: click.Context,
    runs: tuple[str, ...],
    stores: tuple[Path, ...],
    strict: bool,
    since: datetime | None,
    until: datetime | None,
    agent: str | None,
    tenant: str | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    fail: bool,
) -> None:
    """Find what went wrong: since when, through whom, at what cost, and what would stop it.

    Without runs, the window from --since to --until is searched for changes against the rest
    of it, so begin it well before the trouble. Named runs are looked at one by one, beside the
    other runs of their agents. No model is asked: the same events give the same findings.
    """
    from flightlog.analysis.postmortem import Scope
    from flightlog.analysis.postmortem import postmortem as found_in
    from flightlog.analysis.reports.postmortem import WRITERS
    from flightlog.analysis.reports.writing import write_text
    from flightlog.analysis.timeline import resolve_run

    forms = forms_of(outputs, ENDINGS)
    if runs and (since or until or agent or tenant):
        raise UsageError(
            "runs and a window were given",
            hint="Name runs, or choose them by --since, --until, --agent and --tenant.",
        )
    with opened_traces(stores, strict=strict) as traces:
        require_known(traces, {"agent": agent, "tenant": tenant})
        ids = [resolve_run(traces, run) for run in runs]
        found = found_in(traces, Scope(since, until, agent, tenant, ids))
    click.echo(WRITERS["json" if as_json else "text"](found), nl=False)
    for form, path in forms:
        write_text(path, WRITERS[form](found))
        click.echo(f"wrote {path}", err=as_json)
    if fail and not found.runs:
        ctx.exit(ExitCode.UNDECIDED)
    if fail and found.findings:
        ctx.exit(ExitCode.DRIFT)
