"""Schema checks: exact, by name of the place, and never over the network."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.schema_keywords import MAX_UNEVALUATED_ITEMS
from flightlog.runtime.schema_lint import linted, schema_text
from flightlog.runtime.schema_quick import QuickYes
from flightlog.runtime.schemas import SchemaCheck


def problem_of(value, schema):
    return SchemaCheck(schema, where="test").problem_of(value)


def problem_of_text(text, schema):
    return SchemaCheck(schema, where="test").problem_of_text(text)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": {"b": [1, 2]}}, None),
        ({"a": {"b": [1, "x"]}}, "a.b.1: 'x' is not of type 'integer'"),
        ({}, "'a' is a required property"),
    ],
)
def test_problem_names_the_place(value, problem):
    inner = {"type": "array", "items": {"type": "integer"}}
    schema = {"required": ["a"], "properties": {"a": {"properties": {"b": inner}}}}
    assert problem_of(value, schema) == problem


def test_long_problem_is_cut():
    assert len(problem_of("x" * 10_000, {"type": "integer"})) < 600


def test_a_remote_reference_is_refused_at_definition_and_never_fetched():
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments):
            return None

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/schema.json"
        with pytest.raises(ToolDefinitionError, match="which is not in it"):
            SchemaCheck({"properties": {"a": {"$ref": url}}}, where="test")
        server.shutdown()
        thread.join()
    assert asked == []


def test_reference_inside_the_schema_is_followed():
    schema = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert problem_of(1, schema) is None
    assert problem_of("x", schema) == "'x' is not of type 'integer'"


@pytest.mark.parametrize(
    ("text", "schema", "is_valid"),
    [
        ("plain", {"type": "string"}, True),
        ('{"a":1}', {"type": "string"}, True),
        ('{"a":1}', {"type": "object"}, True),
        ("plain", {"type": "object"}, False),
        ("[1]", {"type": "array"}, True),
        ("5", {"type": "integer"}, True),
        ("5.5", {"type": "integer"}, False),
        ("null", {"type": "null"}, True),
        ("plain", {"type": ["string", "null"]}, True),
        ("null", {"type": ["object", "null"]}, True),
        ("plain", {"type": ["object", "null"]}, False),
        ("plain", {}, True),
        ('{"a":1}', {"required": ["a"]}, True),
        ('{"b":1}', {"anyOf": [{"type": "string", "minLength": 99}, {"type": "null"}]}, False),
        ("[" * 100_000, {"type": "array"}, False),
    ],
)
def test_observation_is_checked_as_text_or_as_json_by_the_type(text, schema, is_valid):
    assert (problem_of_text(text, schema) is None) is is_valid


def nested_any_of(levels):
    """Two ways from each level to the next: 2 to the power of `levels` ways to the last."""
    defs = {"n0": {"type": "integer"}}
    for level in range(1, levels):
        below = {"$ref": f"#/$defs/n{level - 1}"}
        defs[f"n{level}"] = {"anyOf": [below, below]}
    return {"$ref": f"#/$defs/n{levels - 1}", "$defs": defs}


TREE = {"type": "array", "items": {"$ref": "#"}}


def test_a_check_that_explodes_ends_at_its_limit_and_finds_the_value_wrong():
    check = SchemaCheck(nested_any_of(28), where="test", limit_s=0.05)
    assert check.problem_of("x") == "the check against the schema took longer than 0.05 s"
    assert check.problem_of(1) is None


def test_the_limit_is_a_quarter_of_a_second_where_none_is_given():
    assert "0.25 s" in problem_of("x", nested_any_of(28))


def test_a_recursive_schema_over_a_value_too_deep_is_a_problem_and_no_crash():
    value = []
    for _ in range(100_000):
        value = [value]
    assert problem_of(value, TREE) == "nested too deeply to be checked"
    assert problem_of([[], [[]]], TREE) is None


def test_a_huge_array_under_a_schema_without_a_bound_is_cut():
    check = SchemaCheck({"items": {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}}, where="test")
    assert "too many" in check.problem_of([0] * 200_000)
    assert "took longer" in SchemaCheck(TREE, where="test", limit_s=0.01).problem_of([[]] * 50_000)


@pytest.mark.parametrize(
    ("items", "is_valid"),
    [
        ([{"a": i} for i in range(20_000)], True),
        ([*({"a": i} for i in range(20_000)), {"a": 0.0}], False),
        ([1, True, "1", [1], None, {"1": 1}], True),
        ([1, 1.0], False),
        ([[1, {"a": []}], [1.0, {"a": []}]], False),
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
    ],
)
@pytest.mark.parametrize("more", [{}, {"$ref": "#/$defs/a", "$defs": {"a": {"items": {}}}}, TREE])
def test_unique_items_are_told_in_linear_time(items, is_valid, more):
    schema = {**more, "uniqueItems": True}
    if more is TREE:
        schema = {"anyOf": [{"uniqueItems": True}, {"not": {"type": "array"}}], "not": {"const": 0}}
    check = SchemaCheck(schema, where="test", limit_s=30)
    assert (check.problem_of(items) is None) is is_valid


def test_unevaluated_items_of_a_long_array_are_not_counted_in_square_time():
    schema = {"prefixItems": [{}], "unevaluatedItems": {"type": "integer"}}
    assert problem_of([0, 1], schema) is None
    assert problem_of([0, "x"], schema) is not None
    assert "too many" in problem_of([0] * (MAX_UNEVALUATED_ITEMS + 1), schema)


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties", "propertyNames"])
def test_a_pattern_that_makes_others_backtrack_is_matched_in_linear_time(keyword):
    text = "a" * 50_000 + "b"
    bad = "^(a+)+$"
    if keyword == "pattern":
        assert "does not match" in problem_of(text, {"pattern": bad})
    elif keyword == "patternProperties":
        schema = {"patternProperties": {bad: False}, "additionalProperties": False}
        assert "unexpected" in problem_of({text: 1}, schema)
        assert problem_of({"aa": 1}, schema) is not None
    else:
        assert "does not match" in problem_of({text: 1}, {"propertyNames": {"pattern": bad}})


def test_a_text_too_long_for_a_large_pattern_is_a_problem():
    schema = {"pattern": "^[ab]*a[ab]{500}c$"}
    assert "too long for the pattern" in problem_of("ab" * 500_000, schema)
    assert problem_of("ab" * 300, schema).endswith("does not match '^[ab]*a[ab]{500}c$'")


def test_a_lone_surrogate_and_foreign_values_are_judged_without_an_exception():
    assert problem_of("\ud800", {"type": "string", "pattern": "^.$"}) is None
    assert problem_of({"a": {1, 2}}, {"properties": {"a": {"type": "array"}}}) is not None
    assert problem_of(float("inf"), {"multipleOf": 0.5}) is not None
    assert problem_of(10**5_000, {"maximum": 1}) is not None
    cyclic: list = []
    cyclic.append(cyclic)
    assert problem_of(cyclic, TREE) == "nested too deeply to be checked"


@pytest.mark.parametrize(
    ("value", "factor", "is_valid"),
    [(19.99, 0.01, True), (0.3, 0.1, True), (0.35, 0.1, False), (7, 2, False), (10**400, 2, True)],
)
def test_multiples_are_exact_on_the_decimals_that_are_written(value, factor, is_valid):
    assert (problem_of(value, {"multipleOf": factor}) is None) is is_valid


def test_true_is_not_one():
    assert problem_of(True, {"enum": [1]}) is not None
    assert problem_of({"a": 0}, {"properties": {"a": {"const": False}}}) is not None
    assert problem_of(1.0, {"enum": [1]}) is None


def test_formats_are_annotations():
    assert problem_of("nonsense", {"format": "email"}) is None


def test_the_same_wrong_value_has_the_same_problem_text_in_every_process():
    schema = {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}
    code = (
        "from flightlog.runtime.schemas import SchemaCheck;"
        f"print(SchemaCheck({schema!r}, where='t').problem_of(dict.fromkeys('zyxwvut', 'no')))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert said == {"z: 'no' is not of type 'integer'\n"}


def deep_schema(levels):
    schema = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def doubled(levels):
    """One part at both places of each level: small in memory, endless as JSON."""
    schema = {"type": "integer"}
    for _ in range(levels):
        schema = {"allOf": [schema, schema]}
    return schema


CYCLIC = {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        (
            {"properties": {"a": {"$ref": "#/$defs/no"}}},
            "properties.a.$ref: refers to '#/$defs/no'",
        ),
        ({"$ref": "#/description", "description": "text"}, "$ref: refers to '#/description'"),
        ({"$ref": "#/allOf/x", "allOf": [{}]}, "$ref: refers to '#/allOf/x'"),
        ({"$ref": "other.json"}, "$ref: refers to 'other.json'"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "which is not in it"),
        ({"$ref": "#"}, "the schema: refers to itself"),
        ({"$dynamicRef": "#x", "$dynamicAnchor": "x"}, "refers to itself"),
        ({"$ref": "#/$defs/a", "$defs": CYCLIC}, "refers to itself without going down"),
        ({"pattern": "("}, "pattern: the pattern '(' cannot be matched in linear time"),
        ({"items": {"pattern": "(?=a)b"}}, "items.pattern: the pattern '(?=a)b'"),
        ({"pattern": r"(a)\1"}, "in linear time"),
        ({"patternProperties": {"(?<!a)b": {}}}, "patternProperties: the pattern '(?<!a)b'"),
        ({"pattern": "(((a{100}){100}){100}){100}"}, "in linear time"),
        (deep_schema(100), "nested deeper than 64 levels"),
        (deep_schema(100_000), "nested deeper than 64 levels"),
        ({"enum": ["x" * 300_000]}, "bytes, more than"),
        ({"properties": {f"p{i}": {} for i in range(6_000)}}, "6001 subschemas"),
        (nested_any_of(80), "over one value, more than 64"),
        (doubled(40), "of more than 500000 parts"),
        (
            {"allOf": [{"pattern": f"^.{{1,{400 + n}}}$"} for n in range(40)]},
            "KiB in all when compiled",
        ),
        (
            {"$defs": {f"d{n}": {"$dynamicRef": "#a", "$dynamicAnchor": "a"} for n in range(300)}},
            "subschemas with $dynamicRef",
        ),
        ({"minimum": float("nan")}, "not a JSON Schema"),
        ({"enum": [float("inf")]}, "not a JSON Schema"),
        ({"enum": [{1, 2}]}, "not a JSON Schema"),
        ({1: {}}, "not a JSON Schema"),
        ({"$schema": "https://json-schema.org/draft/2030-01/schema"}, "unknown draft"),
        ({"$schema": 7}, "unknown draft"),
        ({"items": {"$schema": "http://json-schema.org/draft-07/schema#"}}, "items.$schema"),
        ({"items": [{}, {}]}, "items: a list of schemas"),
        ({"items": {}, "additionalItems": False}, "additionalItems: a keyword of an older"),
        ({"dependencies": {"a": ["b"]}}, "dependencies: a keyword of an older draft"),
        ({"minimum": 1, "exclusiveMinimum": True}, "exclusiveMinimum: true or false"),
        ({"properties": {"a": {"type": "objekt"}}}, "properties.a.type: 'objekt'"),
        ({"$ref": "#/x/y", "x": {"y": {"type": "objekt"}}}, "$ref.type: 'objekt'"),
        (
            {"unevaluatedProperties": False, "patternProperties": {"a": {}}},
            "in one schema with unevaluatedProperties",
        ),
    ],
)
def test_the_lint_refuses_what_could_hang_or_mean_something_else(schema, what):
    with pytest.raises(ToolDefinitionError, match=re.escape(what)) as error:
        SchemaCheck(schema, where="test")
    assert error.value.where == "test"
    assert error.value.hint


def test_a_schema_of_an_older_draft_is_taken_where_nothing_in_it_changed_its_meaning():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/n"}},
        "definitions": {"n": {"type": "integer", "exclusiveMinimum": 0}},
    }
    assert problem_of({"a": 1}, schema) is None
    assert problem_of({"a": 0}, schema) == "a: 0 is less than or equal to the minimum of 0"


def test_references_by_anchor_by_id_and_by_place_are_followed():
    schema = {
        "$id": "https://example.org/top",
        "$defs": {
            "a": {"$anchor": "whole", "type": "integer"},
            "b": {"$id": "inner", "$defs": {"c": {"type": "string"}}, "$ref": "#/$defs/c"},
        },
        "prefixItems": [
            {"$ref": "#whole"},
            {"$ref": "https://example.org/inner"},
            {"$ref": "#/x-more/0"},
        ],
        "x-more": [{"type": "null"}],
    }
    assert problem_of([1, "a", None], schema) is None
    assert problem_of(["a", "a", None], schema) == "0: 'a' is not of type 'integer'"
    assert problem_of([1, 2, None], schema) == "1: 2 is not of type 'string'"
    assert problem_of([1, "a", 3], schema) == "2: 3 is not of type 'null'"


# The two validators: jsonschema's own verdict is the measure.

TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")
NAMES = st.sampled_from(["a", "b", "ab", "c", ""])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2, 3.5, 1.0, 0.1, 2**53, 2**60, 2.0**60, 1e300, 10**30]),
    st.sampled_from(["", "a", "ab", "aab", "1", "\u00e9", "\U0001f600", "a\n"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=8,
)
SMALL = st.integers(0, 3)
PATTERNS = st.sampled_from(["^a", "b$", "^(a|b)+$", "[0-9]", "^[^a]*$", "."])


def grown(inner):
    lists = st.lists(inner, min_size=1, max_size=3)
    maps = st.dictionaries(NAMES, inner, max_size=3)
    keywords = {
        "type": st.one_of(
            st.sampled_from(TYPES), st.lists(st.sampled_from(TYPES), min_size=1, unique=True)
        ),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        **{
            name: st.sampled_from([-1, 0, 1, 2.5, 2**60])
            for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
        },
        "multipleOf": st.sampled_from([1, 2, 3, 2**60]),
        **dict.fromkeys(
            ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
            SMALL,
        ),
        "pattern": PATTERNS,
        **dict.fromkeys(
            (
                "items",
                "contains",
                "additionalProperties",
                "propertyNames",
                "not",
                "if",
                "then",
                "else",
            ),
            inner,
        ),
        "minContains": SMALL,
        "maxContains": SMALL,
        "prefixItems": lists,
        "uniqueItems": st.booleans(),
        "properties": maps,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "required": st.lists(NAMES, unique=True, max_size=2),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, unique=True), max_size=2),
        "dependentSchemas": maps,
        **dict.fromkeys(("allOf", "anyOf", "oneOf"), lists),
        "$ref": st.sampled_from(["#/$defs/leaf", "#/$defs/tree", "#leaf"]),
        "format": st.just("email"),
        "default": values,
    }
    return st.dictionaries(
        st.sampled_from(sorted(keywords)), st.none(), min_size=1, max_size=4
    ).flatmap(lambda chosen: st.fixed_dictionaries({name: keywords[name] for name in chosen}))


schemas = st.recursive(st.one_of(st.booleans(), st.just({})), grown, max_leaves=6)
DEFS = {
    "leaf": {"$anchor": "leaf", "type": ["integer", "string"]},
    "tree": {"items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
}


@settings(max_examples=400)
@given(schemas, values)
def test_the_verdict_is_jsonschema_s_own(schema, value):
    whole = {**(schema if isinstance(schema, dict) else {"allOf": [schema]}), "$defs": DEFS}
    wanted = Draft202012Validator(whole).is_valid(value)
    assert (problem_of(value, whole) is None) is wanted


@settings(max_examples=200)
@given(schemas, values)
def test_the_quick_yes_is_never_wrong(schema, value):
    whole = {**(schema if isinstance(schema, dict) else {"allOf": [schema]})}
    whole["$defs"] = {"leaf": {"type": ["integer", "string"]}, "tree": {"maxItems": 2}}
    assume("#leaf" not in repr(whole))
    quick = QuickYes(linted(schema_text(whole, where="t"), where="t"))
    if quick.says(value):
        assert Draft202012Validator(whole).is_valid(value)
