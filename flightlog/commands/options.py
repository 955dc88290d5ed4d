"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

DEFAULT_STORE = "flightlog-store"

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=DEFAULT_STORE,
    envvar="FLIGHTLOG_STORE",
    show_default=True,
    show_envvar=True,
    help="Folder of the store.",
)

stores_option = click.option(
    "--store",
    "stores",
    type=click.Path(path_type=Path),
    multiple=True,
    default=(DEFAULT_STORE,),
    envvar="FLIGHTLOG_STORE",
    show_default=True,
    show_envvar=True,
    help="Folder of a store; repeat it to read several as one.",
)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How the rows are written; parquet needs --out.",
)


def key_values(
    _ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Click callback: `K=V` options as a mapping."""
    pairs: dict[str, Any] = {}
    for value in values:
        key, sign, text = value.partition("=")
        if not sign or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", param=param)
        pairs[key] = text
    return pairs
