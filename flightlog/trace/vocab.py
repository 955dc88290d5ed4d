"""The closed sets of the data model, as string enums.

Their values are what the columns hold; a value outside these sets is a bug of
the writer or a file of a newer format.
"""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """What one event records."""

    RUN_STARTED = "run_started"
    MODEL_CALL = "model_call"
    TOOL_CALL = "tool_call"
    TOOL_INTENT = "tool_intent"
    STATE_CHANGED = "state_changed"
    RUN_STOPPED = "run_stopped"
    EVALUATION = "evaluation"
    GAP = "gap"


class Origin(StrEnum):
    """How a run came about."""

    LIVE = "live"
    REPLAY = "replay"
    FORK = "fork"
    IMPORTED = "imported"


class Actor(StrEnum):
    """Who made a call. Metrics of the agent count `agent` only."""

    AGENT = "agent"
    USER = "user"
    JUDGE = "judge"


class Effect(StrEnum):
    """What a tool does to the world. An unknown effect counts as `write`."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    UNKNOWN = "unknown"

    @property
    def is_write(self) -> bool:
        """True for `write` and for `unknown`, the safe default."""
        return self in (Effect.WRITE, Effect.UNKNOWN)


class Outcome(StrEnum):
    """How one model or tool call ended."""

    OK = "ok"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    INVALID_INPUT = "invalid_input"
    INVALID_OUTPUT = "invalid_output"
    CIRCUIT_OPEN = "circuit_open"
    DEDUPLICATED = "deduplicated"
    APPROVAL_DENIED = "approval_denied"
    KILL_SWITCH = "kill_switch"
    BUDGET = "budget"
    REPLAY_MISS = "replay_miss"

    @property
    def is_refusal(self) -> bool:
        """True when the gateway answered and the tool was not called."""
        return self in _REFUSALS


_REFUSALS = frozenset(
    {
        Outcome.DENIED,
        Outcome.INVALID_INPUT,
        Outcome.CIRCUIT_OPEN,
        Outcome.DEDUPLICATED,
        Outcome.APPROVAL_DENIED,
        Outcome.KILL_SWITCH,
        Outcome.BUDGET,
        Outcome.REPLAY_MISS,
    }
)


class ServedHow(StrEnum):
    """Where the observation that the model saw came from."""

    LIVE = "live"
    RECORDED = "recorded"
    DERIVED = "derived"
    PURE = "pure"
    FIXTURE = "fixture"
    STUB = "stub"
    LIVE_READ = "live_read"
    ERROR = "error"


class FinishReason(StrEnum):
    """Why one model answer ended, normalised over providers."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALL = "tool_call"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    ERROR = "error"


_FINISH_ALIASES = {
    "stop": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "completed": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_call": FinishReason.TOOL_CALL,
    "tool_calls": FinishReason.TOOL_CALL,
    "tool-calls": FinishReason.TOOL_CALL,
    "tool_use": FinishReason.TOOL_CALL,
    "function_call": FinishReason.TOOL_CALL,
    "content_filter": FinishReason.CONTENT_FILTER,
    "content-filter": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.REFUSAL,
    "error": FinishReason.ERROR,
}


def finish_reason_of(raw: str | None) -> FinishReason | None:
    """The normalised finish reason of a provider's spelling; None when unknown."""
    return None if raw is None else _FINISH_ALIASES.get(raw.lower())


class RunStatus(StrEnum):
    """The three ways a run can stand after its end."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


class StopReason(StrEnum):
    """Why a run ended: exactly one per run.

    Members that concern a tool carry its name in a column of their own
    (`stop_tool`); `stop_text` joins the two.
    """

    OK = "ok"
    MAX_STEPS = "max_steps"
    MAX_SECONDS = "max_seconds"
    MAX_TOOL_CALLS = "max_tool_calls"
    MAX_USD = "max_usd"
    MAX_TOKENS = "max_tokens"
    TOOL_DENIED = "tool_denied"
    APPROVAL_DENIED = "approval_denied"
    APPROVAL_PENDING = "approval_pending"
    INVALID_TOOL_OUTPUT = "invalid_tool_output"
    INVALID_TOOL_INPUT = "invalid_tool_input"
    TOOL_FAILED = "tool_failed"
    CIRCUIT_OPEN = "circuit_open"
    KILL_SWITCH = "kill_switch"
    LOOP_DETECTED = "loop_detected"
    CONTEXT_OVERFLOW = "context_overflow"
    MODEL_ERROR = "model_error"
    MODEL_REFUSED = "model_refused"
    CANCELLED = "cancelled"
    REPLAY_MISS = "replay_miss"
    CRASHED = "crashed"
    RECORDER_FAILED = "recorder_failed"

    @property
    def status(self) -> RunStatus:
        """`completed` for ok, `failed` when something broke, else `stopped` by a guard."""
        if self is StopReason.OK:
            return RunStatus.COMPLETED
        return RunStatus.FAILED if self in _FAILURES else RunStatus.STOPPED


_FAILURES = frozenset(
    {
        StopReason.INVALID_TOOL_OUTPUT,
        StopReason.INVALID_TOOL_INPUT,
        StopReason.TOOL_FAILED,
        StopReason.CONTEXT_OVERFLOW,
        StopReason.MODEL_ERROR,
        StopReason.CRASHED,
        StopReason.RECORDER_FAILED,
    }
)


def stop_text(reason: str, tool: str | None) -> str:
    """`reason:tool` where a tool is concerned, else the reason alone."""
    return f"{reason}:{tool}" if tool else reason
