"""What model calls cost: the user's own prices first, then a dated public table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from flightlog.errors import ConfigError
from flightlog.runtime.model import Usage

_PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one model.

    Attributes:
        input_usd: per million prompt tokens that no cache served.
        output_usd: per million answer tokens.
        cache_read_usd: per million prompt tokens read from a cache; None charges input_usd.
        cache_write_usd: per million prompt tokens put in a cache; None charges input_usd.
        price_id: names this price in events, such as `contract-2026-04`; None makes one.
    """

    input_usd: float
    output_usd: float
    cache_read_usd: float | None = None
    cache_write_usd: float | None = None
    price_id: str | None = None

    def __post_init__(self) -> None:
        rates = (self.input_usd, self.output_usd, self.cache_read_usd, self.cache_write_usd)
        if any(rate is not None and not rate >= 0 for rate in rates):
            raise ConfigError(f"a price below 0: {self}", hint="Give USD per million tokens.")


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one call and the price it was computed with."""

    usd: float
    price_id: str


@dataclass(frozen=True)
class PriceTable:
    """Prices by model.

    Attributes:
        prices: the user's own, by model name or `provider/model`; they win.
        as_of: date of the public prices; None is today.
        use_public: look other models up in genai-prices, where it is installed
            (`pip install flightlog[prices]`).
    """

    prices: Mapping[str, Price] = field(default_factory=dict)
    as_of: datetime | None = None
    use_public: bool = True

    def knows(self, model: str, provider: str | None = None) -> bool:
        """True when a call of the model can be priced."""
        return self.cost(Usage(0, 0), (model,), provider) is not None

    def cost(
        self, usage: Usage, models: tuple[str, ...], provider: str | None = None
    ) -> Cost | None:
        """Cost of one call.

        Args:
            usage: tokens; input includes cached ones, of which an unknown number counts as none.
            models: names of the model, best first: the one that answered, the one asked for.
            provider: provider of the model.

        Returns:
            None when no name is priced, or the tokens are unknown.
        """
        if usage.tokens is None:
            return None
        for model in models:
            price = self.prices.get(f"{provider}/{model}") or self.prices.get(model)
            if price:
                return Cost(_usd(usage, price), price.price_id or f"own:{model}")
        if self.use_public:
            at = self.as_of or datetime.now(UTC)
            for model in models:
                if cost := _public_cost(usage, model, provider, at):
                    return cost
        return None


def _usd(usage: Usage, price: Price) -> float:
    read, write = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    plain = max(0, (usage.input_tokens or 0) - read - write)
    read_usd = price.input_usd if price.cache_read_usd is None else price.cache_read_usd
    write_usd = price.input_usd if price.cache_write_usd is None else price.cache_write_usd
    total = (
        plain * price.input_usd
        + read * read_usd
        + write * write_usd
        + (usage.output_tokens or 0) * price.output_usd
    )
    return round(total / _PER, 12)


def _public_cost(usage: Usage, model: str, provider: str | None, at: datetime) -> Cost | None:
    library = _genai_prices()
    if library is None or (model, provider) in _unpriced:
        return None
    tokens = library.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        found = library.calc_price(tokens, model, provider_id=provider, genai_request_timestamp=at)
    except LookupError:
        _unpriced.add((model, provider))
        return None
    price_id = f"genai-prices/{library.__version__}:{found.provider.id}/{found.model.id}"
    return Cost(float(found.total_price), price_id)


_unpriced: set[tuple[str, str | None]] = set()


@lru_cache(maxsize=1)
def _genai_prices() -> Any:
    try:
        import genai_prices  # noqa: PLC0415  - optional, and slow to import
    except ImportError:
        return None
    return genai_prices
