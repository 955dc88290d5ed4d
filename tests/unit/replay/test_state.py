"""Scopes, versions, and what is seen by whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import ToolDefinitionError
from flightlog.replay.state import (
    ScopeTemplate,
    WorldState,
    parse_result,
    resolve_scopes,
)

READS = ("p:x", "p:y", "p:*", "q", "q:z", "*")
SEEN = {
    "p:x": {"p:x", "p:*", "*"},
    "p:*": {"p:x", "p:y", "p:*", "*"},
    "q": {"q", "*"},
    "q:z": {"q:z", "*"},
    "*": set(READS),
}


@pytest.mark.parametrize("written", sorted(SEEN))
def test_a_write_is_seen_by_the_reads_of_the_table_and_by_no_other(written: str) -> None:
    state = WorldState()
    before = {scope: state.signature([scope]) for scope in READS}
    state.apply([written], content="c")
    changed = {scope for scope in READS if state.signature([scope]) != before[scope]}
    assert changed == SEEN[written]


@pytest.mark.parametrize("written", sorted(SEEN))
def test_a_taint_is_seen_by_the_same_reads(written: str) -> None:
    state = WorldState()
    state.taint([written])
    assert {scope for scope in READS if state.signature([scope]) is None} == SEEN[written]


def test_a_later_write_does_not_clear_a_taint() -> None:
    state = WorldState()
    state.taint(["p:x"])
    state.apply(["p:x", "q"], content="c")
    assert state.signature(["p:x"]) is None
    assert state.signature(["q"]) is None


def test_versions_count_content_not_writes() -> None:
    one, same, other = WorldState(), WorldState(), WorldState()
    for state, content in ((one, "a"), (same, "a"), (other, "b")):
        state.apply(["p:x"], content=content)
    assert one.signature(["p:x"]) == same.signature(["p:x"]) != other.signature(["p:x"])


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [("p:x", "p:*", "p:x"), ("p:x", "*", "p:x"), ("q", "*", "q"), ("p:x", "p:x", "p:*")],
)
def test_the_order_of_two_writes_that_touch_each_other_stays_visible(
    first: str, second: str, read: str
) -> None:
    signatures = []
    for order in ([(first, "1"), (second, "2")], [(second, "2"), (first, "1")]):
        state = WorldState()
        for scope, content in order:
            state.apply([scope], content=content)
        signatures.append(state.signature([read]))
    assert signatures[0] != signatures[1]


def test_writes_to_scopes_apart_commute() -> None:
    signatures = []
    for order in (("p:x", "q"), ("q", "p:x")):
        state = WorldState()
        for scope in order:
            state.apply([scope], content=scope)
        signatures.append(state.signature(["p:x", "q"]))
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":x",
        "order:",
        "order:{",
        "order:{}",
        "order:}id{",
        "order:{a b}",
        "{kind}:{id}",
        "{id}",
        "order:{id}*",
        "*:x",
        "order:eu-*",
        "**",
    ],
)
def test_a_scope_that_cannot_be_used_is_refused_when_it_is_declared(text: str) -> None:
    with pytest.raises(ToolDefinitionError, match="cannot be used") as caught:
        ScopeTemplate.parse(text, where="tools.yaml:3")
    assert caught.value.where == "tools.yaml:3"
    assert "order:{order_id}" in caught.value.hint


@pytest.mark.parametrize(
    ("template", "values", "scopes"),
    [
        ("order:{id}", {"id": "A1"}, ["order:A1"]),
        ("order:{id}", {"id": 7}, ["order:7"]),
        ("order:{id}", {"id": True}, ["order:true"]),
        ("order:{id}", {"id": "a:b"}, ["order:a:b"]),
        ("order:{ids}", {"ids": ["a", "b", "a"]}, ["order:a", "order:b"]),
        ("seat:{flight}/{day}", {"flight": "F1", "day": "mon"}, ["seat:F1/mon"]),
        ("order:{o.id}", {"o": {"id": "A1"}}, ["order:A1"]),
        ("order:{result.items.0.id}", {"result": {"items": [{"id": "z"}]}}, ["order:z"]),
        ("order:{result}", {"result": "A1"}, ["order:A1"]),
        ("order:{a}/{b}", {"a": "{b}", "b": "x"}, ["order:{b}/x"]),
        ("queue", {}, ["queue"]),
        ("order:*", {}, ["order:*"]),
    ],
)
def test_templates_are_filled_from_arguments_and_result(
    template: str, values: dict[str, object], scopes: list[str]
) -> None:
    assert resolve_scopes([ScopeTemplate.parse(template)], values) == scopes


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"id": None},
        {"id": ""},
        {"id": {"deep": 1}},
        {"id": []},
        {"id": ["a", None]},
        {"id": "*"},
        {"id": ["a", "*"]},
    ],
)
def test_a_scope_that_cannot_be_resolved_widens_to_its_collection(
    values: dict[str, object],
) -> None:
    assert ScopeTemplate.parse("order:{id}").resolve(values) == ["order:*"]


def test_a_star_in_one_of_two_placeholders_widens_too() -> None:
    template = ScopeTemplate.parse("seat:{flight}/{day}")
    assert template.resolve({"flight": "*", "day": "mon"}) == ["seat:*"]


@given(st.text())
def test_no_argument_value_leaves_its_prefix(value: str) -> None:
    for scope in ScopeTemplate.parse("order:{id}").resolve({"id": value}):
        assert scope.startswith("order:")


def test_a_result_that_is_not_json_is_its_own_text() -> None:
    assert parse_result("A1") == "A1"
    assert parse_result('{"id": 1}') == {"id": 1}
    assert parse_result(None) is None
    assert parse_result("[" * 100_000) == "[" * 100_000
