"""The incident, twice: the same agent and the same outage, without bounds and with them.

    python examples/incident/incident.py [--store DIR]

Prints both sides by side; every call is recorded, so that the store can be asked:
flightlog show last --store incident-store
"""

from __future__ import annotations

import argparse
from pathlib import Path

import vendor

import flightlog
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.control import Control
from flightlog.runtime.guards import GuardPolicy
from flightlog.runtime.retry import RetryPolicy
from flightlog.trace.clock import VirtualClock

UNBOUNDED = flightlog.Policy(
    allow=["browse"],
    # The day is the only end that a prototype has.
    budget=flightlog.Budget(max_steps=None, max_seconds=vendor.DAY_S, max_tool_calls=None),
)
BUDGET = flightlog.Budget(max_steps=30, max_seconds=900, max_tool_calls=15, max_usd=5.0)
RETRIES = {"browse": RetryPolicy(max_attempts=3, initial_s=2, max_s=30)}

BOUNDED = flightlog.Policy(allow=["browse"], budget=BUDGET, retries=RETRIES)
LOOP_GUARD = flightlog.Policy(
    allow=["browse"],
    budget=BUDGET,
    retries=RETRIES,
    guards=GuardPolicy(actions={"repeated_call": "stop"}),
)
DEGRADING = flightlog.Policy(
    allow=["browse"],
    budget=BUDGET,
    retries=RETRIES,
    breakers={
        "browse": BreakerPolicy(min_calls=3, window_s=600, open_s=600, fallback="without_tool")
    },
)
SIDES = {
    "unbounded": UNBOUNDED,
    "budgets": BOUNDED,
    "loop guard": LOOP_GUARD,
    "breaker": DEGRADING,
}


def run_day(name: str, policy: flightlog.Policy, sink: flightlog.Recorder) -> flightlog.RunResult:
    """One run of the agent during the outage; `name` becomes its variant."""
    clock = VirtualClock()
    agent = flightlog.Agent(
        "market-brief",
        vendor.InsistingModel(),
        [vendor.browse_tool(clock)],
        system=vendor.SYSTEM,
        policy=policy,
        prices=vendor.PRICES,
        fit=vendor.drop_oldest,
    )
    return flightlog.run(
        agent,
        flightlog.Task("brief", "Write today's market brief."),
        sink=sink,
        clock=clock,
        context=flightlog.RunContext(variant=name),
        control=Control.in_process(),  # each side meets the outage anew
    )


def line_of(name: str, result: flightlog.RunResult) -> str:
    """One line of the table."""
    used = result.usage
    hours = f"{used.seconds / 3600:.1f} h" if used.seconds >= 3600 else f"{used.seconds:.0f} s"
    usd = f"${used.usd or 0:,.2f}"
    return f"{name:<12}{used.tool_calls:>13,}{usd:>12}{hours:>10}   {result.stop}"


def main() -> None:
    """Runs every side and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--store", type=Path, default=Path("incident-store"))
    store = parser.parse_args().store
    print(f"{'side':<12}{'browse calls':>13}{'spent':>12}{'time':>10}   stop reason")
    with flightlog.Recorder(store) as recorder:
        for name, policy in SIDES.items():
            print(line_of(name, run_day(name, policy, recorder)), flush=True)
    print(f"\nEvery call is in {store}: flightlog show last --store {store}")


if __name__ == "__main__":
    main()
