"""`flightlog compact`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.amounts import SIZE
from flightlog.commands.options import store_option


@click.command()
@store_option
@click.option(
    "--target-bytes",
    type=SIZE,
    default="128MiB",
    show_default=True,
    help="Size of merged segments; those of half of it stay as they are.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be merged.")
def compact(store: Path, target_bytes: float, dry_run: bool) -> None:
    """Merge small segments into larger ones; the rows stay the same."""
    from flightlog.analysis.wording import counted
    from flightlog.commands.changes import echo
    from flightlog.recorder.life.compact import compact_store
    from flightlog.recorder.store import Store

    report = compact_store(Store.open(store), target_bytes=round(target_bytes), is_dry_run=dry_run)
    if not report.merged:
        echo("nothing to merge")
    else:
        verb = "would merge" if dry_run else "merged"
        rows = counted(report.rows, "row")
        made = counted(report.made, "segment")
        echo(f"{verb} {counted(report.merged, 'segment')} into {made}: {rows}")
    if report.duplicates:
        echo(f"  {counted(report.duplicates, 'message')} stood in several of them, now in one")
    if report.waiting:
        files = counted(report.waiting, "old file")
        echo(f"  {files} still read by somebody: the next compact or seal removes them")
    for problem in report.problems:
        echo(f"warning: {problem}", err=True)
