"""`flightlog redact`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from flightlog.commands.options import config_option, redaction_of

MAX_TEXT_BYTES = 64 << 20
"""Largest text that is tried; it is in memory as a whole, several times."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), required=False)
@config_option
@click.option("--explain", is_flag=True, help="Tell what is found, by which rule and where.")
@click.option("--kinds", is_flag=True, help="List what is looked for; redaction.off names these.")
def redact(file: Path | None, config_file: Path | None, explain: bool, kinds: bool) -> int:
    """Try on a text what would be recorded of it; FILE `-` is the input.

    Nothing is written. The pseudonyms are made under FLIGHTLOG_REDACTION_KEY or the key file of
    the settings, else under a key that is forgotten. Exit codes: 0 nothing found, 1 something.
    """
    from flightlog.redact.finder import KINDS

    if kinds:
        click.echo("\n".join(KINDS))
        return 0
    if file is None:
        raise click.UsageError("Give a FILE, or - for the input.")
    raw = _content(file)
    text = raw.decode("utf-8", "replace")
    return _explain(text, config_file) if explain else _show(text, config_file)


def _content(file: Path) -> bytes:
    from flightlog.errors import UsageError

    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror or error}", where=str(file)) from error
    if len(raw) > MAX_TEXT_BYTES:
        raise UsageError(
            f"the file has more than {MAX_TEXT_BYTES:,} bytes",
            where=str(file),
            hint="Give a part of it.",
        )
    return raw


def _show(text: str, config_file: Path | None) -> int:
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.redact.trial import trial_redactor

    redactor = trial_redactor(redaction_of(config_file), os.environ)
    after = redactor.clean(text)
    shown = "\n".join(escape_terminal(line) for line in after.split("\n"))
    click.echo(shown, nl=not shown.endswith("\n"))
    return int(after != text)


def _explain(text: str, config_file: Path | None) -> int:
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.redact.trial import explained, trial_redactor

    redactor = trial_redactor(redaction_of(config_file), os.environ)
    found = explained(redactor, text)
    for one in found:
        click.echo(escape_terminal(str(one)))
    click.echo(f"{len(found)} found" if found else "nothing found")
    return int(bool(found))
