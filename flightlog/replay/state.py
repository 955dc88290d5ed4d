"""Scopes and versions: which writes an answer may depend on.

A tool declares the scopes that it touches. The state of the world, as far as a
replay can know it, is a version per scope: a hash chain over the successful
writes to it, by content and not by count. Two runs that made the same writes in
the same order have the same versions; nothing else does.

    scope       a write to it is seen by           a read of it sees
    p:x         reads of p:x, of p:*, of *         writes to p:x, to p:*, to *
    p:*         reads of any p:..., of *           writes to any p:..., to *
    p           reads of p, of *                   writes to p, to *
    *           every read                         every write

Where a scope cannot be resolved (a missing argument, arguments that are not
JSON, a result that lacks the field) it is widened to its collection `p:*`: a
write then changes, and a read then sees, every p. Wider is always safe; it only
costs misses. A value `*` in an argument counts as the whole collection.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flightlog.errors import ToolDefinitionError
from flightlog.trace.canonical import canonical_json, digest_of

EVERYTHING: Final = "*"
_START: Final = "0"
_TAINTED: Final = "?"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")


@dataclass(frozen=True, slots=True)
class ScopeTemplate:
    """One declared scope.

    Attributes:
        text: as declared, such as `order:{order_id}` or `order:{result.id}`.
        prefix: the literal part before the colon; the whole text where there is none.
        fields: the paths of its placeholders, in order.
    """

    text: str
    prefix: str
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, *, where: str = "") -> ScopeTemplate:
        """The template of a declared scope.

        Raises:
            ToolDefinitionError: empty, unbalanced braces, a placeholder that is no path,
                a placeholder before the colon, or a `*` that is not a whole part.
        """
        prefix, colon, rest = text.partition(":")
        fields = tuple(_PLACEHOLDER.findall(rest))
        literal = _PLACEHOLDER.sub("", rest)
        problem = ""
        if text != EVERYTHING and (not prefix or set(prefix) & set("{}*")):
            problem = "the part before ':' must be a plain name"
        elif colon and not rest:
            problem = "nothing follows ':'"
        elif set(literal) & set("{}"):
            problem = "its braces do not match"
        elif "*" in literal and rest != "*":
            problem = "'*' must be the whole part after ':'"
        elif bad := [field for field in fields if not _FIELD.fullmatch(field)]:
            problem = f"'{{{bad[0]}}}' does not name an argument or a field of the result"
        if problem:
            raise ToolDefinitionError(
                f"scope {text!r} cannot be used: {problem}",
                where=where,
                hint="Scopes look like 'order:{order_id}', 'order:{result.id}', 'user:*', "
                "'queue' or '*'.",
            )
        return cls(text, prefix, fields)

    @property
    def needs_result(self) -> bool:
        """True when a placeholder names a field of the result."""
        return any(field.split(".")[0] == "result" for field in self.fields)

    def resolve(self, values: Mapping[str, Any]) -> list[str]:
        """The scopes that it stands for; a list value stands for one scope per item."""
        if not self.fields:
            return [self.text]
        found = [_texts_at(values, field.split(".")) for field in self.fields]
        if any(not texts or EVERYTHING in texts for texts in found):
            return [f"{self.prefix}:*"]
        literals = _PLACEHOLDER.split(self.text)[::2]
        return [
            "".join(map("".join, zip(literals, (*chosen, ""), strict=True)))
            for chosen in itertools.product(*found)
        ]


def parse_result(result: str | None) -> Any:
    """The value of an observation: parsed JSON, else the text itself."""
    if result is None:
        return None
    try:
        return json.loads(result)
    except (ValueError, RecursionError):
        return result


def resolve_scopes(templates: Iterable[ScopeTemplate], values: Mapping[str, Any]) -> list[str]:
    """All scopes of the templates, each once, sorted."""
    return sorted({scope for template in templates for scope in template.resolve(values)})


class WorldState:
    """The versions of all scopes at one moment of one run."""

    def __init__(self) -> None:
        self._one: dict[str, str] = {}
        self._every: dict[str, str] = {}
        self._any: dict[str, str] = {}
        self._star = _START
        self._total = _START

    def copy(self) -> WorldState:
        """The same versions, which go on by themselves."""
        other = WorldState()
        other._one, other._every = dict(self._one), dict(self._every)
        other._any, other._star, other._total = dict(self._any), self._star, self._total
        return other

    def signature(self, scopes: Sequence[str]) -> str | None:
        """What a call that touches these scopes may depend on.

        Returns:
            Scopes with their versions as one text; None when a write of unknown outcome
            touched one of them, so that nobody can know its state.
        """
        parts: list[str] = []
        for scope in scopes:
            versions = self._seen(scope)
            if _TAINTED in versions:
                return None
            parts.append(f"{scope}@{'.'.join(versions)}")
        return "\n".join(parts)

    def apply(self, scopes: Sequence[str], *, content: str) -> None:
        """A successful write.

        The link of the chain holds the versions of all scopes that the write touched,
        because its effect on one may depend on another, and so that the order of a
        write to one and a write to all stays visible.

        Args:
            scopes: resolved scopes; empty changes nothing.
            content: digest of tool, arguments and result.
        """
        before = self.signature(scopes)
        self._chain(scopes, _TAINTED if before is None else digest_of(content, before))

    def is_initial(self, scopes: Sequence[str]) -> bool:
        """True while no write, known or in doubt, has touched any of these scopes."""
        return all(version == _START for scope in scopes for version in self._seen(scope))

    def taint(self, scopes: Sequence[str]) -> None:
        """A write that may or may not have happened: nothing there can be known any more."""
        self._chain(scopes, _TAINTED)

    def _seen(self, scope: str) -> tuple[str, ...]:
        if scope == EVERYTHING:
            return (self._total,)
        prefix, colon, name = scope.partition(":")
        if colon and name == "*":
            return (self._any.get(prefix, _START), self._star)
        one = self._one.get(scope, _START)
        return (one, self._every.get(prefix, _START), self._star) if colon else (one, self._star)

    def _chain(self, scopes: Sequence[str], link: str) -> None:
        if not scopes:
            return
        collections: set[str] = set()
        for scope in scopes:
            prefix, colon, name = scope.partition(":")
            if scope == EVERYTHING:
                self._star = _linked(self._star, link)
            elif colon and name == "*":
                self._every[prefix] = _linked(self._every.get(prefix, _START), link)
            else:
                self._one[scope] = _linked(self._one.get(scope, _START), link)
            if colon:
                collections.add(prefix)
        for prefix in collections:
            self._any[prefix] = _linked(self._any.get(prefix, _START), link)
        self._total = _linked(self._total, link)


def _linked(version: str, link: str) -> str:
    return _TAINTED if _TAINTED in (version, link) else digest_of(version, link)


def _texts_at(values: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    node: Any = values
    for name in path:
        if isinstance(node, Mapping):
            node = node.get(name)
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return []
    items = node if isinstance(node, list) else [node]
    texts = [_text_of(item) for item in items]
    return [] if None in texts else [text for text in texts if text is not None]


def _text_of(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, (bool, int, float)):
        return canonical_json(value)
    return None
