"""Microseconds per schema check, beside plain jsonschema and plain jsonschema-rs.

    python benchmarks/validation.py [--repeat 25]

`flightlog` is what the gateway calls: bounded in time, linear patterns, the problem in
words. `jsonschema` is `Draft202012Validator.is_valid`, `jsonschema-rs` the same of that
library; both are made once per schema. Medians over interleaved rounds. The last table
gives what a hostile check costs: there the others have no limit, and only ours is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jsonschema
import jsonschema_rs
from _timing import rounds, table

from flightlog.runtime.schemas import SchemaCheck

ROW = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z][0-9]+$"},
        "price": {"type": "number", "minimum": 0},
        "state": {"enum": ["open", "paid", "sent"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
    },
    "required": ["id", "price"],
    "additionalProperties": False,
}
CALL = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "limit": {"type": "integer", "minimum": 0}},
    "required": ["order_id"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#"}}},
}


def row(place: int) -> dict[str, Any]:
    return {"id": f"A{place}", "price": place * 1.5, "state": "paid", "tags": ["a", "b"]}


def tree(levels: int) -> dict[str, Any]:
    below = [tree(levels - 1) for _ in range(2)] if levels else []
    return {"name": "n", "below": below}


def ways(levels: int) -> dict[str, Any]:
    """A schema with 2 to the power of `levels` ways through `anyOf`."""
    defs: dict[str, Any] = {"n0": {"type": "integer"}}
    for level in range(1, levels):
        below = {"$ref": f"#/$defs/n{level - 1}"}
        defs[f"n{level}"] = {"anyOf": [below, below]}
    return {"$ref": f"#/$defs/n{levels - 1}", "$defs": defs}


CASES: dict[str, tuple[dict[str, Any], Any, int]] = {
    "arguments of a call, valid": (CALL, {"order_id": "A1", "limit": 5}, 200),
    "arguments of a call, invalid": (CALL, {"order_id": 1}, 50),
    "50 rows, valid": ({"type": "array", "items": ROW}, [row(i) for i in range(50)], 10),
    "50 rows, last invalid": (
        {"type": "array", "items": ROW},
        [*(row(i) for i in range(49)), {}],
        10,
    ),
    "recursive, 31 nodes, valid": (TREE, tree(4), 10),
}
HOSTILE: dict[str, tuple[dict[str, Any], Any]] = {
    "anyOf, 2^28 ways": (ways(28), "x"),
    "pattern ^(a+)+$, 100,000 characters": ({"pattern": "^(a+)+$"}, "a" * 100_000 + "b"),
    "uniqueItems, 20,000 objects": ({"uniqueItems": True}, [{"a": i} for i in range(20_000)]),
    "recursive, 2,000 deep": ({"items": {"$ref": "#"}}, None),
}


def times(number: int, check: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(number):
            check()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=25)
    options = parser.parse_args()
    lines = []
    for name, (schema, value, number) in CASES.items():
        ours = SchemaCheck(schema, where="benchmark")
        plain = jsonschema.Draft202012Validator(schema)
        rust = jsonschema_rs.Draft202012Validator(schema)
        verdicts = {ours.problem_of(value) is None, plain.is_valid(value), rust.is_valid(value)}
        if len(verdicts) != 1:
            raise SystemExit(f"{name}: the verdicts differ")
        seconds = rounds(
            {
                "flightlog": times(number, lambda o=ours, v=value: o.problem_of(v)),  # type: ignore[misc]
                "jsonschema": times(number, lambda p=plain, v=value: p.is_valid(v)),  # type: ignore[misc]
                "jsonschema-rs": times(number, lambda r=rust, v=value: r.is_valid(v)),  # type: ignore[misc]
            },
            repeat=options.repeat,
        )
        us = {kind: seconds[kind] / number * 1e6 for kind in seconds}
        lines.append((name, *(f"{one:.2f}" for one in us.values())))
    print(table(lines, header=("us per check", "flightlog", "jsonschema", "jsonschema-rs")))
    print()
    deep: list[Any] = []
    for _ in range(2_000):
        deep = [deep]
    lines = []
    for name, (schema, value) in HOSTILE.items():
        check = SchemaCheck(schema, where="benchmark")
        given = deep if value is None else value
        seconds = rounds({"ours": times(1, lambda c=check, v=given: c.problem_of(v))}, repeat=5)  # type: ignore[misc]
        problem = check.problem_of(given) or "valid"
        words = problem if len(problem) < 60 else f"... {problem[-50:]}"
        lines.append((name, f"{seconds['ours'] * 1e3:.1f}", words))
    print(table(lines, header=("hostile", "ms", "verdict")))


if __name__ == "__main__":
    main()
