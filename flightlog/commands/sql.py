"""`flightlog sql`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.amounts import SIZE, SPAN
from flightlog.commands.options import (
    format_option,
    key_values,
    stores_option,
    strict_option,
    tell_damage,
)
from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.recorder.layout import Problem

MAX_QUERY_BYTES = 1 << 20
"""Longest query that is read from a file."""


@click.command()
@click.argument("query", required=False, help="One SELECT statement.")
@stores_option
@strict_option
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    callback=key_values,
    help="KEY=VALUE for $KEY in the query, as text; repeat for more.",
)
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="Read the query from a file; - for stdin.",
)
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Write to a new file instead.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many rows.")
@click.option("--views", is_flag=True, help="Print the views as SQL for a plain DuckDB.")
@click.option("--explain", is_flag=True, help="Show the plan of the query; run nothing.")
@click.option(
    "--timeout",
    type=SPAN,
    default="60s",
    show_default=True,
    help="Stop the query after this long.",
)
@click.option(
    "--max-memory",
    type=SIZE,
    default="4GiB",
    show_default=True,
    help="Memory for the query and its result.",
)
def sql(
    query: str | None,
    stores: tuple[Path, ...],
    strict: bool,
    params: dict[str, str],
    file: Path | None,
    form: str,
    out: Path | None,
    limit: int | None,
    views: bool,
    explain: bool,
    timeout: float,
    max_memory: float,
) -> None:
    """Ask the store in SQL: one statement, read-only.

    It runs in a process of its own, which can read the stores and nothing else. Without a query,
    in a terminal, a shell begins: completion by Tab, history, .help for the rest.

    Views: runs, steps, model_calls, tool_calls, messages, budgets, writes, findings, events.
    """
    from flightlog.analysis.sandbox import Bounds, user_sql, write_result
    from flightlog.analysis.terminal import escape_terminal

    if views:
        _print_views(stores, strict=strict)
        return
    bounds = Bounds(timeout, int(max_memory))
    if query is None and file is None and sys.stdin.isatty() and sys.stdout.isatty():
        from flightlog.analysis.columns_page import view_columns
        from flightlog.commands.shell.prompt import talk
        from flightlog.commands.shell.shell import Shell

        talk(Shell(stores, view_columns(), bounds))
        return
    if (query is None) == (file is None):
        raise UsageError(
            "give one query, as an argument or with --file",
            hint='Example: flightlog sql "select stop_reason, count(*) from runs group by all"',
        )
    text = _text_of(file) if file else query or ""
    damage: list[Problem] = []
    result = user_sql(
        stores,
        text,
        params=params,
        limit=limit,
        strict=strict,
        explain=explain,
        bounds=bounds,
        on_problem=damage.append,
    )
    tell_damage(damage)
    if explain and form == "table" and out is None:
        for plan in result.table["plan"].to_pylist():
            click.echo(escape_terminal(plan, keep_newlines=True))
        return
    write_result(result, form=form, out=out)


def _print_views(stores: tuple[Path, ...], *, strict: bool) -> None:
    from flightlog.analysis.views_file import views_sql
    from flightlog.recorder.store import Store

    snapshots = {str(path): Store.open(path).snapshot(strict=strict) for path in stores}
    for one in snapshots.values():
        tell_damage(one.problems)
    click.echo(views_sql(snapshots), nl=False)
    if unsealed := sum(one.unsealed_events.num_rows for one in snapshots.values()):
        click.echo(f"{unsealed:,} events are not sealed yet: flightlog seal", err=True)


def _text_of(file: Path) -> str:
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as opened:
            raw = opened.read(MAX_QUERY_BYTES + 1)
        if len(raw) > MAX_QUERY_BYTES:
            raise UsageError(
                f"the query has more than {MAX_QUERY_BYTES:,} bytes",
                where=str(file),
                hint="Give a file of SQL text.",
            )
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"not UTF-8 at byte {error.start}", where=str(file), hint="Give a file of SQL text."
        ) from error
