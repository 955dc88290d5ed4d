"""The questions that come with flightlog: one SQL file each, values as parameters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from flightlog.analysis.sql_files import QUESTIONS_FOLDER, SqlFile, sql_file, sql_names
from flightlog.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

GROUPINGS = ("source", "suite", "model", "variant", "agent", "tenant")
PERIODS = ("minute", "hour", "day", "week", "month")


class Question:
    """One question: its text, parameters, columns, and how to ask it.

    Attributes:
        name: as in `flightlog/analysis/sql/questions/<name>.sql`.
        title: the question in one sentence.
        file: the SQL with its header taken apart.
    """

    def __init__(self, file: SqlFile) -> None:
        self.name = file.name
        self.title = file.title.partition("?")[0] + "?"
        self.file = file

    def ask(
        self, traces: Traces, *, by: str | None = None, **values: str | datetime | None
    ) -> pa.Table:
        """The answer, ordered; columns as the header of the SQL file lists them.

        Args:
            traces: the stores to ask.
            by: comma-separated list of source, suite, model, variant, agent, tenant to group by;
                None for one group.
            values: the other parameters; those left out are null, which means all.

        Raises:
            UnknownNameError: a parameter, grouping or period that there is not.
            UsageError: a time that is none.
        """
        known = [entry.name for entry in self.file.parameters]
        for name in values:
            if name not in known:
                raise UnknownNameError.of("parameter", name, known, where=f"question {self.name}")
        groups = [part.strip() for part in by.split(",")] if by else []
        for group in groups:
            if group not in GROUPINGS:
                raise UnknownNameError.of("grouping", group, GROUPINGS)
        if (every := values.get("every")) is not None and every not in PERIODS:
            raise UnknownNameError.of("period", str(every), PERIODS)
        filled: dict[str, str | datetime | None] = {
            **dict.fromkeys(known),
            **{name: _moment(name, value) for name, value in values.items()},
        }
        if "by" in known:
            filled["by"] = ",".join(groups) or None
        return traces.table(self.file.sql, filled)


def _moment(name: str, value: str | datetime | None) -> str | datetime | None:
    """A moment in UTC without a zone, as the views have them; other values as they are."""
    if name not in ("since", "until") or value is None:
        return value
    if isinstance(value, str):
        text = value
        try:
            value = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(
                f"{name} is {text[:40]!r}, which is no time", hint="Such as 2026-11-23T08:00."
            ) from error
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def question_names() -> tuple[str, ...]:
    """Names of all questions, sorted."""
    return sql_names(QUESTIONS_FOLDER)


def questions() -> tuple[Question, ...]:
    """All questions, by name."""
    return tuple(question(name) for name in question_names())


def question(name: str) -> Question:
    """The question of that name.

    Raises:
        UnknownNameError: there is none; the hint names the nearest.
    """
    return Question(sql_file(QUESTIONS_FOLDER, name))


def without_empty_groups(answer: pa.Table) -> pa.Table:
    """The answer without grouping columns that are null in every row, for showing it."""
    empty = [
        name
        for name in GROUPINGS
        if name in answer.column_names and answer.column(name).null_count == answer.num_rows
    ]
    return answer.drop_columns(empty)
