"""The world of the incident: a browse tool whose vendor is down, and an agent that insists.

Nothing here knows of flightlog's bounds: the same agent, tool and outage are run
with and without them. Every number that the bill depends on stands in `World`, but for the
price of the model, which is in flightlog.yaml; assumptions.py prints the bill under others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import flightlog
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.prompt_fit import keep_policy_and_last
from flightlog.runtime.tool_context import ToolContext
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest

BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class World:
    """What the bill depends on. The numbers are assumptions, not measurements.

    Attributes:
        outage_s: how long the vendor is down.
        browse_s: the vendor's gateway answers 504 after this long. With `model_s` it makes
            a round of 48 s, of which a day has 1,800.
        model_s: how long an answer of the model takes.
        page_s: how long the page takes when the vendor is up.
        browse_usd: price of a browser session, also of one that ends in an error.
        page_tokens: length of the vendor's error page.
        sent_tokens: longest prompt that the agent sends; what is over is cut off behind
            system message and task, oldest first, as the trimming of common frameworks does.
        output_tokens: length of an answer; a request for a tool is short.
    """

    outage_s: float = 24 * 3600
    browse_s: float = 40.0
    model_s: float = 8.0
    page_s: float = 2.0
    browse_usd: float = 0.08
    page_tokens: int = 1_000
    sent_tokens: int = 230_000
    output_tokens: int = 60

    def error_page(self, ray: int) -> str:
        """The vendor's error page in HTML; no two are the same."""
        line = f"<p>The origin did not answer in time. Ray ID {ray:016x}, edge AMS-12.</p>"
        page = "<html><head><title>504 Gateway Time-out</title></head><body>" + line
        size = self.page_tokens * BYTES_PER_TOKEN
        return (page + line * (size // len(line)))[:size]


SYSTEM = (
    "You write the daily market brief. Read the source pages with browse before you write. "
    "Do not make anything up. If a page does not load, try again."
)
TASK = flightlog.Task("brief", "Write today's market brief.")
URL = "https://vendor.example/markets"
BRIEF = "Quiet markets."
PAGE = "<html><body><h1>Markets</h1><p>Quiet.</p></body></html>"


class OutageError(Exception):
    """The vendor's answer while it is down."""


class InsistingModel:
    """Stands in for a model: asks for the page until it has it, as its prompt says.

    Once browse is not offered any more it says what it could not do.
    """

    name = "big-model"
    never_blocks = True
    context_limit = 256_000
    max_output_tokens = 4_000

    def __init__(self, world: World) -> None:
        self._world = world

    def count_tokens(self, request: ModelRequest) -> int:
        """Tokens of the prompt, by its real size."""
        return sum(message.size_bytes for message in request.messages) // BYTES_PER_TOKEN

    def complete(self, request: ModelRequest) -> ModelResponse:
        usage = Usage(
            input_tokens=self.count_tokens(request), output_tokens=self._world.output_tokens
        )
        latency_ms = self._world.model_s * 1000
        if any(m.role == "tool" and "<h1>" in (m.text or "") for m in request.messages[-1:]):
            return ModelResponse(BRIEF, usage=usage, latency_ms=latency_ms)
        if not any(tool.name == "browse" for tool in request.tools):
            text = "The sources cannot be reached; there is no brief yet."
            return ModelResponse(text, usage=usage, latency_ms=latency_ms)
        again = ToolRequest(f"call-{request.step}", "browse", f'{{"url": "{URL}"}}')
        return ModelResponse(tool_requests=(again,), usage=usage, latency_ms=latency_ms)


def browse_tool(world: World, clock: VirtualClock) -> flightlog.Tool:
    """The vendor's browser, down as the clock starts."""
    rays = count(0x8F2C91D4E07AB3C5)

    @flightlog.tool(name="browse", effect="read", cost_usd=world.browse_usd)
    def browse(url: str, context: ToolContext) -> str:
        """Loads a page in a real browser."""
        is_down = clock.monotonic_ms() < world.outage_s * 1000
        takes_s, left_s = world.browse_s if is_down else world.page_s, context.remaining_s()
        if left_s is not None and left_s < takes_s:  # real time would cut the call here
            clock.sleep(left_s)
            raise TimeoutError("cut at the deadline of the run")
        clock.sleep(takes_s)
        if is_down:
            raise OutageError(world.error_page(next(rays)))
        return PAGE

    return browse


def brief_agent(
    policy: flightlog.Policy, prices: PriceTable, clock: VirtualClock, world: World
) -> flightlog.Agent:
    """The agent of the incident; only its policy differs from side to side."""
    return flightlog.Agent(
        "market-brief",
        InsistingModel(world),
        [browse_tool(world, clock)],
        system=SYSTEM,
        policy=policy,
        prices=prices,
        fit=keep_policy_and_last(max_bytes=world.sent_tokens * BYTES_PER_TOKEN),
    )
