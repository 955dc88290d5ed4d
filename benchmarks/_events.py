"""Realistic events of about 1 KB, the same for every benchmark."""

from __future__ import annotations

import random
from typing import Any

from flightlog.trace.messages import Message, ToolRequest

WORDS = (
    "order refund customer shipping address invoice policy window credit card total item status",
    "delayed carrier warehouse return label approved pending cancelled confirm email account plan",
)


def text(rng: random.Random, length: int) -> str:
    """Words up to about `length` characters."""
    choices, words = " ".join(WORDS).split(" "), []
    while length > 0:
        words.append(rng.choice(choices))
        length -= len(words[-1]) + 1
    return " ".join(words)


def tool_call_fields(rng: random.Random, step: int) -> dict[str, Any]:
    """One tool call: about 150 bytes of arguments and 600 of result."""
    order = rng.randrange(10**6)
    return {
        "step": step,
        "call_ix": 0,
        "tool_name": rng.choice(["get_order", "search_policy", "list_items", "get_customer"]),
        "tool_call_id": f"call_{rng.randrange(16**12):012x}",
        "effect": "read",
        "args": f'{{"order_id":"W{order}","query":"{text(rng, 110)}"}}',
        "args_digest": f"{rng.randrange(16**32):032x}",
        "result": f'{{"order_id":"W{order}","note":"{text(rng, 560)}"}}',
        "latency_ms": round(rng.uniform(20, 900), 3),
        "served_how": "live",
    }


def step_messages(rng: random.Random, step: int) -> tuple[Message, Message]:
    """What one step adds to a prompt: the assistant's request and the tool's answer."""
    call_id = f"call_{rng.randrange(16**12):012x}"
    arguments = f'{{"order_id":"W{step}","query":"{text(rng, 110)}"}}'
    request = ToolRequest(call_id, "get_order", arguments)
    return (
        Message("assistant", text(rng, 120), (request,)),
        Message("tool", text(rng, 600), tool_call_id=call_id, name="get_order"),
    )
