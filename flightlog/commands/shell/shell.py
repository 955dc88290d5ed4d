"""What the shell does with a line; where lines come from is not its business."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from flightlog.analysis.questions import question, question_names, questions, without_empty_groups
from flightlog.analysis.sandbox import Bounds, QueryResult, user_sql, write_result
from flightlog.analysis.terminal import escape_terminal
from flightlog.commands.options import opened_traces, tell_damage
from flightlog.commands.shell.completion import COMMANDS
from flightlog.errors import FlightlogError, UnknownNameError, UsageError
from flightlog.recorder.layout import Problem

DEFAULT_LIMIT: Final = 100
_FORMS: Final = ("table", "csv", "json")


class Shell:
    """A shell over stores.

    Args:
        stores: folders.
        views: names of the views -> their columns.
        bounds: of each query.
    """

    def __init__(
        self, stores: Sequence[Path], views: Mapping[str, Sequence[str]], bounds: Bounds
    ) -> None:
        self.stores = stores
        self.views = views
        self.bounds = bounds
        self.form = "table"
        self.limit: int | None = DEFAULT_LIMIT
        self._commands: dict[str, Callable[[str], None]] = {
            ".ask": self._ask,
            ".columns": self._columns,
            ".explain": lambda rest: self._query(rest, explain=True),
            ".format": self._format,
            ".help": self._help,
            ".limit": self._limit,
            ".questions": self._questions,
            ".tables": self._tables,
        }

    def is_whole(self, text: str) -> bool:
        """True when the text can be handled: a command, a query that ends in `;`, or nothing."""
        plain = text.strip()
        last_line = plain.rsplit("\n", 1)[-1].split("--", 1)[0]
        return not plain or plain.startswith(".") or last_line.rstrip().endswith(";")

    def handle(self, text: str) -> bool:
        """Does what a whole text says; errors are told, not raised.

        Returns:
            False when the shell is to be left.
        """
        plain = text.strip()
        if plain in (".quit", ".exit"):
            return False
        try:
            if plain.startswith("."):
                self._command(plain)
            elif plain.rstrip(";").strip():
                self._query(plain)
        except FlightlogError as error:
            click.echo(f"error: {escape_terminal(str(error), keep_newlines=True)}", err=True)
        except KeyboardInterrupt:
            click.echo("cancelled", err=True)
        return True

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        if name not in self._commands:
            raise UnknownNameError.of("command", name, tuple(COMMANDS))
        self._commands[name](rest.strip().rstrip(";"))

    def _query(self, text: str, *, explain: bool = False) -> None:
        damage: list[Problem] = []
        result = user_sql(
            self.stores,
            text,
            limit=self.limit,
            explain=explain,
            bounds=self.bounds,
            on_problem=damage.append,
        )
        tell_damage(damage)
        if explain:
            for plan in result.table["plan"].to_pylist():
                click.echo(escape_terminal(plan, keep_newlines=True))
        else:
            self._show(result)

    def _show(self, result: QueryResult) -> None:
        write_result(result, form=self.form)
        if not result.is_cut:
            rows = result.table.num_rows
            click.echo(f"{rows:,} row{'' if rows == 1 else 's'}", err=True)

    def _ask(self, rest: str) -> None:
        asked = question(rest)
        with opened_traces(self.stores, strict=False) as traces:
            self._show(QueryResult(without_empty_groups(asked.ask(traces)), is_cut=False))

    def _columns(self, rest: str) -> None:
        if rest not in self.views:
            raise UnknownNameError.of("view", rest, tuple(self.views))
        click.echo("\n".join(self.views[rest]))

    def _tables(self, _rest: str) -> None:
        click.echo("\n".join(self.views))

    def _questions(self, _rest: str) -> None:
        for one in questions():
            click.echo(f"{one.name:<24} {one.title}")

    def _help(self, _rest: str) -> None:
        click.echo("A query ends in ; and may take several lines. Besides:")
        for name, about in COMMANDS.items():
            click.echo(f"  {name:<11} {about}")

    def _format(self, rest: str) -> None:
        if rest not in _FORMS:
            raise UnknownNameError.of("format", rest, _FORMS)
        self.form = rest

    def _limit(self, rest: str) -> None:
        if rest == "none":
            self.limit = None
        elif rest.isdecimal() and int(rest) > 0:
            self.limit = int(rest)
        else:
            raise UsageError(
                f"{rest[:40]!r} is no number of rows", hint=".limit 50, or .limit none"
            )


def names_of_questions() -> tuple[str, ...]:
    """Names of the ready questions, for completion."""
    return question_names()
