"""The documentation page of all views, columns and questions, made from their sources.

Write it anew with `python -m flightlog.analysis.columns_page > docs/columns.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from flightlog.analysis.questions import questions
from flightlog.analysis.sql_files import VIEW_KEYS, VIEWS_FOLDER, Entry, sql_file
from flightlog.analysis.views import connect
from flightlog.recorder.store import Snapshot
from flightlog.trace.schema import columns, events_schema, messages_schema

_INTRO = """\
# Views and their columns

What `flightlog sql`, `flightlog ask` and `flightlog.open(store)` read. The views are
version 1: columns are added, never renamed or given another meaning. This page is made from
the event definitions and the SQL files; do not edit it.

* Null is unknown (or does not apply), never zero. A sum is null when a part of it is unknown.
* Times are UTC without a zone. The column `"at"` has to be quoted, since AT is a word of SQL.
* Counts, sums and latencies of a run are over its agent's own calls (`actor = 'agent'`); calls of
  a simulated user and of judges are in `model_calls`, `tool_calls` and `events`.
* With several stores every view is their union; join on `store` and `run_id`.
"""
_QUESTIONS = """\
## Questions

`flightlog ask <question> -p model=... -p by=variant`. All of them take the parameters
`source`, `suite`, `model`, `variant`, `agent` and `tenant` (only such runs; all when left out),
`since` and `until`, and `by`, a comma-separated list of the first six to group by,
which are then the first columns.
"""


def columns_page() -> str:
    """The page as Markdown: one table per view, one per question."""
    return "\n".join([_INTRO, *_views(), _QUESTIONS, *_questions()])


def undocumented() -> list[str]:
    """Columns of views that neither the SQL header nor the events describe; should be empty."""
    return [
        f"{view}.{name}"
        for view, rows in _described().items()
        for name, _, entry in rows
        if entry is None
    ]


def _views() -> Iterator[str]:
    for view, rows in _described().items():
        lines = [f"## {view}\n", sql_file(VIEWS_FOLDER, view).title + "\n"]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {kind} | {(entry and entry.unit) or ''} | {_sentence(entry)} |"
            for name, kind, entry in rows
        ]
        yield "\n".join(lines) + "\n"


def _questions() -> Iterator[str]:
    for question in questions():
        lines = [f"### {question.name}\n", question.file.title + "\n"]
        lines += ["| column | unit | meaning |", "|---|---|---|"]
        lines += [
            f"| `{entry.name}` | {entry.unit or ''} | {_sentence(entry)} |"
            for entry in question.file.columns
            if not entry.description.startswith("group;")
        ]
        yield "\n".join(lines) + "\n"


def view_columns() -> dict[str, tuple[str, ...]]:
    """Names of the views -> their columns, in order."""
    return {view: tuple(name for name, _, _ in rows) for view, rows in _described().items()}


def _described() -> dict[str, list[tuple[str, str, Entry | None]]]:
    """For each view its columns: name, SQL type, description."""
    empty = Snapshot((), (), events_schema().empty_table(), messages_schema().empty_table(), ())
    born = {one.name: Entry(one.name, one.unit, one.description) for one in columns()}
    found = {}
    with connect({"empty": empty}) as connection:
        for view in VIEW_KEYS:
            header = {entry.name: entry for entry in sql_file(VIEWS_FOLDER, view).columns}
            relation = connection.view(view)
            found[view] = [
                (name, str(kind), header.get(name) or born.get(name))
                for name, kind in zip(relation.columns, relation.types, strict=True)
            ]
    return found


def _sentence(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = entry.description.replace("|", "\\|").rstrip(".")
    is_word = text.split()[0].isalpha()
    return (text[:1].upper() + text[1:] if is_word else text) + "."


if __name__ == "__main__":
    sys.stdout.write(columns_page())
