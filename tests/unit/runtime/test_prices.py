"""Prices: own ones win, cached tokens are counted once, unknown is never zero."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flightlog.errors import ConfigError
from flightlog.runtime.model import Usage
from flightlog.runtime.prices import Price, PriceTable

OWN = PriceTable({"m": Price(2.0, 10.0, 0.5, 3.0, "contract")}, use_public=False)


def test_cached_tokens_are_charged_once_at_their_own_price():
    usage = Usage(1_000_000, 100_000, cache_read_tokens=400_000, cache_write_tokens=100_000)
    cost = OWN.cost(usage, ("m",))
    assert cost.usd == 0.5 * 2 + 0.4 * 0.5 + 0.1 * 3 + 0.1 * 10
    assert cost.price_id == "contract"


def test_cached_tokens_without_a_price_of_their_own_cost_the_input_price():
    table = PriceTable({"m": Price(2.0, 10.0)})
    assert table.cost(Usage(1_000_000, 0, cache_read_tokens=1_000_000), ("m",)).usd == 2.0
    assert table.cost(Usage(1_000_000, 0), ("m",)).price_id == "own:m"


@pytest.mark.parametrize("usage", [Usage(), Usage(5, None), Usage(None, 5)])
def test_unknown_tokens_have_no_cost(usage):
    assert OWN.cost(usage, ("m",)) is None


def test_unknown_model_has_no_cost():
    assert OWN.cost(Usage(1, 1), ("x",)) is None
    assert (OWN.knows("m"), OWN.knows("x")) == (True, False)


def test_model_that_answered_is_looked_up_before_the_one_asked_for():
    table = PriceTable({"new": Price(1.0, 1.0), "m": Price(5.0, 5.0)}, use_public=False)
    assert table.cost(Usage(1_000_000, 0), ("new", "m")).usd == 1.0
    assert table.cost(Usage(1_000_000, 0), ("m-2026-01-01", "m")).usd == 5.0


def test_price_of_one_provider_wins_over_the_bare_name():
    table = PriceTable({"azure/m": Price(1.0, 1.0), "m": Price(5.0, 5.0)}, use_public=False)
    assert table.cost(Usage(1_000_000, 0), ("m",), "azure").usd == 1.0
    assert table.cost(Usage(1_000_000, 0), ("m",), "openai").usd == 5.0


def test_free_model_is_known_and_costs_nothing():
    table = PriceTable({"local": Price(0.0, 0.0)}, use_public=False)
    assert table.cost(Usage(10, 10), ("local",)).usd == 0.0


@pytest.mark.parametrize("rate", [-1.0, float("nan")])
def test_price_below_zero_is_refused(rate):
    with pytest.raises(ConfigError):
        Price(rate, 1.0)


class TestPublicPrices:
    """The dated table of genai-prices; skipped where that extra is not installed."""

    @pytest.fixture(autouse=True)
    def _needs_the_extra(self):
        pytest.importorskip("genai_prices", reason="the extra flightlog[prices] is not installed")

    def test_price_is_the_one_of_its_date_and_names_its_source(self):
        usage = Usage(1_000_000, 0)
        then = PriceTable(as_of=datetime(2025, 5, 1, tzinfo=UTC)).cost(usage, ("o3",), "openai")
        now = PriceTable(as_of=datetime(2025, 12, 1, tzinfo=UTC)).cost(usage, ("o3",), "openai")
        assert (then.usd, now.usd) == (10.0, 2.0)
        assert then.price_id.startswith("genai-prices/")
        assert then.price_id.endswith(":openai/o3")

    def test_cached_tokens_are_part_of_the_input(self):
        table = PriceTable(as_of=datetime(2026, 1, 1, tzinfo=UTC))
        plain = table.cost(Usage(1000, 0), ("gpt-4o",), "openai").usd
        cached = table.cost(Usage(1000, 0, cache_read_tokens=500), ("gpt-4o",), "openai").usd
        assert (plain, cached) == (0.0025, 0.001875)

    def test_unknown_model_or_provider_has_no_cost(self):
        assert PriceTable().cost(Usage(1, 1), ("no-such-model-x2",)) is None
        assert PriceTable().cost(Usage(1, 1), ("gpt-4o",), "no-such-provider") is None

    def test_own_price_wins(self):
        table = PriceTable({"gpt-4o": Price(1.0, 1.0)})
        assert table.cost(Usage(1_000_000, 0), ("gpt-4o",), "openai").usd == 1.0
