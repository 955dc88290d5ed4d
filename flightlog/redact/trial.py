"""Tries a redaction on a text: what is found where, without showing it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace

from flightlog.redact.key_files import given_key
from flightlog.redact.named import LIST
from flightlog.redact.policy import Capture, Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Explained:
    """One value that would be replaced; the value itself is not shown.

    Attributes:
        line, column: where it begins, from 1; 0 for a known value, which may stand anywhere.
        rule: what found it.
        pseudonym: what would stand there.
        size_bytes: of the value.
    """

    line: int
    column: int
    rule: str
    pseudonym: str
    size_bytes: int

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}" if self.line else "-"
        return f"{place:<8} {self.rule:<16} {self.size_bytes:>5} bytes  {self.pseudonym}"


def trial_redactor(redaction: Redaction, environ: Mapping[str, str]) -> Redactor:
    """A redactor that belongs to no store; without a key of the user's under one of its own.

    Raises:
        ConfigError: the key that is given cannot be used.
    """
    key = given_key(redaction.key_file, environ) or secrets.token_bytes(_KEY_BYTES)
    trial = replace(redaction, capture=Capture.REDACTED)
    return Redactor(trial, Pseudonyms(key), environ=environ)


def explained(redactor: Redactor, text: str) -> list[Explained]:
    """What would be replaced in a text, from its beginning.

    Raises:
        SlowError: there is too much to look at.
    """
    work = redactor.work(len(text))
    data = text.encode("utf-8", "surrogatepass")
    after, known = redactor.without_known(text, data, work)
    found: list[Explained] = []
    if known:
        found.append(Explained(0, 0, f"known value ({known} times)", "<secret:...>", 0))
        data = after.encode("utf-8", "surrogatepass")
    for find in redactor.finds(data, work):
        if find.rule == LIST:
            continue
        before = data[: find.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        made = redactor.pseudonyms.of(find.kind, find.value).decode()
        found.append(Explained(line, column, find.rule, made, find.end - find.start))
    return found
