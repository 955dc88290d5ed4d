"""The lint of JSON Schemas: what could hang, explode or mean something else is refused.

A schema comes from a developer, or from a server that nobody here knows. It is
read once, when the tool is declared; what passes can be checked in bounded time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from flightlog.errors import ToolDefinitionError
from flightlog.runtime.schema_graph import Graph, Node
from flightlog.runtime.schema_patterns import MAX_COMPILED_BYTES, PatternError, pattern_of
from flightlog.trace.canonical import canonical_json

MAX_SCHEMA_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 64
MAX_SUBSCHEMAS: Final = 5_000
MAX_DYNAMIC: Final = 64
"""Most subschemas with `$dynamicRef`, each of which may mean any of the anchors."""
MAX_PARTS: Final = 500_000
MAX_PATTERNS_KIB: Final = 8 * 1024
"""Largest size of all compiled patterns of one schema, KiB."""

MAX_CHAIN: Final = 64
"""Longest chain of subschemas over one value, through references, allOf, anyOf and the like."""

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_OLDER: Final = frozenset(
    {
        "http://json-schema.org/schema",
        "http://json-schema.org/draft-04/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
    }
)
_RENAMED: Final = {
    "additionalItems": "write prefixItems and items",
    "dependencies": "write dependentRequired or dependentSchemas",
    "$recursiveRef": "write $dynamicRef, or $ref",
    "$recursiveAnchor": "write $dynamicAnchor",
}


@dataclass(frozen=True, slots=True)
class LintedSchema:
    """A schema that passed.

    Attributes:
        schema: a plain copy, without `$schema`.
        graph: its subschemas and how they refer to each other.
        pattern_kib: size of all its compiled regular expressions, KiB.
    """

    schema: dict[str, Any]
    graph: Graph
    pattern_kib: int


def schema_text(schema: Mapping[str, Any], *, where: str) -> str:
    """The schema as canonical JSON.

    Raises:
        ToolDefinitionError: it is no JSON object, holds what JSON lacks, or is too large.
    """
    if not isinstance(schema, Mapping):
        raise _refused(f"a {type(schema).__name__}", where, hint="A schema is a JSON object.")
    if _depth(schema) > MAX_DEPTH:
        raise _refused(
            f"nested deeper than {MAX_DEPTH} levels, or of more than {MAX_PARTS} parts",
            where,
            hint="Move inner and repeated parts to $defs and refer to them.",
        )
    try:
        text = canonical_json(dict(schema))
        size = len(text.encode())
    except (ValueError, TypeError) as error:
        raise _refused(str(error), where, hint="A schema is plain JSON.") from error
    if size > MAX_SCHEMA_BYTES:
        raise _refused(
            f"{size} bytes, more than {MAX_SCHEMA_BYTES}",
            where,
            hint="Check long lists of values in the tool itself.",
        )
    return text


def linted(text: str, *, where: str) -> LintedSchema:
    """Reads a schema and proves that checks against it are bounded.

    Raises:
        ToolDefinitionError: it is malformed, of an unknown draft, refers to what is
            not in it or to itself without an end, or has a pattern that is not
            linear; the message names the place inside the schema.
    """
    schema: dict[str, Any] = json.loads(text)
    _check_draft(schema.pop("$schema", DRAFT), where)
    if text.count('"$dynamicRef"') > MAX_DYNAMIC:
        raise _refused(
            f"more than {MAX_DYNAMIC} subschemas with $dynamicRef", where, hint="Use $ref."
        )
    graph = Graph(schema)
    if len(graph.nodes) > MAX_SUBSCHEMAS:
        raise _refused(
            f"{len(graph.nodes)} subschemas, more than {MAX_SUBSCHEMAS}",
            where,
            hint="Declare the common parts once, in $defs.",
        )
    for node in graph.nodes:
        _check_keywords(node, where)
        if node.parent is None:  # the top, and what only a reference makes a schema
            _check_metaschema(node, where)
    for missing in graph.missing:
        raise _refused(
            f"{missing.place}: refers to {missing.reference!r}, which is not in it",
            where,
            hint="Copy what it refers to into $defs; nothing is ever fetched.",
        )
    kib = _check_patterns(graph, where)
    if graph.in_place_cycle is not None:
        raise _refused(
            f"{graph.in_place_cycle.place}: refers to itself without going down into the value",
            where,
            hint="Put the reference under properties, items or another keyword that goes down.",
        )
    if graph.in_place_height > MAX_CHAIN:
        raise _refused(
            f"a chain of {graph.in_place_height} subschemas over one value, more than {MAX_CHAIN}",
            where,
            hint="Join some of the references, or of the nested allOf, anyOf and oneOf.",
        )
    return LintedSchema(schema, graph, kib)


def _refused(what: str, where: str, *, hint: str) -> ToolDefinitionError:
    return ToolDefinitionError(f"not a JSON Schema: {what}", where=where, hint=hint)


def _depth(value: Any) -> int:
    """Levels of nesting, counted no further than just above the limits.

    One object at several places counts at each: written as JSON it stands there too.
    """
    level, depth, parts = [value], 0, 0
    while level and depth <= MAX_DEPTH and parts <= MAX_PARTS:
        depth += 1
        parts += len(level)
        level = [
            item
            for one in level
            if isinstance(one, (Mapping, list, tuple))
            for item in (one.values() if isinstance(one, Mapping) else one)
        ]
    return depth if parts <= MAX_PARTS else MAX_DEPTH + 1


def _check_draft(draft: Any, where: str) -> None:
    name = draft.removesuffix("#") if isinstance(draft, str) else draft
    if name != DRAFT and name not in _OLDER:
        raise _refused(
            f"$schema: unknown draft {draft!r}",
            where,
            hint=f"Leave $schema out, or write {DRAFT!r}.",
        )


def _check_keywords(node: Node, where: str) -> None:
    """Refuses what older drafts meant: today it would be passed over in silence."""
    for keyword, instead in _RENAMED.items():
        if keyword in node.schema:
            raise _refused(
                f"{node.place_of(keyword)}: a keyword of an older draft",
                where,
                hint=f"Draft 2020-12 has another: {instead}.",
            )
    if isinstance(node.schema.get("items"), list):
        raise _refused(
            f"{node.place_of('items')}: a list of schemas, as in older drafts",
            where,
            hint="Write prefixItems.",
        )
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(node.schema.get(keyword), bool):
            raise _refused(
                f"{node.place_of(keyword)}: true or false, as in draft 4",
                where,
                hint="Give the limit itself, a number.",
            )
    if "$schema" in node.schema:
        raise _refused(
            f"{node.place_of('$schema')}: another draft inside a schema",
            where,
            hint="Remove it: the whole schema has one draft.",
        )


def _check_metaschema(node: Node, where: str) -> None:
    if jsonschema_rs.meta.is_valid(dict(node.schema)):
        return
    from flightlog.runtime.schema_keywords import schema_error  # noqa: PLC0415  - slow to load

    error = schema_error(node.schema)
    if error is None:  # what the other finds is a regular expression: told by its place later
        return
    path = ".".join([*node.path, *map(str, error.absolute_path)])
    raise _refused(
        f"{path or 'the schema'}: {error.message[:500]}",
        where,
        hint="Write it as JSON Schema, draft 2020-12.",
    )


def _check_patterns(graph: Graph, where: str) -> int:
    """Proves the regular expressions linear, and gives the size of all together, KiB."""
    seen: set[str] = set()
    kib = 0
    for node in graph.nodes:
        found = [("patternProperties", one) for one in node.schema.get("patternProperties", ())]
        if "pattern" in node.schema:
            found.append(("pattern", node.schema["pattern"]))
        for keyword, text in found:
            if text in seen:
                continue
            seen.add(text)
            try:
                kib += pattern_of(text).kib
            except PatternError as error:
                raise _refused(
                    f"{node.place_of(keyword)}: the pattern {text!r} cannot be matched in linear "
                    "time",
                    where,
                    hint="Use neither look-around nor back-references nor \\Z, and at most "
                    f"{MAX_COMPILED_BYTES // 2**20} MiB when compiled; for lengths there are "
                    "minLength and maxLength.",
                ) from error
            if kib > MAX_PATTERNS_KIB:
                raise _refused(
                    f"{node.place_of(keyword)}: patterns of {kib} KiB in all when compiled, more "
                    f"than {MAX_PATTERNS_KIB}",
                    where,
                    hint="Use minLength and maxLength in place of long repetitions.",
                )
        if "patternProperties" in node.schema and graph.has("unevaluatedProperties"):
            raise _refused(
                f"{node.place_of('patternProperties')}: in one schema with unevaluatedProperties",
                where,
                hint="Use additionalProperties in its place.",
            )
    return kib
