"""The policy of an agent: what it may call, how much, and who must agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, TypeVar

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import ConfigError
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.guards import GuardPolicy
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.tools import is_async
from flightlog.trace.canonical import canonical_json, digest_of
from flightlog.trace.vocab import Effect, Outcome

DEFAULT_STOP_ON = frozenset(
    {Outcome.INVALID_OUTPUT, Outcome.REPLAY_MISS, Outcome.KILL_SWITCH, Outcome.BUDGET}
)
DEFAULT_MAX_RESULT_BYTES = 256 * 1024
_GLOB_SIGNS = "*?["
_BY_NAME = ("tool_budgets", "tenant_budgets", "retries", "breakers")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One write that waits for a yes or a no.

    Attributes:
        args: the arguments as the tool will get them, without values of credentials.
        args_digest: digest of the canonical arguments; an approval holds for these only.
        agent, tenant, task_id, task_digest: what the run belongs to.
        idempotency_key: key of the write.
        remaining_s: seconds that the run has left when asked; None without a deadline.
        cancelled: set when the run is over; who waits for a person should look at it.
        explain: takes the reason of the answer, for the trace and the model.
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
    explain: Callable[[str], None] = field(default=lambda _: None, compare=False, repr=False)


class Decision(StrEnum):
    """What an approver may say beside a plain True or False."""

    APPROVED = "approved"
    DENIED = "denied"
    PENDING = "pending"


Approver = Callable[[ApprovalRequest], "bool | Decision"]
"""Gets the request and says yes or no. One whose attribute `asks_people` is True is not asked in
a replay: there the recordings answer."""


def approve_all(request: ApprovalRequest) -> bool:
    """Says yes to every write; for tests, replays and agents that are trusted to write."""
    return True


def matches(name: str, entry: str) -> bool:
    """True when the entry is the name, or a glob that it matches; a glob has `*`, `?` or `[`."""
    if any(sign in entry for sign in _GLOB_SIGNS):
        return fnmatchcase(name, entry)
    return name == entry


def chosen(by_name: Mapping[str, T], name: str) -> T | None:
    """What a mapping by name says of one name: its own entry, else the first glob's."""
    if name in by_name:
        return by_name[name]
    return next((value for entry, value in by_name.items() if matches(name, entry)), None)


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
        tool_budgets: limits of single tools within a run.
        tenant_budgets: limits by tenant over a sliding window, shared by the
            processes on a store; a run without a tenant has the empty name.
        retries: how failed calls are tried again, by tool. A write only where the
            tool takes an idempotency key or declares that it is idempotent.
        model_retry: how failed model calls are tried again.
        breakers: circuit breakers by tool, shared by the processes on a store.
        guards: what findings about loops and the context lead to.
        kill_mode: what a kill switch that is on without a mode of its own means:
            `disable_writes`, `stop_all` or `disable_tools:GLOB`.

    A mapping by name also takes globs: the exact name wins, then the first
    glob that matches.
    """

    allow: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)
    require_approval: bool = True
    approver: Approver | None = None
    stop_on: frozenset[Outcome] = DEFAULT_STOP_ON
    max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES
    tool_budgets: Mapping[str, ToolBudget] = field(default_factory=dict)
    tenant_budgets: Mapping[str, WindowBudget] = field(default_factory=dict)
    retries: Mapping[str, RetryPolicy] = field(default_factory=dict)
    model_retry: RetryPolicy | None = None
    breakers: Mapping[str, BreakerPolicy] = field(default_factory=dict)
    guards: GuardPolicy = field(default_factory=GuardPolicy)
    kill_mode: str = "disable_writes"

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

        for name in _BY_NAME:
            object.__setattr__(self, name, dict(getattr(self, name)))
        is_glob = self.kill_mode.startswith("disable_tools:") and self.kill_mode[14:]
        if self.kill_mode not in ("disable_writes", "stop_all") and not is_glob:
            raise ConfigError(
                f"kill_mode={self.kill_mode!r} is unknown",
                hint="One of: disable_writes, stop_all, disable_tools:GLOB.",
            )

    def allows(self, tool: str) -> bool:
        """True when an entry of `allow` names the tool, or matches it as a glob."""
        return any(matches(tool, entry) for entry in self.allow)

    @cached_property
    def digest(self) -> str:
        """Digest of the effective policy; of the approver only whether and which kind."""
        kind = "none" if self.approver is None else "custom"
        if self.approver is approve_all:
            kind = "approve_all"
        effective = {
            "allow": sorted(self.allow),
            "approver": kind,
            "budget": self.budget.limits(),
            "max_result_bytes": self.max_result_bytes,
            "require_approval": self.require_approval,
            "stop_on": sorted(self.stop_on),
            "kill_mode": self.kill_mode,
            "model_retry": _plain(self.model_retry),
            "guards": _plain(self.guards),
        }
        for name in _BY_NAME:  # as pairs, since the order of globs has a meaning
            pairs = getattr(self, name).items()
            effective[name] = [[entry, _plain(value)] for entry, value in pairs]
        return digest_of("policy", canonical_json(effective))

    def __hash__(self) -> int:
        return hash(self.digest)


def _plain(value: Any) -> Any:
    """Dataclasses of settings as plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, StrEnum) else value
