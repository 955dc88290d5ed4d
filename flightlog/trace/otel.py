"""Our columns beside OpenTelemetry's GenAI attributes: the one table, read both ways.

Column names are ours and stable; the attributes of the convention are still in
development and were renamed several times, so a column never carries an
attribute's name. `ATTRIBUTE_OF` gives the newest name, which an export writes;
`NAMES_OF` also knows the older names and the dialects that real emitters use, in the order
in which they are believed.

Source: OpenTelemetry semantic conventions for generative AI (2026), OpenInference
semantic conventions, and span sets captured from their emitters.
"""

from __future__ import annotations

from typing import Final

ATTRIBUTE_OF: Final = {
    "agent": "gen_ai.agent.name",
    "agent_version": "gen_ai.agent.version",
    "conversation_id": "gen_ai.conversation.id",
    "provider": "gen_ai.provider.name",
    "request_model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "previous_response_id": "gen_ai.request.previous_response.id",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "finish_reason": "gen_ai.response.finish_reasons",
    "tool_name": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
    "args": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "error_type": "error.type",
}
"""Column -> attribute of the current convention. Columns that it lacks are absent."""

_ALIASES: Final = {
    "agent": ("agent.name", "agent_name", "traceloop.entity.name", "ai.telemetry.functionId"),
    "conversation_id": ("session.id", "traceloop.association.properties.session_id"),
    "provider": ("gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"),
    "request_model": ("llm.request.model_name", "ai.model.id"),
    "response_model": ("llm.response.model_name", "llm.model_name", "ai.response.model"),
    "response_id": ("ai.response.id",),
    "input_tokens": (
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
    ),
    "output_tokens": (
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "cache_read_tokens": (
        "llm.token_count.prompt_details.cache_read",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "ai.usage.cachedInputTokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "llm.token_count.completion_details.reasoning",
        "gen_ai.usage.details.reasoning_tokens",
        "ai.usage.reasoningTokens",
    ),
    "finish_reason": (
        "llm.finish_reason",
        "anthropic.message.stop_reason",
        "ai.response.finishReason",
    ),
    "tool_name": ("tool.name", "ai.toolCall.name"),
    "tool_call_id": ("tool.id", "tool_call.id", "ai.toolCall.id"),
    "args": (
        "tool_arguments",
        "ai.toolCall.args",
        "traceloop.entity.input",
        "input.value",
        "input",
    ),
    "result": (
        "tool_response",
        "anthropic.tool_result.content",
        "ai.toolCall.result",
        "traceloop.entity.output",
        "output.value",
        "output",
    ),
    "cost_usd": (
        "llm.cost.total",
        "operation.cost",
        "gen_ai.usage.cost",
        "gen_ai.usage.total_cost",
    ),
    "error_type": ("exception.type",),
    "data_subject": ("user.id", "enduser.id"),
}

NAMES_OF: Final = {
    column: (
        *((ATTRIBUTE_OF[column],) if column in ATTRIBUTE_OF else ()),
        *_ALIASES.get(column, ()),
    )
    for column in sorted({*ATTRIBUTE_OF, *_ALIASES})
}
"""Column -> attributes that feed it, the current convention's first; the first hit wins."""

_COLUMN_OF: Final = {name: column for column, names in NAMES_OF.items() for name in names}


def column_of(attribute: str) -> str | None:
    """The column that an attribute feeds, by its current or an older name; None if none does."""
    return _COLUMN_OF.get(attribute)
