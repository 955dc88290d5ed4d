"""An agent: a model, its tools, a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from flightlog.errors import AgentError
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.model import Model, User
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.prompt_fit import Fit
from flightlog.runtime.tools import Tool, toolset_message
from flightlog.trace.messages import Message


@dataclass(frozen=True)
class Agent:
    """What `run` runs.

    Attributes:
        name: name in traces.
        model: answers the requests.
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
    """

    name: str
    model: Model
    tools: Sequence[Tool] = ()
    system: str | None = None
    policy: Policy | None = None
    user: User | None = None
    version: str | None = None
    prices: PriceTable | None = None
    fit: Fit | None = None
    credentials: Credentials | None = None

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise AgentError(
                f"two tools are named {twice[0]!r}",
                where=f"agent {self.name!r}",
                hint="Give each tool its own name.",
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
