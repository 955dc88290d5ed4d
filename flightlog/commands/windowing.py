"""Options that choose the runs of a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flightlog.commands.amounts import MOMENT

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces
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


def scope_of(traces: Traces, how: Mapping[str, Any]) -> Scope:
    """The runs that the options choose.

    Raises:
        UnknownNameError: no run is of that agent, or for that tenant.
    """
    from flightlog.analysis.window import Scope

    require_known(traces, how)
    return Scope(how["since"], how["until"], how["agent"], how["tenant"])


def require_known(traces: Traces, how: Mapping[str, Any]) -> None:
    """Makes sure that some run is of the agent, and for the tenant, that the options name.

    Raises:
        UnknownNameError: none is, at any time.
    """
    from flightlog.errors import UnknownNameError

    for column in ("agent", "tenant"):
        name = how[column]
        if name is None:
            continue
        query = f"SELECT DISTINCT {column} AS name FROM base.events WHERE kind = 'run_started'"
        known = {row["name"] for row in traces.rows(query)} - {None}
        if name not in known:
            raise UnknownNameError.of(column, name, sorted(known), where=", ".join(traces.stores))
