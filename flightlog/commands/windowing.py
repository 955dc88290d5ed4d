"""Options that choose the runs of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flightlog.commands.amounts import MOMENT

if TYPE_CHECKING:
    from flightlog.analysis.window import Scope

F = TypeVar("F", bound=Callable[..., Any])


def window_options(command: F) -> F:
    """Adds --since, --until, --agent and --tenant to a command."""
    options = (
        click.option("--since", type=MOMENT, help="Only runs that began then or later; or 6h."),
        click.option("--until", type=MOMENT, help="Only runs that began before."),
        click.option("--agent", help="Only runs of this agent."),
        click.option("--tenant", help="Only runs for this tenant."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def scope_of(how: Mapping[str, Any]) -> Scope:
    """The runs that the options choose."""
    from flightlog.analysis.window import Scope

    return Scope(how["since"], how["until"], how["agent"], how["tenant"])
