"""`flightlog verify`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import store_option
from flightlog.errors import DamagedError


@click.command()
@store_option
def verify(store: Path) -> None:
    """Check every segment of a store against the digests written when it was sealed."""
    from flightlog.analysis.wording import counted
    from flightlog.recorder.store import Store
    from flightlog.recorder.verify import verify_store

    report = verify_store(Store.open(store))
    if not report.ok:
        found = "\n  ".join(f"{problem.path}: {problem.what}" for problem in report.problems)
        raise DamagedError(
            f"{len(report.problems)} problems\n  {found}",
            where=str(store),
            hint="Restore the damaged files from a copy; the others are good.",
        )
    unsealed = ""
    if report.unsealed_events:
        unsealed = f", {report.unsealed_events:,} of them not sealed yet"
    sizes = f"{counted(report.segments, 'segment')}, {counted(report.events, 'event')}"
    click.echo(f"ok: {sizes}{unsealed}")
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
