"""What a linter of golden tasks finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DoubtKind(StrEnum):
    """Why a golden task may be wrong, or serve little."""

    CONFLICT = "key_conflict"
    RACING = "racing_calls"
    UNSOUND = "unsound_scope"
    FIXTURE = "fixture_differs"
    UNKNOWN = "unknown_tool"
    MISSPELT = "misspelt_name"
    UNUSED = "unused_scope"

    @property
    def is_error(self) -> bool:
        """True where a wrong observation may be served, or a check looks at nothing."""
        return self in (DoubtKind.CONFLICT, DoubtKind.UNSOUND, DoubtKind.MISSPELT)


@dataclass(frozen=True, slots=True)
class Doubt:
    """One finding of the linter.

    Attributes:
        kind: of which kind.
        golden: name of the folder; empty for what concerns all of them.
        tool_name: the tool.
        what: what is wrong and what to do, one sentence; holds texts of traces.
        other: the other tool of a pair.
    """

    kind: DoubtKind
    golden: str
    tool_name: str
    what: str
    other: str = ""

    def __str__(self) -> str:
        place = f"golden {self.golden}: " if self.golden else ""
        return f"{self.kind}: {place}{self.what}"
