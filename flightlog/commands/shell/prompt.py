"""The prompt: lines from a terminal, with completion, history and several lines to a query."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from flightlog.commands.shell.completion import completions
from flightlog.commands.shell.shell import Shell, names_of_questions
from flightlog.errors import MissingExtraError

HISTORY_VARIABLE: Final = "FLIGHTLOG_HISTORY"


def history_file() -> Path | None:
    """Where queries are kept: FLIGHTLOG_HISTORY (empty for nowhere), else in the state folder
    of the user, readable by nobody else."""
    told = os.environ.get(HISTORY_VARIABLE)
    if told is not None:
        return Path(told) if told else None
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "flightlog" / "sql_history"


def talk(shell: Shell) -> None:
    """Reads and does until the end of the input.

    Raises:
        MissingExtraError: the package `prompt_toolkit` is not installed.
    """
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import CompleteEvent, Completer, Completion
        from prompt_toolkit.document import Document
        from prompt_toolkit.history import FileHistory, History, InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    except ImportError as error:
        raise MissingExtraError(
            "an interactive prompt needs the package prompt-toolkit",
            hint="pip install 'flightlog[shell]', or give the query as an argument.",
        ) from error

    class Words(Completer):
        def get_completions(
            self, document: Document, complete_event: CompleteEvent
        ) -> Iterable[Completion]:
            found = completions(document.text_before_cursor, shell.views, names_of_questions())
            for one in found:
                yield Completion(one.text, start_position=-one.length, display_meta=one.about)

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        if shell.is_whole(event.current_buffer.text):
            event.current_buffer.validate_and_handle()
        else:
            event.current_buffer.insert_text("\n")

    path = _made(history_file())
    history: History = InMemoryHistory() if path is None else FileHistory(str(path))
    session: PromptSession[str] = PromptSession(
        "flightlog> ",
        completer=Words(),
        history=history,
        key_bindings=keys,
        multiline=True,
        complete_while_typing=False,
        prompt_continuation="       ...> ",
    )
    click.echo("SQL over runs, steps, model_calls, tool_calls, ...; .help tells more.")
    while True:
        try:
            text = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if not shell.handle(text):
            return


def _made(path: Path | None) -> Path | None:
    """The file, there and private; None where that cannot be had."""
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return None
    return path
