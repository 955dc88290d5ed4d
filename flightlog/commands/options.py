"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces
    from flightlog.control.control import Control
    from flightlog.recorder.layout import Problem
    from flightlog.redact.policy import Redaction
    from flightlog.runtime.prices import PriceTable

_TOLD = 5
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

strict_option = click.option(
    "--strict",
    is_flag=True,
    envvar="FLIGHTLOG_STRICT",
    show_envvar=True,
    help="Any damage of a store is an error; else what is damaged is left out and told.",
)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="How the rows are written; parquet needs --out.",
)


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings, for what is redacted. [default: ./flightlog.yaml if it is there]",
)


def redaction_of(config_file: Path | None) -> Redaction:
    """What the settings take out of what is recorded; the default where there is no file.

    Raises:
        ConfigError: the file cannot be used.
    """
    from flightlog.config import DEFAULT_CONFIG_NAME
    from flightlog.redact.from_config import redaction_from
    from flightlog.redact.policy import Redaction

    default = Path(DEFAULT_CONFIG_NAME)
    if config_file is None and default.is_file():
        config_file = default
    return Redaction() if config_file is None else redaction_from(config_file)


def prices_of(config_file: Path | None) -> PriceTable:
    """The prices of the settings, over the public table where that is installed.

    Raises:
        ConfigError: the file cannot be used.
    """
    from flightlog.config import DEFAULT_CONFIG_NAME, load_config
    from flightlog.runtime.from_config import prices_from
    from flightlog.runtime.prices import PriceTable

    default = Path(DEFAULT_CONFIG_NAME)
    if config_file is None and default.is_file():
        config_file = default
    return PriceTable() if config_file is None else prices_from(load_config(config_file))


@contextmanager
def opened_traces(stores: Iterable[Path], *, strict: bool) -> Iterator[Traces]:
    """Traces of stores, with a note on stderr where something in them is damaged.

    Raises:
        DamagedError: with `strict`, something in a store is not as it was written.
    """
    from flightlog.analysis.db import Traces

    with Traces(*stores, strict=strict) as traces:
        tell_damage(problem for _, problem in traces.problems)
        yield traces


def tell_damage(problems: Iterable[Problem]) -> None:
    """Says on stderr what is not as it was written: its rows are left out."""
    from flightlog.trace.terminal_text import escape_terminal

    found = list(problems)
    for problem in found[:_TOLD]:
        click.echo(f"damaged: {escape_terminal(str(problem))}", err=True)
    if len(found) > _TOLD:
        click.echo(f"damaged: {len(found) - _TOLD} more; see flightlog verify", err=True)


def control_of(store: Path) -> Control:
    """The control of an existing store; settings or a key that cannot be read do not stand in
    its way: what would have to be redacted is then left out, or not taken."""
    from flightlog.control.control import CONTROL_FOLDER, Control
    from flightlog.control.redacting import redactor_at
    from flightlog.errors import FlightlogError
    from flightlog.recorder.layout import open_layout

    root = open_layout(store).root
    try:
        redactor = redactor_at(root / CONTROL_FOLDER, redaction_of(None))
    except FlightlogError:
        return Control.at(root)
    return Control.at(root, redactor=redactor, records_all=redactor is None)


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
