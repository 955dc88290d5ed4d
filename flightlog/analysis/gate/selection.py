"""The two sides of a comparison: which runs a text such as `variant=candidate` means."""

from __future__ import annotations

from dataclasses import dataclass
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
)
LABEL: Final = "label:"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on a run.

    Attributes:
        field: column of the view `runs`; `label:KEY` for a label.
        value: what the column must hold.
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
    """

    text: str
    terms: tuple[Term, ...]

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
        parts, values = [], {}
        for number, term in enumerate(self.terms):
            name = f"{prefix}_{number}"
            values[name] = term.value
            if term.label is not None:
                values[f"{name}_key"] = term.label
            parts.append(f"coalesce({_column(term, f'{name}_key')} = ${name}, false)")
        if not any(term.field == "origin" for term in self.terms):
            parts.append("origin IS DISTINCT FROM 'fork'")
        return " AND ".join(parts), values

    def check_known(self, traces: Traces) -> None:
        """Refuses a value that no run carries.

        Raises:
            UnknownNameError: with the nearest values that runs do carry.
        """
        for term in self.terms:
            known = _known(traces, term)
            if term.value not in known:
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
    return Term(field, str(Path(value)) if field == "store" else value)


def _column(term: Term, key: str) -> str:
    return f"labels[${key}]" if term.label is not None else term.field


def _known(traces: Traces, term: Term) -> list[str]:
    column = _column(term, "key")
    values = {} if term.label is None else {"key": term.label}
    query = f"SELECT DISTINCT {column} AS v FROM runs WHERE v IS NOT NULL ORDER BY v"  # noqa: S608
    return [str(row["v"]) for row in traces.rows(query, values)]
