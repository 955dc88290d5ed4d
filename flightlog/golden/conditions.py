"""Under which conditions a trial was replayed, so that a resumed replay is one experiment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from flightlog.errors import ConfigError, GoldenError
from flightlog.trace.canonical import canonical_json, digest_of
from flightlog.trace.events import Evaluation

if TYPE_CHECKING:
    from flightlog.golden.overrides import Overrides
    from flightlog.replay.attempts import Attempts
    from flightlog.replay.cassette import Recording
    from flightlog.replay.matchers import Match
    from flightlog.replay.misses import MissPolicies

REPLAYED_WITH: Final = "replayed_with"
"""Name of the evaluation that holds them; it judges nothing, so `passed` is null."""
_DIGITS: Final = 12


def conditions_of(
    match: Match, attempts: Attempts, misses: MissPolicies, overrides: Overrides
) -> dict[str, Any]:
    """What a replay was told, as plain JSON; what is at its default is left out.

    Functions (fixtures, stubs, clients) count as given or not: their code is not compared.
    """
    policies = {str(name): str(one) for name, one in misses.by_tool.items()}
    policies |= {f"effect {name}": str(one) for name, one in misses.by_effect.items()}
    told: dict[str, Any] = {
        "match": str(match),
        "attempts": str(attempts),
        "on_miss": policies,
        "stubs": sorted(misses.stubs),
        "fixture": misses.fixture is not None,
        "simulates_writes": misses.simulates_writes,
        "allow_live": misses.allow_live,
        "model": overrides.model,
        "client": overrides.client is not None,
        "system": None if overrides.system is None else digest_of(overrides.system)[:_DIGITS],
        "config": None if overrides.config is None else _digest_of_file(overrides),
    }
    return {name: value for name, value in told.items() if value}


def _digest_of_file(overrides: Overrides) -> str:
    assert overrides.config is not None
    try:
        return digest_of(overrides.config.read_bytes())[:_DIGITS]
    except OSError as error:
        raise ConfigError(
            f"the settings cannot be read: {error.strerror}", where=str(overrides.config)
        ) from error


def conditions_text(conditions: Mapping[str, Any]) -> str:
    """As it stands in the run."""
    return canonical_json(dict(conditions))


def require_same(run: Recording, name: str, text: str, *, where: str, what: str) -> None:
    """Refuses to go on with a session whose finished trials were made otherwise.

    Args:
        run: a finished trial.
        name: of the evaluation that holds what is compared.
        text: what it has to be.
        where: the session.
        what: what differs, for the message.

    Raises:
        GoldenError: it is another one.
    """
    told = [e.detail for e in run.events if isinstance(e, Evaluation) and e.name == name]
    if told and told[-1] != text:
        differences = "; ".join(_differences(told[-1] or "", text))
        raise GoldenError(
            f"{what} since run {run.run_id} was made{f': {differences}' if differences else ''}",
            where=where,
            hint="Give the options that it began with, or begin a new session.",
        )


def _differences(then: str, now: str) -> Iterator[str]:
    old, new = json.loads(then), json.loads(now)
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
