"""`flightlog retain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.amounts import SIZE, SPAN, size_text
from flightlog.commands.options import store_option

if TYPE_CHECKING:
    from flightlog.recorder.life.retain import RetainReport


@click.command()
@store_option
@click.option("--older-than", type=SPAN, help="Remove runs older than this, such as 30d.")
@click.option("--max-bytes", type=SIZE, help="Remove the oldest runs until the store is no larger.")
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    help="Folder of golden tasks whose runs stay; repeat it. Runs pinned with `flightlog "
    "golden pin` stay anyway.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and the pins.")
def retain(
    store: Path,
    older_than: float | None,
    max_bytes: float | None,
    goldens: tuple[Path, ...],
    dry_run: bool,
) -> None:
    """Remove old runs, with the messages and blobs that only they needed.

    Whole runs go, oldest first. Never removed are runs of living processes and runs
    that a golden task was made of.
    """
    from flightlog.analysis.wording import counted
    from flightlog.commands.changes import echo
    from flightlog.golden.recording_files import recorded_run_ids
    from flightlog.recorder.life.retain import retain as retain_runs
    from flightlog.recorder.store import Store

    pinned = {run_id for folder in goldens for run_id in recorded_run_ids(folder)}
    report = retain_runs(
        Store.open(store),
        older_than_s=older_than,
        max_bytes=None if max_bytes is None else round(max_bytes),
        pinned=pinned,
        is_dry_run=dry_run,
    )
    verb, about = ("would remove", "about ") if dry_run else ("removed", "")
    events = counted(report.events, "event")
    freed = f"{about}{size_text(report.bytes)}"
    echo(f"{verb} {counted(report.runs, 'run')} with {events}: {freed}")
    echo(f"  left: {about}{size_text(report.left_bytes)}")
    if report.pinned:
        echo(f"  kept for goldens: {counted(report.pinned, 'run')} that would go otherwise")
    if dry_run:
        _list_pins(report)
    if report.waiting:
        files = counted(report.waiting, "old file")
        echo(f"  {files} still read by somebody: the next compact or seal removes them")
    for problem in report.problems:
        echo(f"warning: {problem}", err=True)


def _list_pins(report: RetainReport) -> None:
    from flightlog.commands.changes import echo

    for path, pin in report.pins:
        echo(f"  pinned: run {pin.run_id} by {pin.goldens} (to unpin it, remove {path})")
