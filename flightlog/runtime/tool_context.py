"""What a tool may know about the call that it serves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from flightlog.runtime.cancel import CancelToken
from flightlog.trace.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Given to a tool function that has a parameter annotated with this class.

    The model never sees it: it is no part of the input schema. A tool that takes its time,
    its randomness and its ids from here gives the same answers in a replay, where the clock
    is virtual and the seed is that of the place in the run.

    Attributes:
        run_id: run that made the call.
        tool: name of the tool.
        step: turn of the loop, from 1.
        attempt: which try of the call this is, from 1.
        tenant: on whose behalf the run acts.
        idempotency_key: the same for every try of one write; None for pure tools and reads.
        credentials: those of this tenant and this tool, by name; shown nowhere.
        remaining_s: seconds that the call has left when asked; None without a limit.
        cancelled: set when the run is over; a long tool should look at it.
        clock: of the run; virtual in a replay.
        seed: of the call's randomness; another one for each call and try.
    """

    run_id: str
    tool: str
    step: int
    attempt: int = 1
    tenant: str | None = None
    idempotency_key: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    remaining_s: Callable[[], float | None] = field(default=lambda: None, repr=False)
    cancelled: CancelToken = field(default_factory=CancelToken, repr=False)
    clock: Clock = field(default_factory=SystemClock, repr=False)
    seed: str = ""
    _drawn: dict[str, Random] = field(default_factory=dict, repr=False, compare=False)

    @property
    def random(self) -> Random:
        """The call's own generator. Not for secrets: its seed is known."""
        if "random" not in self._drawn:
            self._drawn["random"] = Random(self.seed)  # noqa: S311 - to be repeatable
        return self._drawn["random"]

    def now(self) -> datetime:
        """The time on the run's clock, UTC."""
        return datetime.fromtimestamp(self.clock.wall_us() / 1_000_000, UTC)

    def sleep(self, seconds: float) -> None:
        """Waits on the run's clock: not at all in a replay. For sync tools."""
        self.clock.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """As `sleep`, for async tools."""
        await self.clock.sleep_async(seconds)

    def new_id(self) -> str:
        """A new UUID from the call's generator."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
