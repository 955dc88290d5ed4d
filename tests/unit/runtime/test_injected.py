"""What the gateway adds to a call: found in every kind of function, never in the schema."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Optional

import pytest

from flightlog.errors import ToolDefinitionError
from flightlog.runtime import tool_context
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool, tool

if TYPE_CHECKING:
    from nowhere import Hidden


def plain(order_id: str, context: ToolContext) -> str:
    return order_id


def optional(order_id: str, *, ctx: ToolContext | None = None) -> str:
    return order_id


def old_optional(order_id: str, ctx: Optional[ToolContext] = None) -> str:  # noqa: UP045
    return order_id


def by_module(order_id: str, ctx: tool_context.ToolContext) -> str:
    return order_id


def marked(order_id: str, ctx: Annotated[ToolContext, "the call"]) -> str:
    return order_id


class Caller:
    def __call__(self, order_id: str, ctx: ToolContext) -> str:
        return order_id

    def method(self, order_id: str, ctx: ToolContext) -> str:
        return order_id


async def awaited(order_id: str, ctx: ToolContext) -> str:
    return order_id


@functools.wraps(plain)
def wrapped(*args, **kwargs):
    return plain(*args, **kwargs)


def takes_more(other: str, order_id: str, ctx: ToolContext) -> str:
    return order_id


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, "context"),
        (optional, "ctx"),
        (old_optional, "ctx"),
        (by_module, "ctx"),
        (marked, "ctx"),
        (Caller().method, "ctx"),
        (awaited, "ctx"),
        (wrapped, "context"),
    ],
)
def test_the_context_is_injected_and_never_in_the_schema(fn, name):
    made = tool(fn)
    assert made.context_parameter == name
    assert made.input_schema["properties"] == {"order_id": {"type": "string"}}
    assert made.input_schema["required"] == ["order_id"]


@pytest.mark.parametrize("fn", [Caller(), functools.partial(takes_more, "x")])
def test_the_context_is_found_in_a_callable_without_a_name(fn):
    assert Tool("a", fn).context_parameter == "ctx"


def test_the_context_is_found_beside_an_annotation_that_cannot_be_resolved():
    def fn(other: Hidden, ctx: ToolContext | None = None) -> None:
        return None

    assert Tool("a", fn, input_schema={"type": "object"}).context_parameter == "ctx"


def test_another_class_of_that_name_is_not_taken_for_the_context():
    class ToolContext:
        pass

    def fn(ctx: ToolContext) -> None:
        return None

    fn.__annotations__ = {"ctx": ToolContext}
    assert Tool("a", fn, input_schema={"type": "object"}).context_parameter is None


def test_the_key_is_injected_and_never_in_the_schema():
    @tool(effect="write")
    def pay(amount: int, idempotency_key: str | None = None) -> str:
        return "paid"

    assert pay.takes_key
    assert pay.key_argument is None
    assert set(pay.input_schema["properties"]) == {"amount"}


def test_a_key_in_an_explicit_schema_is_the_model_s_to_give():
    schema = {"type": "object", "properties": {"idempotency_key": {"type": "string"}}}

    def pay(idempotency_key: str) -> str:
        return "paid"

    made = Tool("pay", pay, input_schema=schema)
    assert (made.takes_key, made.key_argument) == (False, "idempotency_key")
    assert Tool("pay", input_schema=schema).key_argument == "idempotency_key"


@pytest.mark.parametrize("fn", [None, print, max, dict, lambda **more: None])
def test_what_asks_for_nothing_gets_nothing(fn):
    made = Tool("a", fn)
    assert (made.context_parameter, made.takes_key, made.key_argument) == (None, False, None)


def two_contexts(one: ToolContext, two: ToolContext) -> None:
    return None


def by_position(ctx: ToolContext, /) -> None:
    return None


def as_rest(*ctx: ToolContext) -> None:
    return None


@pytest.mark.parametrize("fn", [two_contexts, by_position, as_rest])
def test_a_context_that_cannot_be_given_is_refused(fn):
    with pytest.raises(ToolDefinitionError, match="ToolContext"):
        Tool("a", fn)


def test_a_schema_that_asks_the_model_for_the_context_is_refused():
    schema = {"type": "object", "properties": {"context": {}}}
    with pytest.raises(ToolDefinitionError, match="'context'"):
        Tool("a", plain, input_schema=schema)
