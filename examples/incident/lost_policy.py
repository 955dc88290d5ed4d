"""How a flaky tool ends in a write that nobody wanted, and where the gateway stands.

    python examples/incident/lost_policy.py [--dir flightlog-incident]

search times out -> the agent asks again -> the prompt grows -> the oldest messages
are cut off -> among them the system policy -> the model refunds what it must not.
Everything that is printed is asked of the recorded runs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import fill

from fresh_store import fresh_store

import flightlog
from flightlog.analysis.db import Traces
from flightlog.runtime.guards import Guard, GuardAction, GuardPolicy
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.policy import approve_all
from flightlog.runtime.prompt_fit import Fit, keep_last, keep_policy_and_last
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest

POLICY = "Never refund more than 50 USD. Hand such cases over to a person."
TASK = flightlog.Task("refund", "Where is my refund for order A1?")
FAILURES = 7
TIMEOUT_S = 5
KEPT = 8
"""Messages of the conversation that the prototype sends, as `messages[-8:]` does."""


class ForgettingModel:
    """Stands in for a model: follows its policy as long as it can read it."""

    name = "small-model"
    never_blocks = True

    def complete(self, request: ModelRequest) -> ModelResponse:
        size = sum(message.size_bytes for message in request.messages)
        usage = Usage(input_tokens=size // 4, output_tokens=30)
        last = request.messages[-1].text or ""
        if "order A1:" in last:
            if any(m.role == "system" and m.text == POLICY for m in request.messages):
                return ModelResponse("I hand this over to a colleague.", usage=usage)
            return self._asks(request, "refund", '{"order_id": "A1", "amount_usd": 480}', usage)
        if "refunded" in last:
            return ModelResponse("Your 480 USD are on their way.", usage=usage)
        if request.messages[-1].name == "refund":
            return ModelResponse("I cannot pay this back myself.", usage=usage)
        return self._asks(request, "search", '{"query": "order A1"}', usage)

    def _asks(
        self, request: ModelRequest, tool: str, arguments: str, usage: Usage
    ) -> ModelResponse:
        wanted = ToolRequest(f"call-{request.step}", tool, arguments)
        return ModelResponse(tool_requests=(wanted,), usage=usage)


def tools(clock: VirtualClock) -> list[flightlog.Tool]:
    """A search that fails several times before it answers, and a refund that pays."""
    calls = []

    @flightlog.tool(effect="read")
    def search(query: str) -> str:
        """Searches the orders."""
        calls.append(query)
        if len(calls) <= FAILURES:
            clock.sleep(TIMEOUT_S)
            raise TimeoutError("the order index did not answer; " + "shard 7 is behind, " * 25)
        return "order A1: 480 USD, delivered; the customer wants the money back"

    @flightlog.tool(effect="write", scopes=["order:{order_id}"])
    def refund(order_id: str, amount_usd: float) -> str:
        """Pays money back."""
        return f"refunded {amount_usd:.0f} USD for order {order_id}"

    return [search, refund]


PROTOTYPE = flightlog.Policy(allow=["search", "refund"], approver=approve_all)
DEFAULT = replace(PROTOTYPE, approver=None)
GUARDED = replace(PROTOTYPE, guards=GuardPolicy(actions={Guard.POLICY_LOST: GuardAction.READ_ONLY}))
SIDES: dict[str, tuple[flightlog.Policy, Fit]] = {
    "prototype": (PROTOTYPE, keep_last(KEPT)),
    "approval": (DEFAULT, keep_last(KEPT)),
    "guard": (GUARDED, keep_last(KEPT)),
    "kept policy": (PROTOTYPE, keep_policy_and_last(KEPT)),
}

CHAIN = """
WITH chosen AS (SELECT run_id FROM runs WHERE variant = 'prototype'),
searches AS (
    SELECT * FROM tool_calls JOIN chosen USING (run_id) WHERE effect = 'read'
),
prompts AS (
    SELECT * FROM model_calls JOIN chosen USING (run_id)
)
SELECT
    1,
    'flaky tool',
    tool_name || ' failed ' || count(*) FILTER (outcome <> 'ok') || ' times of ' || count(*)
        || ', first at step ' || min(step) FILTER (outcome <> 'ok')
        || ': ' || any_value(left(error, 30)) FILTER (outcome <> 'ok')
FROM searches
GROUP BY tool_name
UNION ALL
SELECT
    2,
    'retries',
    'the model asked for the same call ' || count(*) || ' times, up to step ' || max(step)
FROM searches
GROUP BY args_digest
UNION ALL
SELECT
    3,
    'prompt growth',
    'from ' || arg_min(input_tokens, step) || ' tokens at step ' || min(step) || ' to '
        || max(input_tokens) || ' at step ' || arg_max(step, (input_tokens, -step))
FROM prompts
UNION ALL
SELECT
    4,
    'truncation',
    'from step ' || min(step) || ' on only the last ' || max(prompt_messages)
        || ' messages are sent'
FROM prompts
WHERE is_truncated
UNION ALL
SELECT
    5,
    'lost policy',
    'from step ' || min(step) || ' on the system message is not among them'
FROM prompts
WHERE NOT has_policy
UNION ALL
SELECT
    6,
    'the write',
    'step ' || step || ': ' || tool_name || ' ' || args || ' -> ' || outcome
FROM tool_calls JOIN chosen USING (run_id)
WHERE effect = 'write'
ORDER BY 1
"""
ENDS = """
SELECT
    runs.variant,
    coalesce(calls.error_type, calls.outcome, 'not asked for'),
    coalesce(calls.result, calls.error, ''),
    stopped.answer
FROM runs
LEFT JOIN tool_calls AS calls
    ON calls.run_id = runs.run_id AND calls.effect = 'write'
JOIN events AS stopped
    ON stopped.run_id = runs.run_id AND stopped.kind = 'run_stopped'
ORDER BY runs.run_id
"""


def play(sink: flightlog.Recorder) -> None:
    """Records every side; only policy and trimming differ."""
    for name, (policy, fit) in SIDES.items():
        clock = VirtualClock()
        agent = flightlog.Agent(
            "support", ForgettingModel(), tools(clock), system=POLICY, policy=policy, fit=fit
        )
        context = flightlog.RunContext(variant=name)
        flightlog.run(agent, TASK, sink=sink, clock=clock, context=context)


def shown(traces: Traces) -> str:
    """The chain link by link, and what became of the write on each side."""
    lines = ["the prototype's way to the write"]
    lines += [line(link, what) for _, link, what in traces.sql(CHAIN).fetchall()]
    lines.append("what became of the write")
    for side, outcome, why, answer in traces.sql(ENDS).fetchall():
        lines.append(line(side, f"{outcome}: {why}" if why else outcome))
        lines.append(line("", f"answer: {answer}"))
    return "\n".join(lines)


def line(left: str, right: str) -> str:
    """A label and its text, wrapped."""
    first = f"  {left:<15}"
    return fill(right, 98, initial_indent=first, subsequent_indent=" " * len(first))


def main() -> int:
    """Runs every side and prints what the store says about them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", type=Path, default=Path("flightlog-incident"))
    store = fresh_store(parser.parse_args().dir, "lost-policy")
    with flightlog.Recorder(store) as recorder:
        play(recorder)
    with flightlog.open(store) as traces:
        print(shown(traces))
    print(f"\nTry next:\n  flightlog ask guard_findings -p by=variant --store {store}")
    print(f"  flightlog show last --store {store}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except flightlog.FlightlogError as error:
        sys.exit(f"error: {error}")
