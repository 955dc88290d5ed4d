"""Realistic events of about 1 KB, the same for every benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

from flightlog.trace.messages import Message, ToolRequest

WORDS = (
    "order refund customer shipping address invoice policy window credit card total item status",
    "delayed carrier warehouse return label approved pending cancelled confirm email account plan",
)

TOOLS = ("get_order", "search_policy", "list_items", "get_customer")
PROSE_CHARS = 16 << 20


def text(rng: random.Random, length: int) -> str:
    """Words up to about `length` characters."""
    choices, words = " ".join(WORDS).split(" "), []
    while length > 0:
        words.append(rng.choice(choices))
        length -= len(words[-1]) + 1
    return " ".join(words)


@lru_cache(maxsize=1)
def _prose() -> str:
    """16 MiB of words as frequent as in a language, so that codecs see neither noise nor copies.

    Source: Zipf's law with Mandelbrot's shift, weight 1 / (rank + 10) over 20,000 words.
    """
    rng = random.Random(20261122)
    letters = "eeeeetttaaaooonniisshhrrddllcumwfgypbvk"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 11))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(words))))
    ends = ["", "", "", "", "", ",", ".", ":", " 7,"]
    parts: list[str] = []
    size = 0
    while size < PROSE_CHARS:
        drawn = rng.choices(words, cum_weights=weights, k=50_000)
        drawn[::7] = [word + rng.choice(ends) for word in drawn[::7]]
        parts.append(" ".join(drawn))
        size += len(parts[-1])
    return " ".join(parts)


def prose(rng: random.Random, length: int) -> str:
    """`length` characters that hardly ever come twice."""
    start = rng.randrange(PROSE_CHARS - length)
    return _prose()[start : start + length]


def distinct_call_fields(rng: random.Random, step: int) -> dict[str, Any]:
    """One tool call of about 1 KB whose texts are its own: what codecs cannot share."""
    order = rng.getrandbits(30)
    return {
        "step": step,
        "call_ix": 0,
        "tool_name": TOOLS[order % len(TOOLS)],
        "tool_call_id": f"call_{rng.getrandbits(48):012x}",
        "effect": "read",
        "args": f'{{"order_id":"W{order}","query":"{prose(rng, 110)}"}}',
        "args_digest": f"{rng.getrandbits(128):032x}",
        "result": f'{{"order_id":"W{order}","note":"{prose(rng, 560)}"}}',
        "latency_ms": round(rng.uniform(20, 900), 3),
        "served_how": "live",
    }


def tool_call_fields(rng: random.Random, step: int) -> dict[str, Any]:
    """One tool call: about 150 bytes of arguments and 600 of result."""
    order = rng.randrange(10**6)
    return {
        "step": step,
        "call_ix": 0,
        "tool_name": rng.choice(TOOLS),
        "tool_call_id": f"call_{rng.randrange(16**12):012x}",
        "effect": "read",
        "args": f'{{"order_id":"W{order}","query":"{text(rng, 110)}"}}',
        "args_digest": f"{rng.randrange(16**32):032x}",
        "result": f'{{"order_id":"W{order}","note":"{text(rng, 560)}"}}',
        "latency_ms": round(rng.uniform(20, 900), 3),
        "served_how": "live",
    }


def step_messages(
    rng: random.Random, step: int, *, words: Callable[[random.Random, int], str] = text
) -> tuple[Message, Message]:
    """What one step adds to a prompt: the assistant's request and the tool's answer."""
    call_id = f"call_{rng.randrange(16**12):012x}"
    arguments = f'{{"order_id":"W{step}","query":"{words(rng, 110)}"}}'
    request = ToolRequest(call_id, "get_order", arguments)
    return (
        Message("assistant", words(rng, 120), (request,)),
        Message("tool", words(rng, 600), tool_call_id=call_id, name="get_order"),
    )
