"""Options that say how a replay serves: matcher, tries, misses, and who grades."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from flightlog.errors import UsageError, nearest_text

if TYPE_CHECKING:
    from flightlog.replay.misses import MissPolicies, MissPolicy
    from flightlog.runtime.model import Model

F = TypeVar("F", bound=Callable[..., Any])

POLICIES: Final = ("stop", "fixture", "stub", "error", "live_read")
_EFFECT: Final = "effect:"

_OPTIONS: Final = (
    click.option(
        "--match",
        type=click.Choice(["state", "strict", "keyed"]),
        default="state",
        show_default=True,
        help="How calls find their recorded ones; the others are weaker.",
    ),
    click.option(
        "--attempts",
        type=click.Choice(["faithful", "collapsed"]),
        default="faithful",
        show_default=True,
        help="Recorded tries one by one, or the last one at once.",
    ),
    click.option(
        "--on-miss",
        "on_miss",
        multiple=True,
        metavar="[TOOL=]POLICY",
        help="What answers a call that no recording does: stop, fixture, stub, error, live_read; "
        "of a tool, a glob, effect:read, or (alone) of all.",
    ),
    click.option(
        "--fixture", metavar="MODULE:FUNCTION", help="Gives tools over a fresh initial state."
    ),
    click.option(
        "--simulates-writes", is_flag=True, help="The fixture is a full simulator: writes too."
    ),
    click.option(
        "--stub",
        "stubs",
        multiple=True,
        metavar="TOOL=MODULE:FUNCTION",
        help="Answers misses of a tool or glob; repeat for more.",
    ),
    click.option(
        "--allow-live",
        is_flag=True,
        help="Reads with the policy live_read really call the agent's function.",
    ),
    click.option("--grader", help="openai:NAME or anthropic:NAME; answers graded questions."),
)


def serving_options(command: F) -> F:
    """Adds the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def serving_of(how: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Replaying` that the options name.

    Raises:
        UsageError: an option that is not of its form, or a policy without what it needs.
        AgentError: a function that cannot be found.
    """
    from flightlog.replay.attempts import Attempts
    from flightlog.replay.matchers import Match

    return {
        "match": Match(how["match"]),
        "attempts": Attempts(how["attempts"]),
        "misses": _misses(how),
        "grader": _grader(how["grader"]),
    }


def _misses(how: Mapping[str, Any]) -> MissPolicies:
    from flightlog.golden.factory import load_factory
    from flightlog.golden.life.lint import load_fixture_factory
    from flightlog.replay.misses import MissPolicies, MissPolicy
    from flightlog.trace.vocab import Effect

    by_tool: dict[str, MissPolicy] = {}
    by_effect: dict[Effect, MissPolicy] = {}
    for text in how["on_miss"]:
        name, _, policy = text.rpartition("=")
        if policy not in POLICIES:
            raise UsageError(
                f"--on-miss {text!r} names no policy", hint=nearest_text(policy, POLICIES)
            )
        made = MissPolicy(policy)
        if not name:
            # Alone it is of every tool, where it can be: only reads may be made live.
            live = made is MissPolicy.LIVE_READ
            by_effect |= dict.fromkeys([Effect.READ] if live else list(Effect), made)
        elif name.startswith(_EFFECT):
            by_effect[_effect(name.removeprefix(_EFFECT), text)] = made
        else:
            by_tool[name] = made
    stubs = {name: load_factory(place) for name, place in _pairs(how["stubs"])}
    fixture = load_fixture_factory(how["fixture"]) if how["fixture"] else None
    _check_needs([*by_tool.values(), *by_effect.values()], how)
    return MissPolicies(
        by_tool,
        by_effect,
        stubs,
        fixture,
        allow_live=how["allow_live"],
        simulates_writes=how["simulates_writes"],
    )


def _check_needs(policies: Sequence[MissPolicy], how: Mapping[str, Any]) -> None:
    """Refuses a policy that could never answer, and what no policy would use."""
    needs = (
        ("fixture", "fixture", "--fixture MODULE:FUNCTION"),
        ("stub", "stubs", "--stub TOOL=MODULE:FUNCTION"),
        ("live_read", "allow_live", "--allow-live"),
    )
    for policy, option, hint in needs:
        if policy in policies and not how[option]:
            raise UsageError(f"--on-miss {policy} has nothing to ask", hint=f"Add {hint}.")
        if how[option] and policy not in policies and policy != "fixture":
            raise UsageError(
                f"{hint.split()[0]} is given, and no tool has the policy {policy}",
                hint=f"Add --on-miss TOOL={policy}.",
            )
    if how["simulates_writes"] and not how["fixture"]:
        raise UsageError("--simulates-writes without a fixture", hint=f"Add {needs[0][2]}.")


def _effect(name: str, text: str) -> Any:
    from flightlog.trace.vocab import Effect

    if name not in list(Effect):
        raise UsageError(
            f"--on-miss {text!r} names no effect", hint=nearest_text(name, [str(e) for e in Effect])
        )
    return Effect(name)


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, _, place = text.partition("=")
        if not name or not place:
            raise UsageError(
                f"--stub {text!r} is not of its form", hint="Write TOOL=MODULE:FUNCTION."
            )
        found.append((name, place))
    return found


def _grader(name: str | None) -> Model | None:
    from flightlog.commands.candidates import client_of

    if name is None:
        return None
    client = client_of(name)
    if client is None:
        raise UsageError(
            f"--grader {name!r} names no client", hint="Write openai:NAME or anthropic:NAME."
        )
    return client()
