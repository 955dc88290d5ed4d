"""What a word in a query can go on as: views, columns, keywords, questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_KEYWORDS: Final = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "GROUP BY ALL", "ORDER BY", "HAVING", "LIMIT", "JOIN",
    "LEFT JOIN", "USING", "ON", "AND", "OR", "NOT", "NULL", "IS NULL", "IS NOT NULL", "IN", "LIKE",
    "BETWEEN", "CASE WHEN", "THEN", "ELSE", "END", "AS", "WITH", "UNION ALL", "DISTINCT", "FILTER",
    "OVER", "PARTITION BY", "QUALIFY", "DESC", "DESCRIBE", "SUMMARIZE", "count(", "sum(", "avg(",
    "min(", "max(", "quantile_cont(", "date_trunc(", "coalesce(", "list(", "arg_max(", "arg_min(",
)  # fmt: skip
COMMANDS: Final = {
    ".ask": "ask a ready question: .ask stop_reasons",
    ".columns": "columns of a view: .columns runs",
    ".explain": "plan of a query: .explain SELECT ...",
    ".format": "how answers are shown: .format table, csv or json",
    ".help": "these commands",
    ".limit": "rows at most: .limit 50, or .limit none",
    ".questions": "the ready questions",
    ".quit": "leave; so does Ctrl-D",
    ".tables": "the views",
}
_WORD: Final = re.compile(r"[\w.]*$")
_AFTER_FROM: Final = re.compile(r"\b(?:from|join|describe|summarize)\s+\w*$", re.IGNORECASE)
_DOTTED: Final = re.compile(r"(\w+)\.(\w*)$")
_ALIAS: Final = re.compile(
    r"\b(?:from|join)\s+(\w+)(?:\s+(?:as\s+)?(?!using\b|on\b|where\b|group\b|order\b|join\b)(\w+))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Completion:
    """One way to go on.

    Attributes:
        text: what the word becomes.
        length: how many characters before the cursor it takes the place of.
        about: what it is.
    """

    text: str
    length: int
    about: str


def completions(
    before: str, views: Mapping[str, Sequence[str]], questions: Sequence[str]
) -> Iterator[Completion]:
    """How the text before the cursor can go on.

    Args:
        before: the text before the cursor.
        views: names of the views -> their columns.
        questions: names of the ready questions.
    """
    if before.lstrip().startswith("."):
        yield from _of_commands(before.lstrip(), views, questions)
        return
    if found := _DOTTED.search(before):
        named = {alias or view: view for view, alias in _ALIAS.findall(before)}
        view = str(named.get(found[1]) or found[1])
        yield from _beginning(found[2], dict.fromkeys(views.get(view, ()), view))
        return
    word = _WORD.search(before)
    typed = word[0] if word else ""
    if not typed:
        return
    if _AFTER_FROM.search(before):
        yield from _beginning(typed, dict.fromkeys(views, "view"))
        return
    used = [view for view, _ in _ALIAS.findall(before) if view in views] or list(views)
    columns = {name: view for view in reversed(used) for name in views[view]}
    yield from _beginning(typed, dict.fromkeys(views, "view"))
    yield from _beginning(typed, columns)
    yield from _beginning(typed, dict.fromkeys(_KEYWORDS, "SQL"))


def _of_commands(
    text: str, views: Mapping[str, Sequence[str]], questions: Sequence[str]
) -> Iterator[Completion]:
    command, space, rest = text.partition(" ")
    if not space:
        yield from _beginning(command, COMMANDS)
    elif command == ".ask":
        yield from _beginning(rest, dict.fromkeys(questions, "question"))
    elif command == ".columns":
        yield from _beginning(rest, dict.fromkeys(views, "view"))
    elif command == ".format":
        yield from _beginning(rest, dict.fromkeys(("table", "csv", "json"), "format"))


def _beginning(typed: str, known: Mapping[str, str]) -> Iterator[Completion]:
    for name, about in known.items():
        if name.lower().startswith(typed.lower()) and name.lower() != typed.lower():
            yield Completion(name, len(typed), about)
