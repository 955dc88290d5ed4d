"""`flightlog config`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.config import DEFAULT_CONFIG_NAME


@click.group()
def config() -> None:
    """Check or show the settings."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_CONFIG_NAME)
def check(file: Path) -> None:
    """Check a settings file; errors name file and line."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.config import load_config

    load_config(file)
    click.echo(f"ok: {escape_terminal(str(file))}")


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def show(file: Path | None) -> None:
    """Show the effective settings and where each comes from."""
    import json

    from flightlog.analysis.terminal import escape_terminal
    from flightlog.config import SETTINGS, default_config, load_config

    effective = default_config() if file is None else load_config(file)
    for setting in SETTINGS:
        value = json.dumps(effective[setting.path], ensure_ascii=False)
        source = effective.sources[setting.path]
        click.echo(escape_terminal(f"{setting.path}: {value}  # {source}: {setting.description}"))
