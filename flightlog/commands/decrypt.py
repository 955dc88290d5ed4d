"""`flightlog decrypt`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import store_option
from flightlog.errors import UsageError


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_option
def decrypt(file: Path, store: Path) -> None:
    """Write what an encrypted FILE of quarantine/ or blobs/ holds to standard output.

    The bytes are written as they are. Segments are read with the other commands.
    """
    from flightlog.recorder.encryption.boxes import box_key_id, read_box
    from flightlog.recorder.store import Store

    keys = Store.open(store).layout.keys
    if not file.is_file():
        raise UsageError("no such file", where=str(file), hint="Give a file of the store.")
    if box_key_id(file) is None:
        raise UsageError(
            "not an encrypted file of quarantine/ or blobs/",
            where=str(file),
            hint="Segments are read with flightlog sql; a plain file can be read as it is.",
        )
    click.echo(read_box(keys, file), nl=False)
