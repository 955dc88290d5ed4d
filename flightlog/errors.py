"""Every exception of flightlog, each with what is wrong, where, and what to do.

The command line turns an exception into its exit code in one place
(`flightlog.cli`); nothing else knows exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from enum import IntEnum
from typing import Final

_SHOWN_CHARS: Final = 100


class ExitCode(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    DRIFT = 1
    UNDECIDED = 2
    STALE = 3
    USAGE = 64
    BUG = 70


class FlightlogError(Exception):
    """Base of all errors that flightlog raises on purpose.

    Args:
        what: what is wrong, with the value.
        where: file and line, run, step, tool or column; empty when there is no place.
        hint: what to do about it: a command or a setting.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.hint}" if self.hint else text


class UsageError(FlightlogError):
    """A command, an argument or a Python call that cannot mean anything."""


class ConfigError(FlightlogError):
    """A setting that is unknown, of the wrong type, or contradictory."""


class UnknownNameError(FlightlogError):
    """A name (task, tool, metric, variant, run, column) that nothing carries."""

    @classmethod
    def of(
        cls, kind: str, name: str, known: Collection[str], *, where: str = "", hint: str = ""
    ) -> UnknownNameError:
        """Builds the error with the nearest valid names in its hint, or all where they are few."""
        names = f"{nearest_text(name, known)}. " if known else ""
        return cls(f"unknown {kind} {name!r}", where=where, hint=(names + hint).strip())


class StoreError(FlightlogError):
    """A store that is missing, foreign, not writable, or not usable as asked."""


class NewerFormatError(StoreError):
    """A file that a newer flightlog wrote; this one refuses to guess at it."""


class StoreKeyError(StoreError):
    """A key of an encrypted store that is missing, wrong, or not a key."""


class DamagedError(StoreError):
    """A journal, segment, manifest or blob whose bytes are not those that were written."""


class TraceFormatError(FlightlogError):
    """A trace file to import that is not what its format says."""


class RecorderError(FlightlogError):
    """An event that could not be recorded or made durable."""


class ToolDefinitionError(FlightlogError):
    """A tool that cannot be declared: bad name, schema, effect or scope."""


class ToolError(Exception):
    """For tool functions: says that a call failed, and whether trying again can help.

    Args:
        retryable: False where another try cannot help.
        retry_after_s: seconds to wait before the next try, as a server asks for.
    """

    def __init__(
        self, message: str, *, retryable: bool = True, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class PriceError(FlightlogError):
    """A USD budget over a model that has no price."""


class AgentError(FlightlogError):
    """An agent definition that cannot be loaded or run."""


class GoldenError(FlightlogError):
    """A golden task that is missing, malformed, or cannot be pinned."""


class StaleGoldenError(GoldenError):
    """A golden whose recordings no longer belong to its contract."""

    exit_code = ExitCode.STALE


class NetworkRefusedError(FlightlogError, ConnectionError):
    """Something tried to reach the network, or to start a program, in the midst of a replay."""


class NothingToCompareError(FlightlogError):
    """A comparison that paired nothing; a gate that compared nothing fails."""

    exit_code = ExitCode.UNDECIDED


class MissingExtraError(FlightlogError):
    """An optional dependency that the asked-for feature needs."""


def nearest(name: str, known: Iterable[str], *, limit: int = 3, cutoff: float = 0.5) -> list[str]:
    """Up to `limit` of the known names that look most like `name`, best first.

    Args:
        cutoff: least similarity, 0 to 1 (ratio of matching characters, as in difflib).
    """
    return difflib.get_close_matches(name, sorted(set(known)), n=limit, cutoff=cutoff)


def nearest_text(name: str, known: Collection[str], *, shown: int = 8) -> str:
    """The nearest known names as text, and the known ones where they are few or none is near."""
    near = [_in_a_line(one) for one in nearest(name, known)]
    names = sorted(set(known))
    if near and len(near) == len(names):
        return f"nearest: {', '.join(near)}"
    if near and len(names) > shown:
        return f"nearest: {', '.join(near)}"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    listed = f"known: {', '.join(map(_in_a_line, names[:shown])) or 'none'}{more}"
    return f"nearest: {', '.join(near)}. {listed}" if near else listed


def _in_a_line(name: str) -> str:
    """A name out of a trace that can neither break the line nor fill the screen."""
    text = name.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
