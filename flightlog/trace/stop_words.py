"""How a run's end is called elsewhere, and what that is here.

Source: the benchmarks' own result files, and the exceptions and end states of LangGraph,
OpenAI Agents, pydantic-ai, the Anthropic SDK and the Claude Agent SDK, provoked in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flightlog.trace.vocab import StopReason

STOP_REASONS: Final[Mapping[str, StopReason]] = {
    "completed": StopReason.OK,
    "user_stop": StopReason.OK,
    "agent_stop": StopReason.OK,
    "agent_transfer": StopReason.OK,
    "answered": StopReason.OK,
    "submitted": StopReason.OK,
    "Submitted": StopReason.OK,
    "exit_cost": StopReason.MAX_USD,
    "submitted (exit_cost)": StopReason.MAX_USD,
    "exit_context": StopReason.CONTEXT_OVERFLOW,
    "submitted (exit_context)": StopReason.CONTEXT_OVERFLOW,
    "exit_total_execution_time": StopReason.MAX_SECONDS,
    "submitted (exit_total_execution_time)": StopReason.MAX_SECONDS,
    "exit_command_timeout": StopReason.MAX_SECONDS,
    "submitted (exit_command_timeout)": StopReason.MAX_SECONDS,
    "exit_format": StopReason.MODEL_ERROR,
    "submitted (exit_format)": StopReason.MODEL_ERROR,
    "exit_error": StopReason.CRASHED,
    "submitted (exit_error)": StopReason.CRASHED,
    "max_steps": StopReason.MAX_STEPS,
    "max_iterations": StopReason.MAX_STEPS,
    "max_turns": StopReason.MAX_STEPS,
    "error_max_turns": StopReason.MAX_STEPS,
    "GraphRecursionError": StopReason.MAX_STEPS,
    "MaxTurnsExceeded": StopReason.MAX_STEPS,
    "ModelCallLimitExceededError": StopReason.MAX_STEPS,
    "request_limit": StopReason.MAX_STEPS,
    "tool_calls_limit": StopReason.MAX_TOOL_CALLS,
    "ToolCallLimitExceededError": StopReason.MAX_TOOL_CALLS,
    "tokens_limit": StopReason.MAX_TOKENS,
    "cost_limit": StopReason.MAX_USD,
    "error_max_budget_usd": StopReason.MAX_USD,
    "timeout": StopReason.MAX_SECONDS,
    "context_length_exceeded": StopReason.CONTEXT_OVERFLOW,
    "ContextWindowExceededError": StopReason.CONTEXT_OVERFLOW,
    "provider_error": StopReason.MODEL_ERROR,
    "agent_error": StopReason.MODEL_ERROR,
    "empty": StopReason.MODEL_ERROR,
    "APIError": StopReason.MODEL_ERROR,
    "APIConnectionError": StopReason.MODEL_ERROR,
    "APIStatusError": StopReason.MODEL_ERROR,
    "APITimeoutError": StopReason.MODEL_ERROR,
    "AuthenticationError": StopReason.MODEL_ERROR,
    "BadRequestError": StopReason.MODEL_ERROR,
    "InternalServerError": StopReason.MODEL_ERROR,
    "ModelAPIError": StopReason.MODEL_ERROR,
    "ModelHTTPError": StopReason.MODEL_ERROR,
    "NotFoundError": StopReason.MODEL_ERROR,
    "OverloadedError": StopReason.MODEL_ERROR,
    "PermissionDeniedError": StopReason.MODEL_ERROR,
    "RateLimitError": StopReason.MODEL_ERROR,
    "ServiceUnavailableError": StopReason.MODEL_ERROR,
    "UnexpectedModelBehavior": StopReason.MODEL_ERROR,
    "refusal": StopReason.MODEL_REFUSED,
    "content_filter": StopReason.MODEL_REFUSED,
    "ContentFilterError": StopReason.MODEL_REFUSED,
    "CancelledError": StopReason.CANCELLED,
    "KeyboardInterrupt": StopReason.CANCELLED,
    "too_many_errors": StopReason.TOOL_FAILED,
    "infrastructure_error": StopReason.CRASHED,
    "unexpected_error": StopReason.CRASHED,
    "user_error": StopReason.CRASHED,
}
"""What a source's word for the end of a run is called here; the word itself is kept too."""

_USAGE_LIMITS: Final = ("request_limit", "tool_calls_limit", "tokens_limit", "cost_limit")


def stop_word(error_type: str, message: str) -> str:
    """The word for a run that ended in an error: its class, or the limit that it names."""
    if error_type == "UsageLimitExceeded":
        return next((word for word in _USAGE_LIMITS if word in message), "request_limit")
    return error_type


def stop_of(word: str | None, *, is_error: bool = False) -> StopReason | None:
    """The stop reason for a source's word; an error without a name of its own is a crash."""
    found = STOP_REASONS.get(word or "")
    return StopReason.CRASHED if found is None and is_error else found
