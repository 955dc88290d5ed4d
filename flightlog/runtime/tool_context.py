"""What a tool may know about the call that it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flightlog.runtime.cancel import CancelToken


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Given to a tool function that has a parameter annotated with this class.

    The model never sees it: it is no part of the input schema.

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
