"""Whose request it is: what its path and its headers say of the run that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from flightlog.errors import UsageError
from flightlog.trace.canonical import clean_text

PREFIX: Final = "x-flightlog-"
"""Headers that are meant for the proxy; none of them goes on to the provider."""
RUN_PATH: Final = "/run/"
MAX_NAME_CHARS: Final = 200
_COLUMNS: Final = {
    "agent": "agent",
    "agent-version": "agent_version",
    "suite": "suite",
    "task": "task_id",
    "variant": "variant",
    "session": "session_id",
    "tenant": "tenant",
    "subject": "data_subject",
    "parent": "parent_run_id",
}
_CREDENTIALS: Final = ("authorization", "x-api-key", "api-key")


@dataclass(frozen=True, slots=True)
class Who:
    """The run that a request names, and what it says of it.

    Attributes:
        run: the name; None where it names none.
        columns: of the run's start.
        scope: tells the callers of one proxy apart; is never written anywhere.
    """

    run: str | None
    columns: Mapping[str, Any]
    scope: str


def split_path(path: str) -> tuple[str | None, str]:
    """The run that a path names before the API's own path, and that path.

    Raises:
        UsageError: a name that cannot be one.
    """
    if not path.startswith(RUN_PATH):
        return None, path
    name, slash, rest = path.removeprefix(RUN_PATH).partition("/")
    return _name(unquote(name), "the path"), slash + rest


def who_of(headers: Mapping[str, str], name: str | None) -> Who:
    """What the headers say; a name in the path goes before theirs.

    Args:
        headers: names in lower case.
        name: out of the path.

    Raises:
        UsageError: a header that is not what its name says.
    """
    given = headers.get(f"{PREFIX}run")
    columns: dict[str, Any] = {
        column: _name(unquote(headers[f"{PREFIX}{header}"]), f"{PREFIX}{header}")
        for header, column in _COLUMNS.items()
        if f"{PREFIX}{header}" in headers
    }
    if (trial := headers.get(f"{PREFIX}trial")) is not None:
        if not (trial.isdecimal() and len(trial) < 10):
            raise UsageError(f"{PREFIX}trial: {trial[:40]!r} is no number", hint="Give 0, 1, ...")
        columns["trial"] = int(trial)
    credentials = "\n".join(headers.get(one, "") for one in _CREDENTIALS)
    return Who(
        run=name if name is not None or given is None else _name(unquote(given), f"{PREFIX}run"),
        columns=columns,
        scope=hashlib.sha256(credentials.encode("utf-8", "replace")).hexdigest(),
    )


def _name(text: str, where: str) -> str:
    if not text.strip() or len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise UsageError(
            f"{where}: a name of 1 to {MAX_NAME_CHARS} printable characters is needed",
            hint="Percent-encode what is not plain.",
        )
    return clean_text(text)
