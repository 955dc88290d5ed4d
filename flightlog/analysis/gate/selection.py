"""The two sides of a comparison: which runs a text such as `variant=candidate` means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from flightlog.analysis.db import Traces
from flightlog.errors import UnknownNameError, UsageError

FIELDS: Final = (
    "variant",
    "model",
    "agent",
    "agent_version",
    "suite",
    "source",
    "store",
    "tenant",
    "session_id",
    "origin",
    "golden",
    "git",
    "since",
    "until",
)
LABEL: Final = "label:"
GIT_LABEL: Final = "git_revision"
"""Label of a run that names the commit it was made from; replay and gate set it."""
_MOMENTS: Final = {"since": ">=", "until": "<"}


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on a run.

    Attributes:
        field: column of the view `runs`; `label:KEY` for a label; `git` for the commit;
            `since` and `until` for the time of the start.
        value: what the column must hold; of a commit the beginning is enough.
    """

    field: str
    value: str

    @property
    def label(self) -> str | None:
        """Key of the label; None for a column."""
        return self.field.removeprefix(LABEL) if self.field.startswith(LABEL) else None


@dataclass(frozen=True, slots=True)
class Side:
    """Runs for which all terms hold.

    Attributes:
        text: as the user wrote it.
        terms: at least one condition, each on another field.
        without_store: store whose runs are not meant; a pinned baseline keeps to itself.
        trials: only trials of a lower number; the first so many of each task.
    """

    text: str
    terms: tuple[Term, ...]
    without_store: str | None = None
    trials: int | None = None

    @classmethod
    def parse(cls, text: str) -> Side:
        """The side that a text means: `FIELD=VALUE` joined by commas; a bare word is a variant.

        Raises:
            UsageError: an empty part, an empty value, or one field twice.
            UnknownNameError: a field that runs cannot be chosen by.
        """
        terms = tuple(_term(part.strip(), text) for part in text.split(","))
        fields = [term.field for term in terms]
        for field in fields:
            if fields.count(field) > 1:
                raise UsageError(
                    f"side {text!r} sets {field} twice", hint="a run has one value of it"
                )
        return cls(text, terms)

    def condition(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """The side as an SQL condition on `runs`, and the values of its parameters.

        Forks are left out where no term names an origin: a part of them is another run's.

        Args:
            prefix: of the parameters' names; two sides in one query need two.
        """
        parts: list[str] = []
        values: dict[str, Any] = {}
        for number, term in enumerate(self.terms):
            name = f"{prefix}_{number}"
            values[name] = term.value
            if term.field in _MOMENTS:
                values[name] = moment(term.value)
                parts.append(f"coalesce(started_at {_MOMENTS[term.field]} ${name}, false)")
            elif term.field == "git":
                parts.append(f"coalesce(starts_with(labels['{GIT_LABEL}'], ${name}), false)")
            else:
                if term.label is not None:
                    values[f"{name}_key"] = term.label
                parts.append(f"coalesce({_column(term, f'{name}_key')} = ${name}, false)")
        if self.trials is not None:
            values[f"{prefix}_trials"] = self.trials
            parts.append(f"coalesce(trial < ${prefix}_trials, false)")
        if self.without_store is not None:
            values[f"{prefix}_without"] = self.without_store
            parts.append(f"store <> ${prefix}_without")
        if not any(term.field == "origin" for term in self.terms):
            parts.append("origin IS DISTINCT FROM 'fork'")
        return " AND ".join(parts), values

    def check_known(self, traces: Traces) -> None:
        """Refuses a value that no run carries.

        Raises:
            UnknownNameError: with the nearest values that runs do carry.
        """
        for term in self.terms:
            if term.field in _MOMENTS:
                continue
            known = _known(traces, term)
            is_known = term.value in known
            if term.field == "git":
                is_known = any(one.startswith(term.value) for one in known)
            if not is_known:
                raise UnknownNameError.of(
                    term.field,
                    term.value,
                    known,
                    where=", ".join(traces.stores),
                    hint="" if known else f"No run has a {term.field}.",
                )


def _term(part: str, text: str) -> Term:
    field, sign, value = part.partition("=")
    if not sign:
        field, value = "variant", part
    field, value = field.strip(), value.strip()
    if not value or (sign and not field) or field == LABEL:
        raise UsageError(
            f"side {text!r} has an empty part",
            hint="write variant=NAME, or FIELD=VALUE parts joined by commas",
        )
    if field not in FIELDS and not field.startswith(LABEL):
        known = (*FIELDS, f"{LABEL}KEY")
        raise UnknownNameError.of("field", field, known, where=f"side {text!r}")
    if field in _MOMENTS:
        moment(value)
    return Term(field, str(Path(value)) if field == "store" else value)


def moment(text: str) -> datetime:
    """A date or time, UTC unless it says otherwise, as the views hold it.

    Raises:
        UsageError: no such date.
    """
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no date or time", hint="Write 2026-11-01, or 2026-11-01T08:30."
        ) from error


def _column(term: Term, key: str) -> str:
    return f"labels[${key}]" if term.label is not None else term.field


def _known(traces: Traces, term: Term) -> list[str]:
    column = f"labels['{GIT_LABEL}']" if term.field == "git" else _column(term, "key")
    values = {} if term.label is None else {"key": term.label}
    query = f"SELECT DISTINCT {column} AS v FROM runs WHERE v IS NOT NULL ORDER BY v"  # noqa: S608
    return [str(row["v"]) for row in traces.rows(query, values)]
