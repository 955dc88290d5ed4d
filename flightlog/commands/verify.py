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
    click.echo(f"ok: {report.segments} segments, {report.events} events")
