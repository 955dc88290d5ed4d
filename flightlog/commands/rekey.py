"""`flightlog rekey`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import store_option


@click.command()
@store_option
def rekey(store: Path) -> None:
    """Encrypt a store with the first key of FLIGHTLOG_STORE_KEY_FILE, or with that instead.

    To change the key, put the new one in the first line of the file and leave the old one
    in the second; when this is done the old one is no longer needed.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.wording import counted
    from flightlog.errors import DamagedError
    from flightlog.recorder.life.rekey import rekey_store
    from flightlog.recorder.store import Store

    report = rekey_store(Store.open(store))
    files = ", ".join(
        counted(number, word)
        for number, word in (
            (report.segments, "segment"),
            (report.blobs, "blob"),
            (report.pieces, "file of quarantine/"),
        )
        if number or word == "segment"
    )
    click.echo(f"encrypted with key {report.key_id}: {files}")
    if report.journals:
        plain = counted(report.journals, "journal")
        click.echo(f"note: {plain} not sealed yet, and plain until then", err=True)
    if report.left:
        old = counted(report.left, "old file")
        click.echo(f"note: {old} still read by somebody; run this again to remove them", err=True)
    if report.problems:
        found = "\n  ".join(f"{problem.path}: {problem.what}" for problem in report.problems)
        raise DamagedError(
            escape_terminal(f"could not be encrypted:\n  {found}", keep_newlines=True),
            where=str(store),
            hint="Give their keys too, or restore them from a copy, and run this again.",
        )
