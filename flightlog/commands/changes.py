"""What commands share that change a guardrail: who did it, and the event that tells it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flightlog.errors import FlightlogError

if TYPE_CHECKING:
    from flightlog.redact.policy import Redaction
    from flightlog.trace.events import StateChanged

MAX_TEXT: Final = 1000
"""Longest reason or name, characters: they go to agents, models and traces."""


def user_at_host() -> str:
    """Who runs this command, as far as the system knows."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def short_text(_ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """Click callback: refuses a text that is too long to stand in every refused call."""
    if text is not None and len(text) > MAX_TEXT:
        raise click.BadParameter(
            f"it has {len(text):,} characters, more than {MAX_TEXT:,}; nothing was changed",
            param=param,
        )
    return text


def record_changes(store: Path, changes: Sequence[StateChanged]) -> str | None:
    """Records changes that are in force already, durably; gives why they could not be."""
    from flightlog.recorder.recorder import Recorder

    if not changes:
        return None
    try:
        # The journal stays for the next one that seals: nobody should wait for that here.
        with Recorder(store, seal_on_close=False, redaction=_redaction()) as recorder:
            kept = [recorder.emit(change, durable=True) for change in changes]
    except FlightlogError as error:
        return f"{error.where}: {error.what}" if error.where else error.what
    return None if all(kept) else (recorder.last_error or "unknown")


def _redaction() -> Redaction:
    """That of ./flightlog.yaml; the default where it cannot be read: what is done is done."""
    from flightlog.commands.options import redaction_of
    from flightlog.redact.policy import Redaction

    try:
        return redaction_of(None)
    except FlightlogError:
        return Redaction()


def warn_unrecorded(problem: str | None) -> None:
    """Warns of what `record_changes` gave; the change holds all the same."""
    if problem is not None:
        echo(f"warning: done, but not recorded in the store: {problem}", err=True)


def echo(text: str, *, err: bool = False) -> None:
    """Prints one line, harmless for a terminal."""
    from flightlog.analysis.terminal import escape_terminal

    click.echo(escape_terminal(text), err=err)
