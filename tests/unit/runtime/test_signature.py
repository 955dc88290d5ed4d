"""Signatures: what plain JSON becomes before the call, and what the result becomes after."""

import asyncio
import dataclasses
import datetime
import enum
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, field_validator

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.injected import injected_by
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.signature import schema_of
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool, is_async, tool
from flightlog.testing import asking
from flightlog.trace.vocab import Outcome


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime | None = None
    seen: list[Colour] = dataclasses.field(default_factory=list)


class Note(TypedDict):
    text: str
    day: NotRequired[datetime.date]


class Item(BaseModel):
    sku: str
    count: int = Field(1, ge=1)


class Order(BaseModel):
    """An order of the shop."""

    model_config = ConfigDict(strict=True)

    id: str
    day: datetime.date
    items: list[Item] = []

    @field_validator("id")
    @classmethod
    def known(cls, value: str) -> str:
        if not value.startswith("A"):
            raise ValueError("no such order")
        return value


class Branch(BaseModel):
    name: str
    below: list["Branch"] = []


OrderId = NewType("OrderId", str)
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


def made_of(hint: Any, value: Any) -> Any:
    """What a function gets whose one parameter has the annotation."""

    def keep(x):
        return [x]

    keep.__annotations__ = {"x": hint}
    made = tool(keep)
    assert made.input_check.problem_of({"x": value}) is None
    inner = getattr(made.fn, "__wrapped__", None)
    got: list[Any] = []
    if inner is None:
        return made.fn(x=value)[0]

    def catch(x):
        got.append(x)

    catch.__annotations__ = {"x": hint}
    tool(catch).fn(x=value)
    return got[0]


@pytest.mark.parametrize(
    ("hint", "value", "wanted"),
    [
        (Colour, "red", Colour.RED),
        (Colour | None, None, None),
        (Optional[Colour], "blue", Colour.BLUE),  # noqa: UP045
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.datetime, "2026-01-02T12:00:00Z", NOON),
        (datetime.time, "12:30", datetime.time(12, 30)),
        (Point, {"x": 1}, Point(1)),
        (
            Point,
            {"x": 1, "at": "2026-01-02T12:00:00+00:00", "seen": ["red"]},
            Point(1, NOON, [Colour.RED]),
        ),
        (Note, {"text": "a", "day": "2026-01-02"}, {"text": "a", "day": datetime.date(2026, 1, 2)}),
        (list[Point], [{"x": 1}, {"x": 2}], [Point(1), Point(2)]),
        (Sequence[int], [1, 2], [1, 2]),
        (tuple[Colour, ...], ["red"], (Colour.RED,)),
        (dict[str, Colour], {"a": "red"}, {"a": Colour.RED}),
        (int | Point, {"x": 1}, Point(1)),
        (int | Point, 7, 7),
        (str | datetime.date, "2026-01-02", "2026-01-02"),
        (datetime.date | str, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.date | str, "someday", "someday"),
        (OrderId, "A1", "A1"),
        (Item, {"sku": "a"}, Item(sku="a", count=1)),
        (Order, {"id": "A1", "day": "2026-01-02"}, Order(id="A1", day=datetime.date(2026, 1, 2))),
        (Item | None, None, None),
        (list[Item], [{"sku": "a"}], [Item(sku="a")]),
        (Item | Branch, {"name": "a"}, Branch(name="a")),
        (Annotated[Item, "the item"], {"sku": "a"}, Item(sku="a")),
        (Literal["a", None], None, None),
    ],
)
def test_a_plain_value_becomes_what_the_annotation_names(hint, value, wanted):
    got = made_of(hint, value)
    assert got == wanted
    assert type(got) is type(wanted)


class Positive(BaseModel):
    n: Annotated[int, Field(gt=0, description="how many")]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Annotated[int, "how many"], {"type": "integer", "description": "how many"}),
        (
            Annotated[int, Field(ge=1, le=5, description="how many")],
            {"type": "integer", "minimum": 1, "maximum": 5, "description": "how many"},
        ),
        (
            Annotated[str, Field(min_length=2, pattern="^a")],
            {"type": "string", "minLength": 2, "pattern": "^a"},
        ),
        (
            Annotated[list[int], Field(max_length=3)],
            {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        ),
        (Annotated[int, object()], {"type": "integer"}),
        (Colour, {"enum": ["red", "blue"]}),
        (datetime.date, {"type": "string", "format": "date"}),
        (
            Note,
            {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "day": {"type": "string", "format": "date"},
                },
                "required": ["text"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_richer_annotations_become_schemas(hint, schema):
    def fn(x):
        return x

    fn.__annotations__ = {"x": hint}
    assert schema_of(fn)["properties"] == {"x": schema}


def test_models_share_one_place_for_their_definitions():
    def fn(order: Order, branch: Branch, more: list[Item]) -> None:
        return None

    schema = schema_of(fn)
    assert set(schema["$defs"]) == {"Item", "Branch"}
    Draft202012Validator.check_schema(schema)
    made = tool(fn)
    good = {
        "order": {"id": "A1", "day": "2026-01-02", "items": [{"sku": "a"}]},
        "branch": {"name": "a", "below": [{"name": "b"}]},
        "more": [],
    }
    assert made.input_check.problem_of(good) is None
    good["branch"]["below"][0]["name"] = 5
    assert made.input_check.problem_of(good) == "branch.below.0.name: 5 is not of type 'string'"


def test_definitions_of_one_name_and_different_content_are_kept_apart():
    def model_of(kind):
        part = type("Part", (BaseModel,), {"__annotations__": {"value": kind}})
        return type("Whole", (BaseModel,), {"__annotations__": {"part": part}})

    def fn(one, two, three):
        return None

    fn.__annotations__ = {"one": model_of(int), "two": model_of(str), "three": model_of(int)}
    schema = schema_of(fn)
    assert set(schema["$defs"]) == {"Part", "Part_2"}
    made = tool(fn)
    one, two = {"part": {"value": 1}}, {"part": {"value": "a"}}
    assert made.input_check.problem_of({"one": one, "two": two, "three": one}) is None
    assert made.input_check.problem_of({"one": two, "two": two, "three": one}) is not None
    assert made.input_check.problem_of({"one": one, "two": one, "three": one}) is not None


def test_what_the_schema_cannot_say_is_invalid_input_too_and_one_line():
    @tool
    def read(order: Order, day: datetime.date | None = None) -> str:
        return "ok"

    problem = read.input_check.problem_of({"order": {"id": "B", "day": "2026-01-02"}})
    assert problem == "id: Value error, no such order"
    good = {"id": "A", "day": "2026-01-02"}
    problem = read.input_check.problem_of({"order": good, "day": "someday"})
    assert problem is not None
    assert "someday" in problem


def test_defaults_are_plain_in_the_schema():
    def fn(colour: Colour = Colour.RED, point: Point = Point(1)) -> None:  # noqa: B008
        return None

    properties = schema_of(fn)["properties"]
    assert properties["colour"]["default"] == "red"
    assert properties["point"]["default"] == {"x": 1, "at": None, "seen": []}


@tool
def by_model() -> Item:
    return Item(sku="a")


@tool
async def by_model_later(item: Item) -> list[Item]:
    return [item]


@tool
def by_dataclass() -> Point:
    return Point(1, NOON, [Colour.RED])


def test_results_are_plain_and_async_functions_stay_async():
    assert by_model.fn() == {"sku": "a", "count": 1}
    assert is_async(by_model_later.fn)
    assert asyncio.run(by_model_later.fn(item={"sku": "a"})) == [{"sku": "a", "count": 1}]
    assert by_dataclass.fn() == {"x": 1, "at": NOON.isoformat(), "seen": ["red"]}


def test_a_model_as_result_gives_the_output_schema_unless_told_otherwise():
    assert by_model.output_schema["properties"]["count"]["minimum"] == 1
    assert by_model_later.output_schema is None

    @tool(output_schema=None)
    def quiet() -> Item:
        return Item(sku="a")

    assert quiet.output_schema is None


def test_a_function_of_plain_values_is_left_as_it_is():
    def fn(x: int) -> dict[str, Any]:
        return {}

    assert tool(fn).fn is fn


def test_a_result_under_an_alias_fits_its_own_schema():
    class Aliased(BaseModel):
        celsius: float = Field(serialization_alias="degreesCelsius")

    def fn():
        return Aliased(celsius=1.5)

    fn.__annotations__ = {"return": Aliased}
    made = tool(fn)
    assert made.output_check.problem_of(made.fn()) is None
    assert made.fn() == {"degreesCelsius": 1.5}


def test_a_tool_of_one_model_takes_its_fields_as_arguments():
    def save(order: Order, context: ToolContext, idempotency_key: str) -> Item:
        assert isinstance(order, Order)
        return Item(sku=f"{order.id} {context.run_id} {idempotency_key}")

    made = Tool.from_pydantic(Order, save, effect="write")
    assert (made.name, made.description) == ("save", "An order of the shop.")
    assert (made.context_parameter, made.takes_key) == ("context", True)
    assert set(made.input_schema["properties"]) == {"id", "day", "items"}
    context = ToolContext("run", "save", 1)
    values = {"id": "A1", "day": "2026-01-02", "context": context, "idempotency_key": "k"}
    assert made.fn(**values) == {"sku": "A1 run k", "count": 1}
    assert made.input_check.problem_of({"id": "B", "day": "2026-01-02"}) is not None


def test_a_model_that_contains_itself_has_its_fields_at_the_top():
    made = Tool.from_pydantic(Branch, lambda branch: branch.below, name="below")
    assert set(made.input_schema["properties"]) == {"name", "below"}
    assert made.fn(name="a", below=[{"name": "b"}]) == [{"name": "b", "below": []}]


def test_a_key_that_is_a_field_of_the_model_stays_the_model_s():
    class Pay(BaseModel):
        idempotency_key: str

    def pay(pay: Pay) -> str:
        return pay.idempotency_key

    pay.__annotations__["pay"] = Pay
    made = Tool.from_pydantic(Pay, pay)
    assert (made.takes_key, made.key_argument) == (False, "idempotency_key")
    assert made.fn(idempotency_key="k") == "k"


def needs_more(item: Item, other: int) -> None:
    return None


def takes_nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("model", "fn", "what"),
    [
        (dict, needs_more, "not a pydantic model"),
        (Item, needs_more, "needs other beside the model"),
        (Item, takes_nothing, "no parameter for the model"),
    ],
)
def test_a_function_without_a_place_for_the_model_is_refused(model, fn, what):
    with pytest.raises(ToolDefinitionError, match=what):
        Tool.from_pydantic(model, fn)


@dataclasses.dataclass
class Endless:
    inner: "Endless | None" = None


class Odd(enum.Enum):
    PAIR = (1, 2)


class Opaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: ToolContext


@pytest.mark.parametrize("hint", [Endless, Odd, Opaque, set[int], bytes, complex, list[set[int]]])
def test_an_annotation_without_a_json_form_is_refused_with_a_way_out(hint):
    def fn(x):
        return x

    fn.__annotations__ = {"x": hint}
    with pytest.raises(ToolDefinitionError) as error:
        tool(fn)
    assert "parameter 'x'" in error.value.where
    assert error.value.hint


def test_the_gateway_refuses_what_the_model_refuses_and_calls_nothing(play, rows):
    calls = []

    @tool(effect="write")
    def save(order: Order, context: ToolContext) -> Item:
        calls.append((order, context.tool))
        return Item(sku=order.id)

    order = {"id": "A1", "day": "2026-01-02"}
    play(
        [
            asking(("save", {"order": {**order, "id": "B"}})),
            asking(("save", {"order": order})),
            asking(("save", {"order": order, "context": {}})),
            ModelResponse("done"),
        ],
        [save],
        policy=Policy(["save"], approver=approve_all),
    )
    assert [(row.outcome, row.result) for row in rows("tool_call")] == [
        (Outcome.INVALID_INPUT, None),
        (Outcome.OK, '{"count":1,"sku":"A1"}'),
        (Outcome.INVALID_INPUT, None),
    ]
    assert calls == [(Order(id="A1", day=datetime.date(2026, 1, 2)), "save")]


def cyclic() -> list[Point]:
    value: list[Any] = []
    value += [value, value]
    return value


def deep() -> list[Point]:
    value: list[Any] = []
    for _ in range(1_000):
        value = [value]
    return value


def endless_number() -> Point:
    return Point(float("nan"))


def endless_model() -> Item:
    return Item.model_construct(sku="a", count=float("inf"))


def bare_cycle():
    return cyclic()


def bare_depth():
    return deep()


def bare_infinity():
    return {"a": [float("-inf")]}


def a_set():
    return {1, 2}


@pytest.mark.parametrize(
    "fn",
    [cyclic, deep, endless_number, endless_model, bare_cycle, bare_depth, bare_infinity, a_set],
)
def test_a_result_without_a_json_form_is_an_invalid_output(play, rows, fn):
    play([asking((fn.__name__, {})), ModelResponse("done")], [tool(fn)])
    assert [row.outcome for row in rows("tool_call")] == [Outcome.INVALID_OUTPUT]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_an_argument_that_is_no_finite_number_is_refused(play, rows, number):
    @tool
    def add(x: float) -> float:
        raise AssertionError

    play([asking(("add", f'{{"x": {number}}}')), ModelResponse("done")], [add])
    [row] = rows("tool_call")
    assert (row.outcome, row.error_type) == (Outcome.INVALID_INPUT, "non_finite")


def test_a_wrapped_function_keeps_its_injected_parameters():
    @tool
    def read(item: Item, ctx: ToolContext | None = None) -> str:
        return "ok"

    assert injected_by(read.fn).context == "ctx"
