"""What the unbounded day costs when the assumptions are others.

python examples/incident/assumptions.py
"""

from __future__ import annotations

from dataclasses import replace

import vendor
from incident import SETTINGS, UNBOUNDED

import flightlog
from flightlog.runtime.from_config import prices_from
from flightlog.trace.clock import VirtualClock

AS_ASSUMED = vendor.World()
WORLDS = {
    "as assumed": AS_ASSUMED,
    "error pages of 100 tokens": replace(AS_ASSUMED, page_tokens=100),
    "prompts of at most 115,000 tokens": replace(AS_ASSUMED, sent_tokens=115_000),
    "the vendor is down for two hours": replace(AS_ASSUMED, outage_s=2 * 3600),
}


def main() -> None:
    """Runs the unbounded agent in each world."""
    prices = prices_from(flightlog.load_config(SETTINGS))
    print(f"{'':<36}{'browse calls':>12}{'spent':>12}")
    for name, world in WORLDS.items():
        clock = VirtualClock()
        agent = vendor.brief_agent(UNBOUNDED, prices, clock, world)
        used = flightlog.run(agent, vendor.TASK, clock=clock).usage
        usd = f"${used.usd or 0:,.2f}"
        print(f"{name:<36}{used.tool_calls:>12,}{usd:>12}")


if __name__ == "__main__":
    main()
