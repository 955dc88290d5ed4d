"""The policy of an agent: what it may call, how much, and who must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from flightlog.errors import ConfigError
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.tools import is_async
from flightlog.trace.canonical import canonical_json, digest_of
from flightlog.trace.vocab import Effect, Outcome

DEFAULT_STOP_ON = frozenset(
    {Outcome.INVALID_OUTPUT, Outcome.REPLAY_MISS, Outcome.KILL_SWITCH, Outcome.BUDGET}
)
DEFAULT_MAX_RESULT_BYTES = 256 * 1024
_GLOB_SIGNS = "*?["


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One write that waits for a yes or a no.

    Attributes:
        args: the arguments as the tool will get them.
        args_digest: digest of the canonical arguments; an approval holds for these only.
        agent, tenant, task_id, task_digest: what the run belongs to.
        idempotency_key: key of the write.
        remaining_s: seconds that the run has left when asked; None without a deadline.
        cancelled: set when the run is over; who waits for a person should look at it.
    """

    run_id: str
    step: int
    tool: str
    effect: Effect
    args: Mapping[str, Any]
    args_digest: str
    agent: str | None = None
    tenant: str | None = None
    task_id: str | None = None
    task_digest: str | None = None
    idempotency_key: str | None = None
    remaining_s: Callable[[], float | None] = field(default=lambda: None, compare=False, repr=False)
    cancelled: CancelToken = field(default_factory=CancelToken, compare=False, repr=False)


class Decision(StrEnum):
    """What an approver may say beside a plain True or False."""

    APPROVED = "approved"
    DENIED = "denied"
    PENDING = "pending"


Approver = Callable[[ApprovalRequest], "bool | Decision"]


def approve_all(request: ApprovalRequest) -> bool:
    """Says yes to every write; for tests, replays and agents that are trusted to write."""
    return True


@dataclass(frozen=True)
class Policy:
    """What an agent may do. Everything that is not allowed is denied.

    Attributes:
        allow: names of tools, exact; an entry with `*`, `?` or `[` is a glob.
        budget: the limits of one run.
        require_approval: ask the approver before each write.
        approver: gets the request and returns True for yes; anything else, an
            exception too, is a no. None denies every write that needs approval.
        stop_on: outcomes of a tool call that end the run; any other outcome
            goes to the model as a typed error observation.
        max_result_bytes: largest observation in UTF-8, bytes; None is no limit.
    """

    allow: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)
    require_approval: bool = True
    approver: Approver | None = None
    stop_on: frozenset[Outcome] = DEFAULT_STOP_ON
    max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            raise ConfigError(
                f"allow={self.allow!r} is one string", hint=f"Write allow=({self.allow!r},)."
            )
        object.__setattr__(self, "allow", tuple(self.allow))
        object.__setattr__(self, "stop_on", frozenset(self.stop_on))
        if Outcome.OK in self.stop_on:
            raise ConfigError(
                "stop_on holds 'ok'", hint="Name outcomes of failed or refused calls."
            )
        if is_async(self.approver):
            raise ConfigError(
                "the approver is an async function, whose coroutine would never be a yes",
                hint="Give a plain function; async runs call it in a worker thread.",
            )

    def allows(self, tool: str) -> bool:
        """True when an entry of `allow` names the tool, or matches it as a glob."""
        return any(
            fnmatchcase(tool, entry)
            if any(sign in entry for sign in _GLOB_SIGNS)
            else tool == entry
            for entry in self.allow
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the effective policy; of the approver only whether and which kind."""
        kind = "none" if self.approver is None else "custom"
        if self.approver is approve_all:
            kind = "approve_all"
        return digest_of(
            "policy",
            canonical_json(
                {
                    "allow": sorted(self.allow),
                    "approver": kind,
                    "budget": self.budget.limits(),
                    "max_result_bytes": self.max_result_bytes,
                    "require_approval": self.require_approval,
                    "stop_on": sorted(self.stop_on),
                }
            ),
        )
