"""The content of the kill switch file: rules as bytes, and any bytes as rules or a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from flightlog.control.kill_rule import KillMode, KillRule
from flightlog.errors import UsageError
from flightlog.trace.canonical import clean_text

FILE_VERSION: Final = 1
MAX_BYTES: Final = 1 << 20
"""Longest content that is understood."""

MAX_TEXT: Final = 1000
"""Longest text of a rule, characters: the reason goes into every refused call."""

END_OF_TIME_US: Final = 1 << 53
"""Times from here on (the year 2255) are nonsense."""

_Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class _Row(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One rule as it stands in the file."""

    mode: KillMode
    tools: _Text | None = None
    tenant: _Text | None = None
    who: _Text = "unknown"
    why: _Text = ""
    at_us: Annotated[int, Meta(ge=0, lt=END_OF_TIME_US)] | None = None


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    rules: list[_Row]


class _Versioned(msgspec.Struct):
    version: int


def encoded(rules: Sequence[KillRule]) -> bytes:
    """The content of a file with these rules.

    Raises:
        UsageError: readers would not understand it.
    """
    rows = [
        _Row(
            rule.mode,
            rule.tools,
            rule.tenant,
            clean_text(rule.who),
            clean_text(rule.why),
            rule.at_us,
        )
        for rule in rules
    ]
    try:
        content = msgspec.json.format(msgspec.json.encode(_Content(FILE_VERSION, rows))) + b"\n"
        problem = decoded(content)[1]
    except UnicodeEncodeError:  # in what has to match exactly nothing can be replaced
        problem = "a tool or a tenant is not valid Unicode"
    if problem is not None:
        raise UsageError(
            f"the kill switch does not take this: {problem}", hint="Nothing was changed."
        )
    return content


def decoded(content: bytes) -> tuple[tuple[KillRule, ...], str | None]:
    """The rules in a file, or what is wrong with it."""
    if len(content) > MAX_BYTES:
        return (), f"it is longer than {MAX_BYTES} bytes"
    if not content.strip():
        return (), "it is empty"
    try:
        version = msgspec.json.decode(content, type=_Versioned).version
        if version != FILE_VERSION:
            return (), (
                f"it has version {version}, this flightlog knows {FILE_VERSION}; "
                "upgrade flightlog in this process"
            )
        rows = msgspec.json.decode(content, type=_Content).rules
        rules = tuple(_rule(row) for row in rows)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return (), clean_text(str(error))
    except UsageError as error:
        return (), error.what
    return rules, None


def _rule(row: _Row) -> KillRule:
    rule = KillRule(row.mode, row.tools, row.tenant, row.who, row.why, row.at_us)
    rule.check()
    return rule
