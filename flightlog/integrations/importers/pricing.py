"""What calls of foreign runs cost, where their source tells tokens and no money."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from flightlog.integrations.importers.foreign_run import ForeignRun, ModelTurn
from flightlog.runtime.model import Usage
from flightlog.runtime.prices import PriceTable


def priced_run(run: ForeignRun, prices: PriceTable) -> ForeignRun:
    """The run with a price on each call that has none and can have one."""
    turns = [priced(turn, prices) if isinstance(turn, ModelTurn) else turn for turn in run.turns]
    return replace(run, turns=tuple(turns))


def priced(turn: ModelTurn, prices: PriceTable) -> ModelTurn:
    """The call with what it cost by the prices of its day, and their id.

    Unchanged where its source tells its cost, or the tokens or the price are not known.
    """
    if turn.cost_usd:
        return turn
    more = turn.more
    usage = Usage(
        turn.input_tokens or None,
        turn.output_tokens or None,
        more.get("cache_read_tokens"),
        more.get("cache_write_tokens"),
    )
    if prices.as_of is None and turn.at_us is not None:
        prices = replace(prices, as_of=datetime.fromtimestamp(turn.at_us / 1e6, UTC))
    models = tuple(one for one in (more.get("response_model"), turn.model) if one)
    cost = prices.cost(usage, models, more.get("provider"))
    if cost is None:
        return turn
    return replace(turn, cost_usd=cost.usd, more={**more, "price_id": cost.price_id})
