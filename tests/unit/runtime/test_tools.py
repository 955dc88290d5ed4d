"""Tools: declared once, derived from signatures, refused where they cannot be declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.signature import schema_of
from flightlog.runtime.tools import Tool, is_async, tool, toolset_message
from flightlog.trace.vocab import Effect


def test_decorator_takes_name_description_and_schema_from_the_function():
    @tool(effect="read", scopes=["order:{order_id}"])
    def get_order(order_id: str, limit: int = 10) -> dict:
        """Gives one order.

        More text that the model need not see.
        """
        return {}

    assert (get_order.name, get_order.description) == ("get_order", "Gives one order.")
    assert (get_order.effect, get_order.scopes) == (Effect.READ, ("order:{order_id}",))
    assert get_order.input_schema == {
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "limit": {"type": "integer", "default": 10}},
        "required": ["order_id"],
        "additionalProperties": False,
    }


def test_decorator_works_without_arguments_and_effect_is_unknown():
    @tool
    def ping() -> str:
        return "pong"

    assert (ping.name, ping.effect, ping.fn()) == ("ping", Effect.UNKNOWN, "pong")


def test_given_fields_win_over_the_function():
    @tool(name="other", description="d", input_schema={"type": "object"})
    def ping(x) -> str:
        return "pong"

    assert (ping.name, ping.description, ping.input_schema) == ("other", "d", {"type": "object"})


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[str, ...], {"type": "array", "items": {"type": "string"}}),
        (dict, {"type": "object"}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Mapping[str, Any], {"type": "object", "additionalProperties": {}}),
        (int | None, {"type": ["integer", "null"]}),
        (
            list[str] | None,
            {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        ),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (Any, {}),
    ],
)
def test_annotation_becomes_a_schema(hint, schema):
    def fn(x):
        return x

    fn.__annotations__ = {"x": hint}
    assert schema_of(fn)["properties"] == {"x": schema}


def test_double_star_leaves_the_object_open():
    def fn(**more: Any) -> None:
        return None

    assert schema_of(fn)["additionalProperties"] is True


class Order:
    pass


def unannotated(x):
    return x


def positional(x: int, /):
    return x


def star(*x: int):
    return x


def foreign(x: Order):
    return x


def odd_keys(x: dict[int, str]):
    return x


def odd_default(x: float = float("nan")):
    return x


def unresolvable(x: NoSuchType):  # noqa: F821
    return x


@pytest.mark.parametrize(
    ("fn", "what"),
    [
        (unannotated, "parameter 'x': no annotation"),
        (positional, "takes them by position"),
        (star, "takes them by position"),
        (foreign, "Order'> is not supported"),
        (odd_keys, "string keys"),
        (odd_default, "the default nan has no JSON form"),
        (unresolvable, "NoSuchType"),
    ],
)
def test_signature_without_a_json_form_is_refused_with_a_way_out(fn, what):
    with pytest.raises(ToolDefinitionError, match=what) as error:
        tool(fn)
    assert error.value.where.startswith("tool function")
    assert error.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "two words"},
        {"name": "browse.*"},
        {"name": "read[1]"},
        {"name": "a", "hints": ["readOnlyHint"]},
        {"name": "x" * 129},
        {"name": "a", "effect": "destroy"},
        {"name": "a", "timeout_s": -1},
        {"name": "a", "cost_usd": float("nan")},
        {"name": "a", "input_schema": {"type": "objekt"}},
        {"name": "a", "output_schema": {"properties": 3}},
        {"name": "a", "input_schema": {"enum": [float("inf")]}},
        {"name": "a", "input_schema": True},
        {"name": "a", "input_schema": []},
        {"name": "a", "scopes": "orders"},
        {"name": "a", "scopes": [5]},
        {"name": "a", "volatile": "request_id"},
        {"name": "a", "is_consuming": "no"},
        {"name": "a", "description": 5},
        {"name": "a", "timeout_s": float("inf")},
        {"name": "a", "cost_usd": True},
    ],
)
def test_tool_that_cannot_be_declared_is_refused(fields):
    with pytest.raises(ToolDefinitionError) as error:
        Tool(**fields)
    assert error.value.hint


def test_unknown_field_of_the_decorator_is_refused():
    with pytest.raises(ToolDefinitionError, match="timeout"):
        tool(timeout=3)(lambda: None)


def test_declaration_gives_the_tool_back_without_its_function():
    one = Tool(
        "get",
        fn=print,
        description="d",
        effect=Effect.READ,
        scopes=("a:{x}",),
        input_schema={"type": "object"},
        output_schema={"type": "string"},
        timeout_s=1.5,
        volatile=("t",),
        is_consuming=True,
        cost_usd=0.0,
        hints={"readOnlyHint": True},
    )
    back = Tool.from_declaration(one.declaration())
    assert back.fn is None
    assert back == one
    assert Tool.from_declaration(one.declaration(), print).fn is print


def test_declaration_leaves_defaults_out():
    assert Tool("a").declaration() == {"name": "a", "effect": "unknown"}


@pytest.mark.parametrize("declared", [{"effect": "read"}, {"name": "a", "timeout": 3}])
def test_malformed_declaration_is_refused(declared):
    with pytest.raises(ToolDefinitionError, match=r"unknown fields|without a name"):
        Tool.from_declaration(declared)


def test_toolset_digest_tells_one_set_of_tools_from_another():
    one, two = Tool("a"), Tool("b")
    assert toolset_message([one, two]) == toolset_message([one, two])
    assert toolset_message([one]).digest != toolset_message([one, two]).digest
    assert toolset_message([one]).digest != toolset_message([Tool("a", effect="read")]).digest
    assert toolset_message([]).text == "[]"


def test_async_functions_and_objects_are_told_from_plain_ones():
    async def fetch():
        return 1

    class Caller:
        async def __call__(self):
            return 1

    assert [is_async(fetch), is_async(Caller()), is_async(print), is_async(None)] == [
        True,
        True,
        False,
        False,
    ]
