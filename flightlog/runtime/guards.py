"""Guards against loops and lost context: found always, acted on as configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Guard(StrEnum):
    """What can be found about a run that goes wrong."""

    REPEATED_CALL = "repeated_call"
    CYCLE = "cycle"
    NO_PROGRESS = "no_progress"
    PROMPT_GROWTH = "prompt_growth"
    CONTEXT_LIMIT = "context_limit"
    TRUNCATED = "truncated"
    POLICY_LOST = "policy_lost"


class GuardAction(StrEnum):
    """What a finding leads to; it is recorded in every case."""

    RECORD = "record"
    READ_ONLY = "read_only"
    STOP = "stop"


@dataclass(frozen=True)
class GuardPolicy:
    """Thresholds of the guards, and what each finding leads to.

    Attributes:
        actions: what a finding leads to; a guard that is not named only records.
    """

    actions: Mapping[Guard, GuardAction] = field(default_factory=dict)
