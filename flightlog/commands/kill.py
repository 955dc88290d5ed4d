"""`flightlog kill`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.changes import (
    echo,
    record_changes,
    short_text,
    user_at_host,
    warn_unrecorded,
)
from flightlog.commands.options import control_of, store_option
from flightlog.errors import StoreError

if TYPE_CHECKING:
    from flightlog.control.kill_switch import KillRule, KillSwitch
    from flightlog.trace.events import StateChanged

tenant_option = click.option(
    "--tenant", callback=short_text, help="Only runs of this tenant, by its exact name."
)
why_option = click.option(
    "--why", default="", callback=short_text, help="The reason; shown by agents and in traces."
)
who_option = click.option("--who", callback=short_text, help="Who switches.  [default: user@host]")


@click.group()
def kill() -> None:
    """Stop agents that run, or what they may do.

    Takes effect at the next call in every process on the store.
    """


@kill.command()
@click.option(
    "--mode",
    default="configured",
    show_default=True,
    help="disable_writes, disable_tools:GLOB, stop_all, or configured: what the "
    "kill_switch.mode_when_enabled of each agent says.",
)
@tenant_option
@why_option
@who_option
@store_option
def on(mode: str, tenant: str | None, why: str, who: str | None, store: Path) -> None:
    """Switch on: one rule for all runs, and one for each tenant.

    Replaces the rule for the same runs. Of several rules the most severe one counts.
    """
    from flightlog.control.kill_switch import KillRule, parse_mode

    rule_mode, tools = parse_mode(mode)
    try:
        switch = _switch(store)
    except StoreError as error:
        raise StoreError(
            f"{error.what}; nothing would have been stopped",
            where=error.where,
            hint=error.hint or "Give the store that the agents record to.",
        ) from error
    rule = KillRule(rule_mode, tools, tenant, who or user_at_host(), why, time.time_ns() // 1000)
    replaced = switch.put(rule)
    before = "off" if replaced is None else replaced.text
    problem = record_changes(store, [_change(rule, before, rule.text)])
    echo(f"kill switch is on: {_described(rule)}")
    if replaced is not None:
        echo(f"in place of: {_described(replaced)}")
    if tenant is not None and any(sign in tenant for sign in "*?["):
        echo("warning: a tenant is meant by its exact name; signs of a glob mean nothing", err=True)
    warn_unrecorded(problem)


@kill.command()
@tenant_option
@click.option("--all", "everything", is_flag=True, help="End all rules.")
@why_option
@who_option
@store_option
def off(tenant: str | None, everything: bool, why: str, who: str | None, store: Path) -> None:
    """Switch off: for all runs, for one tenant, or everything."""
    from flightlog.control.kill_switch import KillMode, KillRule

    if tenant is not None and everything:
        raise click.UsageError("Give --tenant or --all, not both.")
    switch = _switch(store)
    at_us = time.time_ns() // 1000
    ended = switch.turn_off(tenant=tenant, everything=everything)
    # The rule as it was, but who ended it, when and why.
    by = [
        KillRule(one.mode, one.tools, one.tenant, who or user_at_host(), why, at_us + number)
        for number, one in enumerate(ended)
    ]
    problem = record_changes(store, [_change(one, one.text, "off") for one in by])
    for one in ended:
        echo(f"kill switch is off; it was: {_described(one)}")
    if not ended:
        whom = "any run" if everything else _scope(KillRule(KillMode.STOP_ALL, tenant=tenant))
        echo(f"kill switch was not on for {whom}")
    for one in switch.rules():
        echo(f"still on: {_described(one)}")
    warn_unrecorded(problem)


@kill.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@store_option
def status(as_json: bool, store: Path) -> None:
    """Show what is switched on: for whom, by whom, since when and why."""
    rules = sorted(_switch(store).rules(), key=lambda rule: rule.tenant or "")
    if as_json:
        shown = {"is_on": bool(rules), "rules": [_plain(rule) for rule in rules]}
        click.echo(json.dumps(shown, indent=2))
        return
    if not rules:
        echo("kill switch is off")
    for rule in rules:
        echo(f"kill switch is on: {_described(rule)}")


def _switch(store: Path) -> KillSwitch:
    """The switch of an existing store; nothing is made."""
    return control_of(store).kill_switch


def _scope(rule: KillRule) -> str:
    return "all runs" if rule.tenant is None else f"tenant {rule.tenant!r}"


def _since(rule: KillRule) -> datetime | None:
    return None if rule.at_us is None else datetime.fromtimestamp(rule.at_us / 1e6, UTC)


def _described(rule: KillRule) -> str:
    """A rule in one line."""
    since = _since(rule)
    when = "" if since is None else f", {since:%Y-%m-%d %H:%M:%S} UTC"
    why = f": {rule.why}" if rule.why else ""
    return f"{rule.text} for {_scope(rule)}, by {rule.who}{when}{why}"


def _plain(rule: KillRule) -> dict[str, Any]:
    """A rule as JSON."""
    since = _since(rule)
    return {
        "tenant": rule.tenant,
        "mode": rule.mode.value,
        "tools": rule.tools,
        "text": rule.text,
        "who": rule.who,
        "why": rule.why,
        "at": None if since is None else f"{since:%Y-%m-%dT%H:%M:%S.%f}Z",
    }


def _change(rule: KillRule, before: str, after: str) -> StateChanged:
    """The event of a change. It belongs to no run; its time gives it its order."""
    from flightlog.trace.events import StateChanged

    why = f": {rule.why}" if rule.why else ""
    return StateChanged(
        run_id="",
        seq=rule.at_us or 0,
        at=rule.at_us,
        subject="kill_switch",
        state_from=before,
        state_to=after,
        detail=f"for {_scope(rule)}, by {rule.who}{why}",
    )
