"""How a flaky tool ends in a write that nobody wanted, and where the gateway stands.

    python examples/incident/lost_policy.py [--store DIR]

search times out -> the agent asks again -> the prompt grows -> the oldest messages
are dropped -> among them the system policy -> the model refunds without asking.
The gateway refuses that write. Every link of the chain is in the trace.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import flightlog
from flightlog.runtime.guards import GuardPolicy
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.policy import approve_all
from flightlog.runtime.prompt_fit import keep_last
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest

POLICY = "Never refund more than 50 USD. Hand such cases over to a person."
FAILURES = 7


class ForgettingModel:
    """Follows its policy as long as it can read it."""

    name = "small-model"
    never_blocks = True
    context_limit = 2_000

    def complete(self, request: ModelRequest) -> ModelResponse:
        size = sum(message.size_bytes for message in request.messages) // 4
        usage = Usage(input_tokens=size, output_tokens=30)
        observed = [m.text or "" for m in request.messages if m.role == "tool"]
        if any("refunded" in text for text in observed):
            return ModelResponse("I have refunded it.", usage=usage)
        if any("order A1" in text for text in observed):
            if any(m.text == POLICY for m in request.messages):
                return ModelResponse("I hand this over to a colleague.", usage=usage)
            if not any("error" in text for text in observed[-1:]):
                refund = ToolRequest(
                    f"call-{request.step}", "refund", '{"order_id": "A1", "amount_usd": 480}'
                )
                return ModelResponse(tool_requests=(refund,), usage=usage)
            return ModelResponse("I cannot refund this myself.", usage=usage)
        again = ToolRequest(f"call-{request.step}", "search", '{"query": "order A1"}')
        return ModelResponse(tool_requests=(again,), usage=usage)


def tools(clock: VirtualClock, refunds: list[float]) -> list[flightlog.Tool]:
    """A search that fails several times before it answers, and a refund."""
    calls = []

    @flightlog.tool(effect="read", timeout_s=5)
    def search(query: str) -> str:
        """Searches the orders."""
        calls.append(query)
        if len(calls) <= FAILURES:
            clock.advance_ms(5_000)
            raise TimeoutError("upstream timed out " + "(retry later) " * 40)
        return "order A1: 480 USD, delivered; the customer asks for a refund"

    @flightlog.tool(effect="write", scopes=["order:{order_id}"])
    def refund(order_id: str, amount_usd: float) -> str:
        """Pays money back."""
        refunds.append(amount_usd)
        return f"refunded {amount_usd} USD"

    return [search, refund]


def run_side(name: str, policy: flightlog.Policy, sink: flightlog.Recorder) -> list[float]:
    """Runs the agent; gives what it paid back."""
    clock, refunds = VirtualClock(), []
    agent = flightlog.Agent(
        "support",
        ForgettingModel(),
        tools(clock, refunds),
        system=POLICY,
        policy=policy,
        fit=keep_last(8),  # prototype-style: the policy is the oldest message
    )
    task = flightlog.Task("refund", "Where is my refund for order A1?")
    context = flightlog.RunContext(variant=name)
    flightlog.run(agent, task, sink=sink, clock=clock, context=context)
    return refunds


PROTOTYPE = flightlog.Policy(allow=["search", "refund"], approver=approve_all)
BOUNDED = flightlog.Policy(
    allow=["search", "refund"],
    guards=GuardPolicy(actions={"policy_lost": "read_only"}),
)


def main() -> None:
    """Runs both sides and prints the chain as the trace of the bounded one tells it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--store", type=Path, default=Path("lost-policy-store"))
    store = parser.parse_args().store
    with flightlog.Recorder(store) as recorder:
        for name, policy in (("prototype", PROTOTYPE), ("bounded", BOUNDED)):
            refunds = run_side(name, policy, recorder)
            print(f"{name}: refunded {sum(refunds):.0f} USD")
    with flightlog.open(store) as traces:
        rows = traces.sql(
            "select coalesce(step, 0), kind, coalesce(tool_name, subject, ''), "
            "coalesce(state_to, outcome, ''), left(coalesce(detail, error, ''), 76) "
            "from events where run_id = (select run_id from runs where variant = 'bounded' "
            "order by started_at desc limit 1) "
            "and (kind = 'state_changed' or (kind = 'tool_call' and outcome <> 'ok')) order by seq"
        ).fetchall()
    print("\nthe bounded run, as recorded:")
    for step, kind, what, state, why in rows:
        print(f"  step {step:<3}{kind:<14}{what:<8} {state:<14}{why}")


if __name__ == "__main__":
    main()
