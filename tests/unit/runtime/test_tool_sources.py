"""Tools from the declarations that providers take."""

from __future__ import annotations

import pytest

from flightlog.errors import ToolDefinitionError, UnknownNameError
from flightlog.runtime.tool_sources import distinct, effect_for, tools_from_provider
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
}
RESPONSES = {"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA}
ANTHROPIC = {"name": "weather", "description": "d", "input_schema": SCHEMA}


def weather(city: str) -> str:
    return city


@pytest.mark.parametrize("declared", [CHAT, RESPONSES, ANTHROPIC, {**ANTHROPIC, "type": "custom"}])
def test_the_formats_of_the_providers_give_one_and_the_same_tool(declared):
    [made] = tools_from_provider([declared], {"weather": weather}, effects={"w*": "read"})
    assert made == Tool("weather", description="d", input_schema=SCHEMA, effect=Effect.READ)
    assert made.fn is weather


def test_an_effect_that_nobody_declared_is_unknown():
    [made] = tools_from_provider([ANTHROPIC])
    assert (made.effect, made.fn) == (Effect.UNKNOWN, None)


def test_a_declaration_without_a_schema_takes_any_object():
    [made] = tools_from_provider([{"name": "ping", "input_schema": None}])
    assert made.input_check.problem_of({"a": 1}) is None


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ([5], "a int"),
        ([{"type": "web_search_20250305", "name": "web_search"}], "type 'web_search"),
        ([{"description": "d"}], "no name"),
        ([{"type": "function", "function": "weather"}], "type 'function'"),
        ([{"name": "a", "inputSchema": {}}], r"unknown keys \['inputSchema'\]"),
        ([{"name": "a", "input_schema": {}, "parameters": {}}], "both"),
        ([ANTHROPIC, CHAT], "two tools are named 'weather'"),
        ([{"name": "a*"}], "none of"),
        ([{"name": "a", "parameters": {"type": "objekt"}}], "objekt"),
    ],
)
def test_what_is_no_declaration_is_refused(declared, what):
    with pytest.raises(ToolDefinitionError, match=what) as error:
        tools_from_provider(declared)
    assert error.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {"functions": {}},
        {"functions": {"wether": weather}},
        {"functions": {"weather": weather, "more": weather}},
        {"effects": {"wether": "read"}},
    ],
)
def test_a_name_that_names_nothing_is_refused_with_the_nearest(given):
    with pytest.raises(UnknownNameError, match="unknown tool"):
        tools_from_provider([ANTHROPIC], **given)


def test_an_exact_name_goes_before_a_glob():
    effects = {"w*": "write", "weather": "read"}
    assert effect_for("weather", effects) is Effect.READ
    assert effect_for("wind", effects) is Effect.WRITE
    assert effect_for("other", effects) is None
    with pytest.raises(ToolDefinitionError, match="unknown effect"):
        effect_for("weather", {"weather": "safe"})


def test_tools_of_different_names_are_distinct():
    tools = [Tool("a"), Tool("b")]
    assert distinct(tools, where="here") == tuple(tools)
