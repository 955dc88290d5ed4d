"""What one rule of the kill switch says, and which of several is the most severe."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from flightlog.errors import UsageError, nearest_text

TOOLS_PREFIX: Final = "disable_tools:"


class KillMode(StrEnum):
    """What a rule of the kill switch forbids."""

    DISABLE_WRITES = "disable_writes"
    DISABLE_TOOLS = "disable_tools"
    STOP_ALL = "stop_all"
    CONFIGURED = "configured"
    """What each agent's own `kill_switch.mode_when_enabled` says."""


_SEVERITY = {KillMode.STOP_ALL: 2, KillMode.DISABLE_TOOLS: 1, KillMode.DISABLE_WRITES: 0}


@dataclass(frozen=True, slots=True)
class KillRule:
    """One rule in force.

    Attributes:
        mode: what it forbids.
        tools: name or glob of the tools, for `disable_tools` only.
        tenant: whose runs it holds for; None for all runs.
        who: who switched it on.
        why: the reason given; empty where none was.
        at_us: when, microseconds since the Unix epoch, UTC; None where nobody knows.
    """

    mode: KillMode
    tools: str | None = None
    tenant: str | None = None
    who: str = "unknown"
    why: str = ""
    at_us: int | None = None

    @property
    def text(self) -> str:
        """The mode as it is written on the command line."""
        if self.mode is KillMode.DISABLE_TOOLS:
            return f"{TOOLS_PREFIX}{self.tools}"
        return self.mode.value

    @property
    def severity(self) -> int:
        """Higher forbids more, and wins."""
        return _SEVERITY.get(self.mode, 0)

    def resolved(self, configured: str) -> KillRule:
        """The rule with `configured` replaced by the agent's own mode.

        A mode of the agent that nobody understands means `stop_all`.
        """
        if self.mode is not KillMode.CONFIGURED:
            return self
        return _resolved(self, configured)

    def forbids(self, tool: str | None, *, is_write: bool) -> bool:
        """True when a resolved rule forbids a call of the tool; None is a model call."""
        if self.mode is KillMode.STOP_ALL:
            return True
        if tool is None:
            return False
        if self.mode is KillMode.DISABLE_TOOLS:
            return fnmatchcase(tool, self.tools or "")
        return is_write

    def check(self) -> None:
        """Refuses a rule that means nothing.

        Raises:
            UsageError: `tools` does not fit the mode, or the tenant is empty.
        """
        if self.mode is KillMode.DISABLE_TOOLS and not self.tools:
            raise UsageError(
                "kill mode disable_tools names no tool",
                hint="Write disable_tools:NAME, or a glob such as disable_tools:http.*",
            )
        if self.mode is not KillMode.DISABLE_TOOLS and self.tools is not None:
            raise UsageError(
                f"kill mode {self.mode} takes no tools (tools={self.tools!r})",
                hint="Only disable_tools does.",
            )
        if self.tenant == "":
            raise UsageError(
                "the tenant is empty: no run would be stopped",
                hint="Name a tenant, or leave it out for all runs.",
            )


def parse_mode(text: str) -> tuple[KillMode, str | None]:
    """The mode and, for `disable_tools:GLOB`, the glob.

    Raises:
        UsageError: it is none, or the glob is missing.
    """
    name, colon, tools = text.partition(":")
    if name not in list(KillMode) or (colon and name != KillMode.DISABLE_TOOLS):
        known = ["disable_writes", "disable_tools:GLOB", "stop_all", "configured"]
        raise UsageError(f"unknown kill mode {text!r}", hint=f"{nearest_text(text, known)}.")
    rule = KillRule(KillMode(name), tools or None)
    rule.check()
    return rule.mode, rule.tools


@lru_cache(maxsize=64)  # one rule is asked for at each call of an agent
def _resolved(rule: KillRule, configured: str) -> KillRule:
    mode, tools = KillMode.STOP_ALL, None
    with contextlib.suppress(UsageError):
        mode, tools = parse_mode(configured)
    if mode is KillMode.CONFIGURED:
        mode = KillMode.STOP_ALL
    return replace(rule, mode=mode, tools=tools)
