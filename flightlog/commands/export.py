"""`flightlog export`."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from flightlog.commands.amounts import MOMENT
from flightlog.commands.options import stores_option, strict_option
from flightlog.errors import UsageError

TABLES: Final = (
    *(
        "runs",
        "steps",
        "model_calls",
        "tool_calls",
        "messages",
        "budgets",
        "writes",
        "findings",
        "events",
    ),
)
FORMS: Final = ("parquet", "jsonl", "csv")
OTLP: Final = "otlp"
_NEXT_PAIR: Final = re.compile(r",(?=[A-Za-z_][\w:.-]*=)")


def _pairs(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, str]]:
    found = []
    for part in (part for value in values for part in _NEXT_PAIR.split(value)):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise click.BadParameter(f"{part!r} is not COLUMN=VALUE", param=param)
        found.append((name.strip(), value))
    return found


def _form(form: str | None, out: Path) -> str:
    """The format that was given, or that the name of the file tells."""
    told = out.suffix.removeprefix(".")
    if told not in FORMS or out.is_dir():
        return form or FORMS[0]
    if form not in (None, told):
        raise UsageError(f"{out} is no name for a {form} file", hint=f"Name it .{form}.")
    return told


@click.command()
@stores_option
@strict_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder, or one file.")
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMS, OTLP]),
    help="What the files are written as; otlp is one file of spans.  [default: by the suffix of "
    "--out, else parquet]",
)
@click.option(
    "--table",
    "tables",
    type=click.Choice([*TABLES, "all"]),
    multiple=True,
    default=("all",),
    show_default=True,
    help="Repeat it for several.",
)
@click.option(
    "--where",
    multiple=True,
    callback=_pairs,
    help="Only runs with COLUMN=VALUE; join several by commas. label:KEY=VALUE works.",
)
@click.option("--since", type=MOMENT, help="Only runs that started then or later; UTC, or 7d.")
@click.option("--until", type=MOMENT, help="Only runs that started before.")
@click.option(
    "--blobs",
    type=click.Choice(["inline", "digest"]),
    default="inline",
    show_default=True,
    help="Long values in their rows, or only their digests.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
def export(
    stores: tuple[Path, ...],
    strict: bool,
    out: Path,
    form: str | None,
    tables: tuple[str, ...],
    where: list[tuple[str, str]],
    since: datetime | None,
    until: datetime | None,
    blobs: str,
    force: bool,
) -> None:
    """Write the traces out as Parquet, JSON lines or CSV, one file per table, or as spans.

    The stores are verified first. All files are written, or none. A run is exported whole.
    What the export holds is neither encrypted nor part of the store any more.
    """
    from flightlog.analysis.export_tables import Chosen, export_tables
    from flightlog.analysis.wording import counted
    from flightlog.commands.changes import echo

    chosen = Chosen(where, since, until)
    if form == OTLP:
        from flightlog.integrations.otlp.export import export_otlp

        if tables != ("all",):
            raise UsageError("spans are of whole runs", hint="Leave --table away.")
        made = export_otlp(stores, out, chosen=chosen, overwrites=force, strict=strict)
        echo(f"wrote {made.path}: {counted(made.rows, 'span')}")
        return

    written = export_tables(
        stores,
        out,
        form=_form(form, out),
        tables=TABLES if "all" in tables else tuple(dict.fromkeys(tables)),
        chosen=chosen,
        inlines_blobs=blobs == "inline",
        overwrites=force,
        strict=strict,
    )
    for one in written:
        echo(f"wrote {one.path}: {counted(one.rows, 'row')}")
        if one.defused_cells:
            cells = counted(one.defused_cells, "cell")
            echo(f"note: {cells} began like a formula and got a leading apostrophe", err=True)
