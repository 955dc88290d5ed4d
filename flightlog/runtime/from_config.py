"""From `flightlog.yaml` to what the runtime takes."""

from __future__ import annotations

from flightlog.config import Config
from flightlog.runtime.budget import Budget
from flightlog.runtime.policy import Approver, Policy
from flightlog.runtime.prices import Price, PriceTable


def policy_from(config: Config, *, approver: Approver | None = None) -> Policy:
    """The policy that the settings describe.

    Args:
        config: from `flightlog.load_config`.
        approver: says yes or no to each write; code, so it cannot come from a file.
    """
    budget = Budget(
        max_steps=config["budgets.max_steps"],
        max_seconds=config["budgets.max_seconds"],
        max_tool_calls=config["budgets.max_tool_calls"],
        max_usd=config["budgets.max_usd"],
        max_tokens=config["budgets.max_tokens"],
    )
    return Policy(
        allow=config["tools.allow"],
        budget=budget,
        require_approval=config["writes.require_approval"],
        approver=approver,
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
