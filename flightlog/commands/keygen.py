"""`flightlog keygen`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from flightlog.errors import UsageError


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new file, which only its owner can read.  [default: standard output]",
)
def keygen(out: Path | None) -> None:
    """Make a key for encrypted stores.

    Name its file in FLIGHTLOG_STORE_KEY_FILE, for whoever records and whoever reads. Without
    the key nobody can read the store: keep a copy of it, and not beside the store.
    """
    from flightlog.recorder.encryption.keys import new_key

    key = new_key()
    line = f"{key.text}\n"
    if out is None:
        click.echo(line, nl=False)
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            "the file exists already, and keys are never overwritten",
            where=str(out),
            hint="Give another name, or add a line to the file yourself.",
        ) from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    click.echo(f"key {key.id} is in {out}")
