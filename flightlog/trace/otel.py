"""Our columns beside OpenTelemetry's GenAI attributes: the one table, read both ways.

Column names are ours and stable; the attributes of the convention are still in
development and were renamed several times, so a column never carries an
attribute's name. `ATTRIBUTE_OF` gives the newest name, which an export writes;
`column_of` also knows the older names and the dialects that real emitters use.

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
    "conversation_id": ("session.id",),
    "agent": ("agent.name",),
    "provider": ("gen_ai.system", "llm.provider", "llm.system"),
    "request_model": ("llm.request.model_name",),
    "response_model": ("llm.response.model_name", "llm.model_name"),
    "input_tokens": ("gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cache_read_tokens": ("llm.token_count.prompt_details.cache_read",),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": ("llm.token_count.completion_details.reasoning",),
    "finish_reason": ("llm.finish_reason", "anthropic.message.stop_reason"),
    "tool_name": ("tool.name",),
    "tool_call_id": ("tool.id", "tool_call.id"),
    "error_type": ("exception.type",),
}

_COLUMN_OF: Final = {
    **{alias: column for column, aliases in _ALIASES.items() for alias in aliases},
    **{attribute: column for column, attribute in ATTRIBUTE_OF.items()},
}


def column_of(attribute: str) -> str | None:
    """The column that an attribute feeds, by its current or an older name; None if none does."""
    return _COLUMN_OF.get(attribute)
