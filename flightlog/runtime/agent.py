"""An agent: a model, its tools, a policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from flightlog.errors import AgentError
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.model import ForeignModel, Model, User
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.prompt_fit import Fit
from flightlog.runtime.tools import Tool, toolset_message
from flightlog.trace.messages import Message

if TYPE_CHECKING:
    from flightlog.runtime.own_loop import OwnLoop

OwnLoopFn: TypeAlias = "Callable[[OwnLoop], str | Awaitable[str | None] | None]"
"""A loop of an agent's own; gives the answer, or None for the last text of the model."""


@dataclass(frozen=True)
class Agent:
    """What `run` runs.

    Attributes:
        name: name in traces.
        model: answers the requests; with a `loop`, what is known of the one that the loop asks.
        tools: what the model may ask for.
        system: system prompt.
        policy: None allows exactly the tools of the agent, under the default
            budget, and denies writes, since nobody is there to approve them.
        user: simulated user, for conversations.
        version: version of the agent, as its owner names it.
        prices: None prices by the public table where it is installed.
        fit: chooses the messages of the conversation that are sent; None sends all.
            What it leaves out is recorded as truncated.
        credentials: secrets of tenants and tools; given to tools only.
        loop: decides what is asked and called next, in the place of flightlog's loop: code of
            yours, or a framework. Sync or async.
    """

    name: str
    model: Model = field(default_factory=ForeignModel)
    tools: Sequence[Tool] = ()
    system: str | None = None
    policy: Policy | None = None
    user: User | None = None
    version: str | None = None
    prices: PriceTable | None = None
    fit: Fit | None = None
    credentials: Credentials | None = None
    loop: OwnLoopFn | None = None

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AgentError(
                f"two tools are named {twice[0]!r}",
                where=f"agent {self.name!r}",
                hint="Give each tool its own name.",
            )
        if self.loop is not None and (self.user is not None or self.fit is not None):
            raise AgentError(
                f"{'user' if self.user is not None else 'fit'}= beside a loop of its own",
                where=f"agent {self.name!r}",
                hint="The loop decides who speaks and what is sent: do it there.",
            )

    @cached_property
    def effective_policy(self) -> Policy:
        """The policy that binds: the given one, or the default."""
        return self.policy or Policy(allow=tuple(tool.name for tool in self.tools))

    @cached_property
    def tools_by_name(self) -> dict[str, Tool]:
        """The tools by name."""
        return {tool.name: tool for tool in self.tools}

    @cached_property
    def toolset(self) -> Message:
        """The declarations of the tools as one message, whose digest stands in each run."""
        return toolset_message(self.tools)
