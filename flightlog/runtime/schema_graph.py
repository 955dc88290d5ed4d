"""The subschemas of a JSON Schema, and which of them look at the same value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

_IN_PLACE: Final = frozenset(
    ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas")
)
_ONE: Final = frozenset(
    (
        "not",
        "if",
        "then",
        "else",
        "items",
        "contains",
        "additionalProperties",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_LISTS: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS: Final = frozenset(
    ("dependentSchemas", "properties", "patternProperties", "$defs", "definitions")
)
_APART: Final = frozenset(("$defs", "definitions"))
_REFERENCES: Final = ("$ref", "$dynamicRef")
_ONE_OF_MANY: Final = frozenset(("properties", "prefixItems"))
"""Keywords of which one subschema at most looks at any one part of the value."""

_MOST: Final = 10**12


@dataclass(eq=False, slots=True)
class Node:
    """One subschema that is an object.

    Attributes:
        path: keywords and positions that lead to it from the top.
        parent: the subschema around it; None for the top and for what only a
            reference makes a schema.
        in_place: subschemas that look at the same value.
        down: subschemas that look at parts of the value, by keyword.
    """

    schema: Mapping[str, Any]
    path: tuple[str, ...] = ()
    parent: Node | None = None
    in_place: list[Node] = field(default_factory=list)
    down: dict[str, list[Node]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return ".".join(self.path) or "the schema"

    def all_below(self) -> list[Node]:
        """All subschemas that it leads to."""
        return [*self.in_place, *(one for found in self.down.values() for one in found)]

    def place_of(self, keyword: str) -> str:
        """Where one of its keywords stands, for a message."""
        return ".".join((*self.path, keyword))


@dataclass(frozen=True, slots=True)
class Missing:
    """A reference that leads nowhere, and its place."""

    place: str
    reference: str


class Graph:
    """All subschemas of one schema, the top first, joined by its references.

    Attributes:
        nodes: each subschema once.
        missing: references that lead nowhere.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.nodes: list[Node] = []
        self.missing: list[Missing] = []
        self._by_id: dict[int, Node] = {}
        self._resolvers: dict[int, Any] = {}
        self._add(schema, (), None)
        if self.has(*_REFERENCES):
            self._connect()

    def has(self, *keywords: str) -> bool:
        """True when a subschema has one of the keywords."""
        return any(keyword in node.schema for node in self.nodes for keyword in keywords)

    @cached_property
    def in_place_cycle(self) -> Node | None:
        """A subschema that comes back to itself on the same value; None without one."""
        return _first_in_cycle(self.nodes, lambda node: node.in_place)

    @cached_property
    def cycle(self) -> Node | None:
        """A subschema that comes back to itself at all; None without one."""
        return _first_in_cycle(self.nodes, Node.all_below)

    @cached_property
    def work(self) -> int | None:
        """Comparisons that one part of a value can cost at most; None where there is no limit.

        Counts every way that leads to a subschema: ten levels of `anyOf` with two
        references each to the level below are 1,024 ways to the last.
        """
        if self.cycle is not None:
            return None
        here: dict[int, int] = {}
        below: dict[int, int] = {}
        most: dict[int, int] = {}
        for node in _from_below(self.nodes, Node.all_below):
            own = 1 + sum(len(one) for one in node.schema.values() if isinstance(one, (list, dict)))
            here[id(node)] = min(_MOST, own + sum(here[id(one)] for one in node.in_place))
            parts = 0
            for keyword, found in node.down.items():
                works = [most[id(one)] for one in found]
                parts += max(works) if keyword in _ONE_OF_MANY else sum(works)
            below[id(node)] = min(_MOST, parts + sum(below[id(one)] for one in node.in_place))
            most[id(node)] = max(here[id(node)], below[id(node)])
        return most[id(self.nodes[0])]

    @cached_property
    def height(self) -> int:
        """Subschemas in the longest chain of one applied within another; there is no cycle."""
        return _height(self.nodes, Node.all_below)

    @cached_property
    def in_place_height(self) -> int:
        """The same for one and the same value; there is no cycle on one value."""
        return _height(self.nodes, lambda node: node.in_place)

    def _add(self, schema: Mapping[str, Any], path: tuple[str, ...], parent: Node | None) -> Node:
        node = Node(schema, path, parent)
        self.nodes.append(node)
        self._by_id[id(schema)] = node
        for keyword, inner in schema.items():
            found = [
                self._add(part, (*path, keyword, *more), node)
                for part, more in _subschemas(keyword, inner)
            ]
            if keyword in _IN_PLACE:
                node.in_place += found
            elif found and keyword not in _APART:
                node.down[keyword] = found
        return node

    def _connect(self) -> None:
        from referencing import Registry  # noqa: PLC0415  - most schemas refer to nothing
        from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

        top = DRAFT202012.create_resource(self.nodes[0].schema)
        self._resolvers[id(self.nodes[0])] = Registry().resolver_with_root(top)
        for node in self.nodes:  # grows while it is gone through
            for keyword in _REFERENCES:
                reference = node.schema.get(keyword)
                if isinstance(reference, str):
                    self._follow(node, keyword, reference)

    def _follow(self, node: Node, keyword: str, reference: str) -> None:
        from referencing.exceptions import Unresolvable  # noqa: PLC0415

        try:
            resolved = self._resolver_of(node).lookup(reference)
        except (Unresolvable, ValueError, TypeError, LookupError, AttributeError):
            # A pointer into a list or a text that is no such thing raises what Python raises.
            self.missing.append(Missing(node.place_of(keyword), reference))
            return
        target = resolved.contents
        if isinstance(target, bool):
            return
        if not isinstance(target, Mapping):
            self.missing.append(Missing(node.place_of(keyword), reference))
            return
        if id(target) not in self._by_id:
            self._resolvers[id(self._add(target, (*node.path, keyword), None))] = resolved.resolver
        node.in_place.append(self._by_id[id(target)])
        if keyword == "$dynamicRef":  # which of these it means is only known with the value
            anchor = reference.rpartition("#")[2]
            node.in_place += [
                one for one in self.nodes if one.schema.get("$dynamicAnchor") == anchor
            ]

    def _resolver_of(self, node: Node) -> Any:
        from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

        known = self._resolvers.get(id(node))
        if known is None:
            assert node.parent is not None
            resource = DRAFT202012.create_resource(node.schema)
            known = self._resolver_of(node.parent).in_subresource(resource)
            self._resolvers[id(node)] = known
        return known


def _subschemas(keyword: str, inner: Any) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    """The subschemas under one keyword that are objects, with the rest of their paths."""
    if keyword in _ONE:
        parts: list[tuple[Any, tuple[str, ...]]] = [(inner, ())]
    elif keyword in _LISTS and isinstance(inner, list):
        parts = [(one, (str(place),)) for place, one in enumerate(inner)]
    elif keyword in _MAPS and isinstance(inner, Mapping):
        parts = [(one, (name,)) for name, one in inner.items()]
    else:
        return
    for one, more in parts:
        if isinstance(one, Mapping):
            yield one, more


def _first_in_cycle(nodes: Sequence[Node], below: Callable[[Node], list[Node]]) -> Node | None:
    """Depth first without recursion, since references can make very long chains."""
    done: set[int] = set()
    for start in nodes:
        open_: set[int] = set()
        stack = [(start, False)]
        while stack:
            node, is_leaving = stack.pop()
            if is_leaving:
                open_.discard(id(node))
                done.add(id(node))
            elif id(node) in open_:
                return node
            elif id(node) not in done:
                open_.add(id(node))
                stack.append((node, True))
                stack += [(one, False) for one in below(node)]
    return None


def _height(nodes: Sequence[Node], below: Callable[[Node], list[Node]]) -> int:
    heights: dict[int, int] = {}
    for node in _from_below(nodes, below):
        heights[id(node)] = 1 + max((heights[id(one)] for one in below(node)), default=0)
    return max(heights.values())


def _from_below(nodes: Sequence[Node], below: Callable[[Node], list[Node]]) -> list[Node]:
    """The nodes so that each comes after all that it leads to; there is no cycle."""
    order: list[Node] = []
    seen: set[int] = set()
    stack = [(node, False) for node in nodes]
    while stack:
        node, is_leaving = stack.pop()
        if is_leaving:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(one, False) for one in below(node)]
    return order
