"""Results on a terminal: rich tables and text whose content cannot act."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flightlog.analysis.terminal import UNKNOWN, cell_text, escape_terminal

PIPE_WIDTH = 240
_COLUMN_GAP = 3


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
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def result_table(table: pa.Table, *, title: str | None = None, max_chars: int = 200) -> Table:
    """An Arrow table as a rich table: all its rows, numbers to the right.

    Args:
        table: any result; cells and column names are escaped.
        title: shown above the table.
        max_chars: longest text cell.
    """
    shown = Table(
        box=SIMPLE_HEAD, title=Text(escape_terminal(title)) if title else None, expand=False
    )
    for field in table.schema:
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        shown.add_column(
            Text(escape_terminal(field.name)),
            justify="right" if is_number else "left",
            overflow="fold",
        )
    for row in _cells(table, max_chars):
        shown.add_row(*(Text(cell, style="dim" if cell == UNKNOWN else "") for cell in row))
    return shown


def table_width(table: pa.Table, *, max_chars: int) -> int:
    """Characters that `result_table` needs to show every row on one line."""
    widths = [len(name) for name in table.column_names]
    for row in _cells(table, max_chars):
        widths = [max(width, len(cell)) for width, cell in zip(widths, row, strict=True)]
    return sum(widths) + _COLUMN_GAP * len(widths) + 1


def _cells(table: pa.Table, max_chars: int) -> Iterator[list[str]]:
    columns = [
        [_shown(value, field.type) for value in column.to_pylist()]
        for column, field in zip(table.columns, table.schema, strict=True)
    ]
    for row in zip(*columns, strict=True):
        yield [cell_text(value, max_chars=max_chars) for value in row]


def _shown(value: Any, arrow: pa.DataType) -> Any:
    return dict(value) if value is not None and pa.types.is_map(arrow) else value
