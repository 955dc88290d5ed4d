"""From `flightlog.yaml` to what an agent takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from flightlog.config import Config, load_config
from flightlog.config.settings import SETTINGS
from flightlog.config.validation import key_text
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.control import Control
from flightlog.control.kill_rule import parse_mode
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import ConfigError, UsageError
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.policy import Approver, Policy
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.retry import RetryPolicy
from flightlog.trace.vocab import Outcome

T = TypeVar("T")


class AgentSettings(TypedDict):
    """What `Agent` takes from a settings file, by the names of its parameters."""

    policy: Policy
    prices: PriceTable
    credentials: Credentials | None


def agent_settings(
    file: str | Path,
    *,
    approver: Approver | None = None,
    store: str | Path | Control | None = None,
    environ: Mapping[str, str] | None = None,
) -> AgentSettings:
    """Everything that a settings file says of an agent: `Agent(..., **agent_settings(file))`.

    Args:
        file: YAML or JSON, as for `flightlog.load_config`.
        approver, store: as in `policy_from`.
        environ: as in `credentials_from`.

    Raises:
        ConfigError: as of `flightlog.load_config`, `policy_from` and `credentials_from`.
    """
    config = load_config(file)
    return {
        "policy": policy_from(config, approver=approver, store=store),
        "prices": prices_from(config),
        "credentials": credentials_from(config, environ=environ),
    }


def policy_from(
    config: Config,
    *,
    approver: Approver | None = None,
    store: str | Path | Control | None = None,
) -> Policy:
    """The policy that the settings describe.

    Args:
        config: from `flightlog.load_config`.
        approver: says yes or no to each write; wins over `approvals.via`.
        store: folder of the store whose queue `approvals.via: queue` asks, or its control
            (`recorder.control`).

    Raises:
        ConfigError: values that are well-formed but make no sense, with file and line;
            approvals go to the queue and there is no store.
    """
    with _at(config, "budgets.max_steps"):
        budget = Budget(**{one.name: config[f"budgets.{one.name}"] for one in fields(Budget)})
    kill_mode = config["kill_switch.mode_when_enabled"]
    with _at(config, "kill_switch.mode_when_enabled"):
        parse_mode(kill_mode)
    return Policy(
        allow=config["tools.allow"],
        budget=budget,
        require_approval=config["writes.require_approval"],
        approver=approver or _approver(config, store),
        stop_on=frozenset(Outcome(name) for name in config["stop_on"]),
        max_result_bytes=config["results.max_bytes"],
        tool_budgets=_by_name(config, "budgets.per_tool", ToolBudget),
        tenant_budgets=_by_name(config, "budgets.per_tenant", WindowBudget),
        retries=_by_name(config, "retries", RetryPolicy),
        model_retry=_model_retry(config),
        breakers=_by_name(config, "breakers", BreakerPolicy),
        guards=_guards(config),
        kill_mode=kill_mode,
    )


def prices_from(config: Config) -> PriceTable:
    """The user's own prices, over the public table where that is installed."""
    own = {
        model: Price(
            input_usd=price["input_usd_per_mtok"],
            output_usd=price["output_usd_per_mtok"],
            cache_read_usd=price.get("cache_read_usd_per_mtok"),
            cache_write_usd=price.get("cache_write_usd_per_mtok"),
        )
        for model, price in config["prices"].items()
    }
    return PriceTable(own)


def credentials_from(
    config: Config, *, environ: Mapping[str, str] | None = None
) -> Credentials | None:
    """The credentials whose variables the settings name; None where they name none.

    Args:
        config: from `flightlog.load_config`.
        environ: holds the values; None is the environment of the process, read now.

    Raises:
        ConfigError: a name that no credential can have, with file and line.
    """
    variables = config["credentials"]
    if not variables:
        return None
    for tenant, tools in variables.items():
        for tool, named in tools.items():
            for name, entry in named.items():
                with _at(config, "credentials", tenant, tool, name):  # alone, for its line
                    Credentials.from_env({tenant: {tool: {name: entry}}}, environ=environ)
    return Credentials.from_env(variables, environ=environ)


@contextmanager
def _at(config: Config, setting: str, *names: str) -> Iterator[None]:
    """Gives an error of the runtime the place in the file that led to it."""
    try:
        yield
    except (ConfigError, UsageError) as error:
        raise ConfigError(
            f"{key_text((*setting.split('.'), *names))}: {error.what}",
            where=config.where(setting, *names),
            hint=error.hint,
        ) from error


def _by_name(config: Config, setting: str, kind: type[T]) -> dict[str, T]:
    """One policy per entry of a mapping by name."""
    found = {}
    for name, entry in config[setting].items():
        with _at(config, setting, name):
            found[name] = kind(**_arguments(entry, kind))
    return found


def _arguments(entry: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The keys of an entry as arguments: seconds are `_s` where the class says so."""
    known = {one.name for one in fields(kind)}
    return {
        key if key in known else f"{key.removesuffix('_seconds')}_s": value
        for key, value in entry.items()
    }


def _approver(config: Config, store: str | Path | Control | None) -> Approver | None:
    """Who `approvals.via` asks; nobody where writes need no approval."""
    via = config["approvals.via"]
    if via == "none" or not config["writes.require_approval"]:
        return None
    from flightlog.runtime.approvers import (  # noqa: PLC0415 - not every agent asks
        DEFAULT_TIMEOUT_S,
        queue_approver,
        terminal_approver,
    )

    wait_s = config["approvals.wait_seconds"]
    key = "approvals.wait_seconds" if config.is_set("approvals.wait_seconds") else "approvals.via"
    if via == "terminal":
        with _at(config, key):
            return terminal_approver(timeout_s=DEFAULT_TIMEOUT_S if wait_s is None else wait_s)
    if store is None:
        raise ConfigError(
            "approvals.via is queue, and there is no store to queue at",
            where=config.where("approvals.via"),
            hint='Give one in code: policy_from(config, store="flightlog-store"), or an approver.',
        )
    with _at(config, "approvals.valid_seconds"):
        return queue_approver(store, wait_s=wait_s or 0, valid_s=config["approvals.valid_seconds"])


def _model_retry(config: Config) -> RetryPolicy | None:
    """None where a model call is tried once, as by default."""
    names = [s.keys[1] for s in SETTINGS if s.keys[0] == "model_retries"]
    entry = {name: config[f"model_retries.{name}"] for name in names}
    if entry["max_attempts"] == 1:
        return None
    with _at(config, "model_retries.max_attempts"):
        return RetryPolicy(**_arguments(entry, RetryPolicy))


def _guards(config: Config) -> GuardPolicy:
    actions = {guard: GuardAction(config[f"guards.actions.{guard}"]) for guard in Guard}
    taken = {guard: action for guard, action in actions.items() if action is not GuardAction.RECORD}
    thresholds = {
        one.name: config[f"guards.{one.name}"]
        for one in fields(GuardPolicy)
        if one.name != "actions"
    }
    with _at(config, "guards.actions"):
        return GuardPolicy(actions=taken, **thresholds)
