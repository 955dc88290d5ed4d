"""`flightlog erase`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.options import store_option

if TYPE_CHECKING:
    from flightlog.recorder.life.erase import ErasureReport


@click.command()
@store_option
@click.option("--subject", help="Runs with this `data_subject`.")
@click.option("--run", "run_ids", multiple=True, help="One run, by its whole id; repeat it.")
@click.option("--conversation", help="Runs of this `conversation_id`.")
@click.option("--tenant", help="Runs of this `tenant`.")
@click.option("--why", help="Kept in the manifest, so without any name: the request's number.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be erased.")
@click.pass_context
def erase(
    ctx: click.Context,
    store: Path,
    subject: str | None,
    run_ids: tuple[str, ...],
    conversation: str | None,
    tenant: str | None,
    why: str | None,
    dry_run: bool,
) -> None:
    """Erase what a store holds of one person, run, conversation or tenant.

    Texts, messages and blobs go; that something happened, when, how it ended and what it
    cost stays, and the chain over all events can still be verified. Runs that an erased
    run started, and replays of it, are erased with it.

    Exit code 2 while a living process still holds such a run: what it recorded is erased
    when its journal is sealed.
    """
    from flightlog.errors import ExitCode
    from flightlog.recorder.life.erase import erase as erase_runs
    from flightlog.recorder.life.pending import Column
    from flightlog.recorder.store import Store

    named: list[tuple[Column, str | None]] = [
        ("data_subject", subject),
        ("conversation_id", conversation),
        ("tenant", tenant),
    ]
    report = erase_runs(
        Store.open(store),
        names=[(column, value) for column, value in named if value is not None],
        run_ids=run_ids,
        reason=why,
        is_dry_run=dry_run,
    )
    _tell(report, dry_run=dry_run)
    if not report.is_done and not dry_run:
        ctx.exit(ExitCode.UNDECIDED)


def _tell(report: ErasureReport, *, dry_run: bool) -> None:
    from flightlog.analysis.wording import counted
    from flightlog.commands.changes import echo

    verb = "would erase" if dry_run else "erased"
    if not report.runs and report.waiting:
        echo(f"{verb} nothing yet")
    elif not report.runs:
        echo(f"{verb} nothing: no run of that name with a payload is in the store")
    else:
        runs, events = counted(len(report.runs), "run"), counted(report.events, "event")
        gone = f", {counted(report.messages, 'message')} removed" if report.messages else ""
        echo(f"{verb} the payloads of {runs} with {events}{gone}")
    if report.quarantined:
        echo(f"  removed {counted(report.quarantined, 'damaged piece')} from quarantine/")
    for pin in report.pins:
        echo(f"  outside the store: run {pin.run_id} is also in the goldens of {pin.goldens}")
    for journal in report.waiting:
        echo(
            f"  not done: a living process holds such a run in journal {journal}; "
            "it is erased when that is sealed, at the latest when the process has ended",
            err=True,
        )
    for problem in report.problems:
        echo(f"warning: {problem}", err=True)
