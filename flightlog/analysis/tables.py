"""Results on a terminal: rich tables and text whose content cannot act."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import IO, Any, Never

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flightlog.analysis.terminal import UNKNOWN, cell_text, escape_terminal, share_text

PIPE_WIDTH = 240
_COLUMN_GAP = 3
_LONG = 26
"""Characters from which on a text may be folded; a time stamp is shorter."""


class _Screen(Console):
    """A console that leaves a reader that went away to the command line."""

    def on_broken_pipe(self) -> Never:
        # rich would leave with exit code 1, which is a verdict here.
        raise BrokenPipeError


def console(*, file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that takes nothing in its input for markup or emoji codes.

    Args:
        file: where to; None is standard output.
        width: in characters; None takes the terminal's, and a fixed wide one where
            the output goes to a file or a pipe.
    """
    stream = file or sys.stdout
    if width is None and not stream.isatty() and "COLUMNS" not in os.environ:
        width = PIPE_WIDTH
    return _Screen(file=file, width=width, markup=False, emoji=False, highlight=False)


def result_table(
    table: pa.Table, *, title: str | None = None, max_chars: int = 200, is_fitting: bool = False
) -> Table:
    """An Arrow table as a rich table: all its rows, numbers to the right.

    A float column `share` or `..._share` is shown in percent.

    Args:
        table: any result; cells and column names are escaped.
        title: shown above the table.
        max_chars: longest text cell.
        is_fitting: it `fits` its terminal; then only long texts are folded.
    """
    shown = Table(
        box=SIMPLE_HEAD, title=Text(escape_terminal(title)) if title else None, expand=False
    )
    widths = _widths(table, max_chars)
    for size, field in zip(widths, table.schema, strict=True):
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        shown.add_column(
            Text(escape_terminal(field.name)),
            justify="right" if is_number else "left",
            overflow="fold",
            min_width=min(size, _LONG) if is_fitting else None,
        )
    for row in _cells(table, max_chars):
        shown.add_row(*(Text(cell, style="dim" if cell == UNKNOWN else "") for cell in row))
    return shown


def table_width(table: pa.Table, *, max_chars: int) -> int:
    """Characters that `result_table` needs to show every row on one line."""
    widths = _widths(table, max_chars)
    return sum(widths) + _COLUMN_GAP * len(widths) + 1


def print_table(table: pa.Table, *, file: IO[str] | None = None) -> None:
    """Prints a result as a table, or value by value where the terminal is too narrow for one.

    Columns without any value are left out, and named, where that is what makes it fit.
    """
    screen = console(file=file)
    empty = [
        name
        for name, column in zip(table.column_names, table.columns, strict=True)
        if table.num_rows and column.null_count == table.num_rows
    ]
    filled = table.drop_columns(empty)
    if fits(table, width=screen.width):
        screen.print(result_table(table, is_fitting=True))
    elif empty and fits(filled, width=screen.width):
        screen.print(result_table(filled, is_fitting=True))
        names = escape_terminal(", ".join(empty))
        screen.print(Text(f"without a value: {names}", style="dim"))
    else:
        for line in result_records(table):
            screen.print(line)


def fits(table: pa.Table, *, width: int, max_chars: int = 200) -> bool:
    """True where a table of this width need fold nothing but long texts."""
    widths = [min(size, _LONG) for size in _widths(table, max_chars)]
    return sum(widths) + _COLUMN_GAP * len(widths) + 1 <= width


def result_records(table: pa.Table, *, max_chars: int = 400) -> Iterator[Text]:
    """An Arrow table row by row, a line for each value; for tables wider than the terminal."""
    names = [escape_terminal(name) for name in table.column_names]
    widest = max(map(len, names), default=0)
    for number, row in enumerate(_cells(table, max_chars), 1):
        yield Text(f"{number} of {table.num_rows}", style="bold")
        for name, cell in zip(names, row, strict=True):
            line = Text(f"  {name:<{widest}}  ", style="dim")
            yield line.append(cell, style="dim" if cell == UNKNOWN else "not dim")


def _widths(table: pa.Table, max_chars: int) -> list[int]:
    widths = [len(name) for name in table.column_names]
    for row in _cells(table, max_chars):
        widths = [max(size, len(cell)) for size, cell in zip(widths, row, strict=True)]
    return widths


def _cells(table: pa.Table, max_chars: int) -> Iterator[list[str]]:
    columns = [
        [_shown(value, field) for value in column.to_pylist()]
        for column, field in zip(table.columns, table.schema, strict=True)
    ]
    for row in zip(*columns, strict=True):
        yield [cell_text(value, max_chars=max_chars) for value in row]


def _shown(value: Any, field: pa.Field) -> Any:
    if value is None:
        return None
    if pa.types.is_floating(field.type) and field.name.rpartition("_")[2] == "share":
        return share_text(value)
    return dict(value) if pa.types.is_map(field.type) else value
