"""Settings that are well-formed and yet cannot do what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, Final

from flightlog.config import Config
from flightlog.config.reading import Keys
from flightlog.config.validation import key_text
from flightlog.runtime.policy import matches

_GLOB_SIGNS: Final = "*?["
_MOST_COMPARED: Final = 500
"""Names of one mapping that are compared with others; a longer one was made by a program."""
_BY_TOOL: Final = ("budgets.per_tool", "retries", "breakers")
_BY_NAME: Final = (*_BY_TOOL, "budgets.per_tenant")
_RUN_LIMIT_OF: Final = {
    "max_calls": "budgets.max_tool_calls",
    "max_seconds": "budgets.max_seconds",
    "max_usd": "budgets.max_usd",
}


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One setting that another one, or itself, makes void.

    Attributes:
        keys: the setting.
        what: why it cannot do what it says, a sentence without its end.
        where: `file:line`.
    """

    keys: Keys
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {key_text(self.keys)} {self.what}"


def contradictions(
    config: Config, *, environ: Mapping[str, str] | None = None
) -> tuple[Contradiction, ...]:
    """What a settings file says in vain, in the order of its lines. The defaults have none.

    Args:
        config: from `flightlog.load_config`.
        environ: where the variables of credentials should be; None does not look.
    """
    said = [one for rule in _RULES for one in rule(config)]
    said += [] if environ is None else _unset(config, environ)
    found = [
        Contradiction((*setting.split("."), *names), what, config.where(setting, *names))
        for setting, names, what in said
    ]
    return tuple(sorted(found, key=lambda one: int("0" + one.where.rpartition(":")[2])))


_Said = Iterator[tuple[str, Keys, str]]


def _open_ended(config: Config) -> _Said:
    """A run or a list that bounds nothing, or allows nothing."""
    limits = [f"budgets.{name}" for name in ("max_steps", "max_seconds", "max_tool_calls")]
    if all(config[limit] is None for limit in limits):
        yield limits[0], (), "is null as max_seconds and max_tool_calls are: nothing ends a run"
    if config.is_set("tools.allow"):
        if not config["tools.allow"]:
            yield "tools.allow", (), "is empty: no tool may be called"
        if "*" in config["tools.allow"]:
            yield "tools.allow", (), "holds '*': every tool is allowed"
        for number, name in enumerate(islice(config["tools.allow"], _MOST_COMPARED)):
            if any(char.isspace() for char in name):
                yield "tools.allow", (number,), f"is {name!r}, and no tool name has white space"
    for setting, window in (("budgets.per_tool", ()), ("budgets.per_tenant", ("window_seconds",))):
        for name, entry in config[setting].items():
            if not any(value is not None for key, value in entry.items() if key not in window):
                yield setting, (name,), "sets no limit"


def _not_allowed(config: Config) -> _Said:
    """Entries for tools that the allowlist does not hold."""
    allow = config["tools.allow"]
    for setting in _BY_TOOL:
        for name in islice(config[setting], _MOST_COMPARED):
            if not any(_can_meet(name, entry) for entry in allow):
                yield setting, (name,), "is for a tool that tools.allow does not allow"
    for tenant, tools in config["credentials"].items():
        for name in islice(tools, _MOST_COMPARED):
            if not any(_can_meet(name, entry) for entry in allow):
                yield (
                    "credentials",
                    (tenant, name),
                    "is for a tool that tools.allow does not allow",
                )
    setting = "kill_switch.mode_when_enabled"
    _, _, switched_off = config[setting].partition(":")
    if switched_off and not any(_can_meet(switched_off, entry) for entry in allow):
        yield setting, (), "switches off no tool that tools.allow allows"


def _unreached(config: Config) -> _Said:
    """Entries that an earlier glob hides: the first that matches is taken."""
    for setting in _BY_NAME:
        for first, later in combinations(islice(config[setting], _MOST_COMPARED), 2):
            stars_only = not any(sign in first for sign in "?[")
            if _is_glob(first) and _is_glob(later) and stars_only and matches(later, first):
                yield setting, (later,), f"is never reached: {first!r} stands before it"


def _above_the_run(config: Config) -> _Said:
    """Limits of a tool that the limits of the run never let it reach."""
    for name, entry in config["budgets.per_tool"].items():
        for key, of_run in _RUN_LIMIT_OF.items():
            limit, bound = entry.get(key), config[of_run]
            if limit is not None and bound is not None and limit > bound:
                text = f"is {limit}, above {of_run}={bound}, which ends the run first"
                yield "budgets.per_tool", (name, key), text


def _approvals(config: Config) -> _Said:
    """Approvals that nobody is asked for, or that come too late."""
    asks = config["approvals.via"] != "none"
    if not config["writes.require_approval"]:
        if asks:
            yield "approvals.via", (), "asks nobody: writes.require_approval is false"
    elif not asks:
        for key in ("wait_seconds", "valid_seconds"):
            if config.is_set(f"approvals.{key}"):
                text = "has no effect here: approvals.via is none"
                yield f"approvals.{key}", (), text
    if config["approvals.via"] == "terminal" and config.is_set("approvals.valid_seconds"):
        yield "approvals.valid_seconds", (), "has no effect here: only the queue has it"
    wait = config["approvals.wait_seconds"]
    if not asks or wait is None:
        return
    limit, valid = config["budgets.max_seconds"], config["approvals.valid_seconds"]
    if limit is not None and wait > limit:
        text = f"is {wait}, above budgets.max_seconds={limit}, which ends the run first"
        yield "approvals.wait_seconds", (), text
    if config["approvals.via"] == "queue" and wait > valid:
        text = f"is {wait}, above approvals.valid_seconds={valid}, when the request is void"
        yield "approvals.wait_seconds", (), text


def _retries(config: Config) -> _Said:
    """Retries that are never made, or not as often as they say."""
    for name, entry in config["retries"].items():
        yield from _retry(config, "retries", (name,), entry)
    keys = ("initial_seconds", "max_seconds", "multiplier", "jitter")
    entry = {key: config[f"model_retries.{key}"] for key in keys}
    if config["model_retries.max_attempts"] > 1:
        yield from _retry(config, "model_retries", (), entry)
    else:
        for key in keys:
            if config.is_set(f"model_retries.{key}"):
                text = "has no effect: model_retries.max_attempts is 1, which never tries again"
                yield f"model_retries.{key}", (), text


def _retry(config: Config, setting: str, names: tuple[str, ...], entry: Mapping[str, Any]) -> _Said:
    first, longest = entry.get("initial_seconds", 0.5), entry.get("max_seconds", 30.0)
    limit = config["budgets.max_seconds"]

    def at(key: str) -> tuple[str, tuple[str, ...]]:
        return (setting, (*names, key)) if names else (f"{setting}.{key}", ())

    if first > longest:
        yield *at("initial_seconds"), f"is {first}, above max_seconds={longest}, which caps it"
    if limit is not None and min(first, longest) >= limit:
        text = f"waits as long as the run may last (budgets.max_seconds={limit})"
        yield *at("initial_seconds"), text
    if not names:
        return
    attempts, calls = entry.get("max_attempts", 3), config["budgets.max_tool_calls"]
    if calls is not None and attempts > calls:
        text = f"is {attempts}, above budgets.max_tool_calls={calls}, and every try spends"
        yield *at("max_attempts"), text


def _fallbacks(config: Config) -> _Said:
    """Fallbacks that never come to act."""
    for name, entry in config["breakers"].items():
        fallback = entry.get("fallback", "without_tool")
        if fallback != "stop" and "circuit_open" in config["stop_on"]:
            text = f"is {fallback}, but stop_on holds circuit_open, which ends the run"
            yield "breakers", (name, "fallback"), text


def _unset(config: Config, environ: Mapping[str, str]) -> _Said:
    """Credentials whose variable is not there, so that their tools would be denied."""
    for tenant, tools in config["credentials"].items():
        for tool, named in tools.items():
            for name, entry in named.items():
                if not environ.get(entry["env"]):
                    text = f"is {entry['env']}, which is not set in this environment"
                    yield "credentials", (tenant, tool, name, "env"), text


_RULES: Final = (
    _open_ended,
    _not_allowed,
    _unreached,
    _above_the_run,
    _approvals,
    _retries,
    _fallbacks,
)


def _is_glob(entry: str) -> bool:
    return any(sign in entry for sign in _GLOB_SIGNS)


def _can_meet(one: str, other: str) -> bool:
    """False when no name can match both; two globs are told apart by how they begin."""
    if not (_is_glob(one) and _is_glob(other)):
        return matches(one, other) or matches(other, one)
    heads = [_head(one), _head(other)]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


def _head(glob: str) -> str:
    """What stands before the first sign of a glob."""
    ends = [glob.find(sign) for sign in _GLOB_SIGNS if sign in glob]
    return glob[: min(ends)]
