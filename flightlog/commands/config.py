"""`flightlog config`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.config import DEFAULT_CONFIG_NAME, DEFAULT_SOURCE

if TYPE_CHECKING:
    from flightlog.config import Config
    from flightlog.config.effective import Effective

_file = click.Path(path_type=Path)


@click.group()
def config() -> None:
    """Check or show the settings."""


@config.command()
@click.argument("file", type=_file, default=DEFAULT_CONFIG_NAME)
def check(file: Path) -> None:
    """Check a settings file; errors name file and line.

    Settings that contradict each other, and credentials whose variable is not set here, are
    warnings, and the exit code stays 0.
    """
    import os

    from flightlog.config import load_config
    from flightlog.control.control import Control
    from flightlog.redact.from_config import redaction_from
    from flightlog.runtime.contradictions import contradictions
    from flightlog.runtime.from_config import credentials_from, policy_from, prices_from

    loaded = load_config(file)
    policy_from(loaded, store=Control.in_process())
    prices_from(loaded)
    credentials_from(loaded)
    redaction_from(loaded)
    warnings = [str(one) for one in contradictions(loaded, environ=os.environ)]
    if all(source == DEFAULT_SOURCE for source in loaded.sources.values()):
        warnings.append(f"{file} sets nothing: the defaults hold")
    _say(f"ok: {file}: {_summary(loaded)}{_count(len(warnings), '; {} warning')}")
    for warning in warnings:
        _say(f"warning: {warning}")


@config.command()
@click.argument("file", type=_file, required=False)
@click.option("--json", "as_json", is_flag=True, help="Write the settings as JSON.")
@click.option("--all", "everything", is_flag=True, help="Also what is off, with its default.")
def show(file: Path | None, as_json: bool, everything: bool) -> None:
    """Show the effective settings and where each comes from.

    Without FILE it is ./flightlog.yaml where there is one, else the defaults.
    """
    from flightlog.config import default_config, load_config
    from flightlog.config.effective import effective

    if file is None and Path(DEFAULT_CONFIG_NAME).exists():
        file = Path(DEFAULT_CONFIG_NAME)
    loaded = default_config() if file is None else load_config(file)
    rows = [row for row in effective(loaded) if everything or not row.is_off]
    if as_json:
        _print_json(loaded, rows)
        return
    none = f"no {DEFAULT_CONFIG_NAME} here: the defaults"
    _say(f"# {none if file is None else f'{file} over the defaults'}")
    for row in rows:
        _say(_line(row))


def _line(row: Effective) -> str:
    import json

    from flightlog.config.effective import default_text
    from flightlog.config.validation import key_text

    key = key_text(row.keys)
    source = row.source
    value = json.dumps(row.value, ensure_ascii=False)
    if row.source == DEFAULT_SOURCE and row.keys == row.setting.keys and row.setting.is_entry:
        key, value = row.setting.path, "none"
        source = f"{default_text(row.setting)} per entry"
    return f"{key}: {value}  # {source}: {row.setting.description}"


def _print_json(loaded: Config, rows: list[Effective]) -> None:
    import json

    settings = [
        {
            "keys": list(row.keys),
            "value": row.value,
            "source": row.source,
            "description": row.setting.description,
        }
        for row in rows
    ]
    click.echo(json.dumps({"file": loaded.file, "settings": settings}, indent=2))


def _summary(loaded: Config) -> str:
    """The policy in one line."""
    limits = (
        ("max_steps", "{:g} steps"),
        ("max_seconds", "{:g} s"),
        ("max_tool_calls", "{:g} tool calls"),
        ("max_usd", "{:g} USD"),
        ("max_tokens", "{:g} tokens"),
    )
    values = [(loaded[f"budgets.{name}"], form) for name, form in limits]
    run = ", ".join(form.format(value) for value, form in values if value is not None)
    parts = [_count(len(loaded["tools.allow"]), "{} allowed name")]
    parts.append(f"per run {run or 'no limit'}")
    parts.append(_writes_text(loaded))
    for setting, form in (
        ("budgets.per_tool", "{} tool budget"),
        ("budgets.per_tenant", "{} tenant budget"),
        ("retries", "retries of {} tool"),
        ("breakers", "{} breaker"),
    ):
        parts.append(_count(len(loaded[setting]), form))
    return "; ".join(part for part in parts if part)


def _writes_text(loaded: Config) -> str:
    if not loaded["writes.require_approval"]:
        return "writes need no approval"
    via: Any = loaded["approvals.via"]
    return "writes need approval" + ("" if via == "none" else f" by {via}")


def _count(number: int, form: str) -> str:
    """A count in words, with its plural; empty for 0."""
    return form.format(number) + ("s" if number > 1 else "") if number else ""


def _say(text: str) -> None:
    from flightlog.analysis.terminal import escape_terminal

    click.echo(escape_terminal(text))
