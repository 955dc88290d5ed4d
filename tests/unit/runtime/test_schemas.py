"""Schema checks: exact, by name of the place, and never over the network."""

from __future__ import annotations

import http.server
import threading

import pytest

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


def test_remote_reference_is_never_fetched_and_finds_everything_wrong():
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
        problem = problem_of({}, {"$ref": url})
        server.shutdown()
        thread.join()
    assert asked == []
    assert problem == f"the schema refers to {url!r}, which is not in it; nothing is fetched"


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
