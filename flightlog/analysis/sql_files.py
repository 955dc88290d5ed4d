"""The SQL files of the package and the headers that document them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from flightlog.errors import UnknownNameError

VIEWS_FOLDER = "views_v1"
QUESTIONS_FOLDER = "questions"
VIEW_KEYS: dict[str, tuple[str, ...]] = {
    "runs": ("store", "run_id"),
    "steps": ("store", "run_id", "step"),
    "model_calls": ("store", "run_id", "seq"),
    "tool_calls": ("store", "run_id", "seq"),
    "messages": ("store", "run_id", "seq", "position", "direction"),
    "budgets": ("store", "run_id", "scope", "budget"),
    "writes": ("store", "run_id", "seq"),
    "findings": ("store", "run_id", "finding", "seq", "tool_name", "detail", "times"),
    "events": ("store", "run_id", "seq", "kind"),
}
"""The views of version 1, each with the columns that order its rows; runs comes first
because others are built on it."""

_SECTION = re.compile(r"^(Parameters|Columns):$")
_ENTRY = re.compile(r"^  (\w+)(?: \[([^\]]+)\])?: (.+)$")
_CONTINUED = re.compile(r"^    (\S.*)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented parameter or column of an SQL file.

    Attributes:
        name: as in the SQL.
        unit: unit of its values; None where it has none.
        description: what it is.
    """

    name: str
    unit: str | None
    description: str


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One SQL file with its header taken apart.

    Attributes:
        name: file name without `.sql`.
        title: what a row is, or the question that the file answers.
        parameters: named prepared parameters, in order.
        columns: documented columns, in order.
        sql: the whole text; one SELECT statement.
    """

    name: str
    title: str
    parameters: tuple[Entry, ...]
    columns: tuple[Entry, ...]
    sql: str


def sql_names(folder: str) -> tuple[str, ...]:
    """Names of the SQL files of a folder, sorted."""
    found = resources.files("flightlog.analysis").joinpath("sql", folder).iterdir()
    return tuple(sorted(item.name[: -len(".sql")] for item in found if item.name.endswith(".sql")))


@lru_cache(maxsize=64)
def sql_file(folder: str, name: str) -> SqlFile:
    """The SQL file of that name.

    Raises:
        UnknownNameError: there is none; the hint names the nearest.
    """
    known = sql_names(folder)
    if name not in known:
        raise UnknownNameError.of("question", name, known)
    return parsed(name, sql_text(folder, f"{name}.sql"))


def sql_text(*parts: str) -> str:
    """The text of one file under `analysis/sql`."""
    path = resources.files("flightlog.analysis").joinpath("sql", *parts)
    return path.read_text(encoding="utf-8")


def parsed(name: str, text: str) -> SqlFile:
    """Takes the header comment of an SQL file apart.

    Raises:
        ValueError: a header line that is no title, section, entry or continuation.
    """
    title: list[str] = []
    sections: dict[str, list[Entry]] = {"Parameters": [], "Columns": []}
    section = ""
    for raw in text.splitlines():
        if not raw.startswith("--"):
            break
        line = raw[3:].rstrip()
        if not line:
            continue
        if found := _SECTION.match(line):
            section = found[1]
        elif not section:
            title.append(line)
        elif found := _ENTRY.match(line):
            sections[section].append(Entry(found[1], found[2], found[3]))
        elif (found := _CONTINUED.match(line)) and sections[section]:
            last = sections[section][-1]
            sections[section][-1] = Entry(last.name, last.unit, f"{last.description} {found[1]}")
        else:
            raise ValueError(f"{name}.sql: header line not understood: {line!r}")
    return SqlFile(
        name, " ".join(title), tuple(sections["Parameters"]), tuple(sections["Columns"]), text
    )
