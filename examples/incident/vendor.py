"""The world of the incident: a browse tool whose vendor is down, and an agent that insists.

Everything runs on a virtual clock, so a simulated day takes seconds. Nothing here
knows of flightlog's bounds: the same agent, tools and outage are run with and
without them.
"""

from __future__ import annotations

import flightlog
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.prices import Price, PriceTable
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import Message, ToolRequest

DAY_S = 24 * 3600
BROWSE_TIMEOUT_S = 40.0
BROWSE_USD = 0.08
"""What the vendor charges for a browser session, also for one that times out."""

PRICES = PriceTable({"big-model": Price(3.0, 15.0, price_id="example")}, use_public=False)
CONTEXT_TOKENS = 256_000
BYTES_PER_TOKEN = 4

SYSTEM = (
    "You write the daily market brief. Read the source pages with browse before you write. "
    "Do not make anything up. If a page does not load, try again."
)
ERROR_PAGE = "<html><head><title>504 Gateway Time-out</title></head><body>" + (
    "<p>The origin did not answer in time. Ray ID 8f2c91d4e07ab3c5, edge AMS-12.</p>" * 48
)


class InsistingModel:
    """Asks for the page until it has it; says what it has once browse is no longer offered."""

    name = "big-model"
    never_blocks = True
    context_limit = CONTEXT_TOKENS

    def complete(self, request: ModelRequest) -> ModelResponse:
        size = sum(message.size_bytes for message in request.messages)
        usage = Usage(input_tokens=size // BYTES_PER_TOKEN, output_tokens=60)
        pages = [m for m in request.messages if m.role == "tool" and "<h1>" in (m.text or "")]
        is_offered = any(tool.name == "browse" for tool in request.tools)
        if pages or not is_offered:
            text = "The brief." if pages else "The sources are not reachable; no brief today."
            return ModelResponse(text, usage=usage, latency_ms=8_000)
        again = ToolRequest(
            f"call-{request.step}", "browse", '{"url": "https://vendor.example/markets"}'
        )
        return ModelResponse(tool_requests=(again,), usage=usage, latency_ms=8_000)


class OutageError(Exception):
    """The vendor's answer while it is down."""


def browse_tool(clock: VirtualClock) -> flightlog.Tool:
    """The vendor's browser: down the whole day."""

    @flightlog.tool(name="browse", effect="read", cost_usd=BROWSE_USD)
    def browse(url: str) -> str:
        """Loads a page in a real browser."""
        clock.advance_ms(BROWSE_TIMEOUT_S * 1000)
        raise OutageError(ERROR_PAGE)

    return browse


def drop_oldest(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What many prototypes do when the prompt gets too long: forget the oldest part."""
    size = sum(message.size_bytes for message in messages) // BYTES_PER_TOKEN
    if size <= CONTEXT_TOKENS * 0.95:
        return messages
    step = int(CONTEXT_TOKENS * 0.1)
    excess = -(-(size - int(CONTEXT_TOKENS * 0.95)) // step) * step
    kept, dropped = list(messages), 0
    while dropped < excess:
        dropped += kept.pop(0).size_bytes // BYTES_PER_TOKEN
    while kept and kept[0].role == "tool":  # a result without its request is refused by providers
        kept.pop(0)
    return tuple(kept)
