"""One write that waits for a person's yes or no."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from flightlog.errors import UsageError
from flightlog.trace.canonical import canonical_args, canonical_json, clean_text, digest_of
from flightlog.trace.vocab import Effect

MAX_ARGS_BYTES: Final = 4 << 20
"""Longest arguments that can be put before a person, in UTF-8."""


class ApprovalState(StrEnum):
    """Where a request is."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One write that a run wants to make.

    Attributes:
        args: canonical JSON of the arguments.
        args_digest: its digest.
        task_digest: of the task's content; without one the task is known by its id,
            without both an approval holds for the run only.
    """

    tool: str
    effect: Effect
    args: str
    args_digest: str
    run_id: str
    step: int
    agent: str | None = None
    tenant: str | None = None
    task_id: str | None = None
    task_digest: str | None = None

    @classmethod
    def of(cls, tool: str, args: Mapping[str, Any], **fields: Any) -> WriteRequest:
        """The request with the canonical form and the digest of these very arguments.

        Raises:
            UsageError: the arguments have no canonical form, or are too long to be reviewed.
        """
        canonical = canonical_args(args)
        if canonical.flag is not None:
            raise UsageError(
                f"the arguments of {tool!r} cannot be put before a person: "
                f"{canonical.flag.replace('_', ' ')}",
                hint="Arguments are plain JSON values.",
            )
        size = len(canonical.text.encode("utf-8"))
        if size > MAX_ARGS_BYTES:
            raise UsageError(
                f"the arguments of {tool!r} have {size} bytes, and no person can review more "
                f"than {MAX_ARGS_BYTES}",
                hint="Let the tool take a reference to the content.",
            )
        names: dict[str, Any] = {
            name: clean_text(value) if type(value) is str else value
            for name, value in fields.items()
        }
        return cls(
            tool=clean_text(tool), args=canonical.text, args_digest=canonical.digest, **names
        )

    @property
    def binding(self) -> str:
        """Digest of all that an approval is bound to."""
        if self.task_digest is not None:
            task = ["digest", self.task_digest]
        elif self.task_id is not None:
            task = ["id", self.task_id]
        else:
            task = ["run", self.run_id]
        bound = [self.agent, self.tenant, task, self.tool, self.args_digest]
        return digest_of("approval", canonical_json(bound))

    @property
    def values(self) -> dict[str, Any]:
        """The arguments as an object."""
        found: dict[str, Any] = json.loads(self.args)
        return found


@dataclass(frozen=True, slots=True)
class Approval:
    """One request in the queue and what became of it.

    Attributes:
        id: short, unique in the store.
        write: what is asked for; `run_id` and `step` are those that asked first.
        created_at_us, expires_at_us, decided_at_us: microseconds since the Unix epoch.
        decided_by: who said yes or no.
        why: the reason given.
        taken_by: the run that used the approval, or that was told the denial.
    """

    id: str
    write: WriteRequest
    state: ApprovalState
    created_at_us: int
    expires_at_us: int
    decided_by: str | None = None
    decided_at_us: int | None = None
    why: str | None = None
    taken_by: str | None = None
