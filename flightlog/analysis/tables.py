"""Results on a terminal: rich tables and text whose content cannot act."""

from __future__ import annotations

from typing import IO, Any

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flightlog.analysis.terminal import cell_text, escape_terminal


def safe(value: Any, *, max_chars: int | None = None, style: str = "") -> Text:
    """Any value of a trace as rich text, free of markup and escapes; null as unknown."""
    return Text(cell_text(value, max_chars=max_chars), style=style)


def console(*, file: IO[str] | None = None, width: int | None = None) -> Console:
    """A console that takes nothing in its input for markup, emoji codes or links."""
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
    columns = [
        [_shown(value, field.type) for value in column.to_pylist()]
        for column, field in zip(table.columns, table.schema, strict=True)
    ]
    for row in zip(*columns, strict=True):
        shown.add_row(
            *(safe(cell, max_chars=max_chars, style="dim" if cell is None else "") for cell in row)
        )
    return shown


def _shown(value: Any, arrow: pa.DataType) -> Any:
    return dict(value) if value is not None and pa.types.is_map(arrow) else value
